"""What the trials of a run say together: importances, correlations, how the front grew, spread over seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from bitsearch.pareto import ParetoFront, hypervolume
from bitsearch.plan import BitPlan, LayerPlan
from bitsearch.renamed import current_name
from bitsearch.runs.pareto import best_plan, validation_rank, validation_score
from bitsearch.text import percent

LEAST_TRIALS = 4
"""Fewer say nothing about what depends on what."""
KINDS: dict[str, Callable[[LayerPlan], float]] = {
    "weight bits": lambda layer: layer.weight_bits,
    "spike bits": lambda layer: layer.mean_spike_bits,
    "time steps": lambda layer: layer.time_steps,
}
"""What a layer is given, as one number each."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation, over seeds, of each seed's best plan of one method under one budget."""

    method: str
    requested: str
    seeds: int
    score: tuple[float, float]
    costs: Mapping[str, tuple[float, float]]
    factor: float = 100.0
    """Of the score on an axis."""


def importances(trials: Sequence[FrozenTrial]) -> dict[str, tuple[float, float]]:
    """How much of the variance of (validation accuracy, cost) each parameter of the outer loop explains.

    fANOVA (Hutter et al. 2014) as Optuna has it, on the trials that have parameters. Empty for fewer than
    :data:`LEAST_TRIALS`, or where the outcomes do not vary, or not with the parameters.
    """
    varied = [trial for trial in trials if trial.params and trial.values is not None]
    if len(varied) < LEAST_TRIALS:
        return {}
    study = _study(varied)

    def shares(objective: int) -> dict[str, float]:
        evaluator = FanovaImportanceEvaluator(seed=0)
        return get_param_importances(study, evaluator=evaluator, target=lambda trial: trial.values[objective])

    if any(len({trial.values[objective] for trial in varied}) == 1 for objective in range(2)):
        return {}
    try:
        accuracy, cost = shares(0), shares(1)
    except RuntimeError:
        # No tree of its forest finds a parameter by which the outcomes can be told apart.
        return {}
    return {current_name(name): (share, cost[name]) for name, share in accuracy.items()}


def layer_correlations(plans: Sequence[BitPlan]) -> pd.DataFrame:
    """Spearman's rank correlation of what a layer gets with validation accuracy, over the plans.

    Returns:
        One row a layer, columns :data:`KINDS`; NaN where a layer always got the same. Uniform plans, in which all
        layers move together, are left out. No rows for fewer than :data:`LEAST_TRIALS`.
    """
    searched = [plan for plan in plans if plan.provenance.method != "uniform" and plan.measured.validation is not None]
    if len(searched) < LEAST_TRIALS:
        return pd.DataFrame(columns=list(KINDS))
    accuracy = pd.Series([validation_rank(plan) for plan in searched]).rank()
    columns = {kind: _bits_table(searched, value).rank() for kind, value in KINDS.items()}
    # A layer that never varies has no correlation; it is left out before pandas divides by zero.
    return pd.DataFrame(
        {
            kind: ranks.loc[:, ranks.nunique() > 1].corrwith(accuracy) if accuracy.nunique() > 1 else float("nan")
            for kind, ranks in columns.items()
        },
        index=list(searched[0].layers),
    )


def _bits_table(plans: Sequence[BitPlan], value: Callable[[LayerPlan], float]) -> pd.DataFrame:
    return pd.DataFrame([{name: value(layer) for name, layer in plan.layers.items()} for plan in plans])


def hypervolumes(plans: Sequence[BitPlan], metric: str) -> list[float]:
    """The share of the rectangle (cost up to the dearest plan's, accuracy from 0 to 1) that is dominated, plan by plan.

    Of other scores, from the worst plan's on, in the score's own unit.

    The volume of Zitzler & Thiele 1998 after each of the plans that have both numbers: Σ (1 - cᵢ)(aᵢ - aᵢ₋₁) over the
    front so far from the cheapest plan on, with costs as shares of the dearest and a₀ = 0.
    """
    measured = [plan for plan in plans if plan.measured.validation is not None and metric in plan.costs]
    dearest = max((plan.costs[metric] for plan in measured), default=0.0) or 1.0
    points = [(plan.costs[metric] / dearest, validation_rank(plan)) for plan in measured]
    lowest = 0.0 if all(plan.score is None for plan in measured) else min((rank for _, rank in points), default=0.0)
    front: ParetoFront[None] = ParetoFront()
    volumes: list[float] = []
    for cost, accuracy in points:
        if front.add(cost, accuracy, None) or not volumes:
            volumes.append(hypervolume(((cost, accuracy) for cost, accuracy, _ in front.points), (1.0, lowest)))
        else:
            volumes.append(volumes[-1])
    return volumes


def _study(trials: Iterable[FrozenTrial]) -> optuna.Study:
    """In memory: Optuna's analyses work on studies, and a run's own also holds trials that do not belong in them."""
    verbosity = optuna.logging.get_verbosity()
    # Optuna would tell of a new study, which is none to the user.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(directions=["maximize", "minimize"])
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials(trials)
    return study


def spreads(plans: Sequence[BitPlan], metric: str) -> list[Spread]:
    """One for every method and budget that at least two seeds were run with."""
    groups: dict[tuple[str, str], dict[int, list[BitPlan]]] = {}
    for plan in plans:
        request = ", ".join(f"{outcome.metric}={outcome.requested}" for outcome in plan.budget)
        seeds = groups.setdefault((plan.provenance.method, request), {})
        seeds.setdefault(plan.provenance.seed, []).append(plan)
    rows = []
    for (method, request), seeds in groups.items():
        best = [top for seed_plans in seeds.values() if (top := best_plan(seed_plans, metric)) is not None]
        if len(best) < 2:
            continue
        table = pd.DataFrame([{"": validation_score(plan), **plan.costs} for plan in best])
        pairs = {str(name): (float(table[name].mean()), float(table[name].std())) for name in table}
        rows.append(Spread(method, request, len(best), pairs.pop(""), pairs, percent(best[0].measured.score)))
    return rows
