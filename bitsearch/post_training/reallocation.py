"""Another plan from the scores that a run has kept: for another budget, metric or target, without data or network."""

from collections.abc import Sequence
from pathlib import Path

import torch

from bitsearch.cost import AllowedBits, Target, check_first_layer, check_granularity, parse_budgets
from bitsearch.plan import Baseline, BitPlan, Provenance, Unquantized
from bitsearch.post_training.allocation import METHOD
from bitsearch.post_training.scores import ScoredLoss, read_scores
from bitsearch.post_training.solving import ScoredNetwork
from bitsearch.runs.folder import RunFolder
from bitsearch.version import __version__


def reallocate(
    run: str | Path,
    budget: str | Sequence[str],
    *,
    metric: str | None = None,
    target: str | Path | None = None,
    command: str | None = None,
) -> BitPlan:
    """The plan with the least predicted loss within other budgets, from the scores of a run of :func:`allocate`.

    Nothing is trained, calibrated or measured: the plan has no accuracy yet, and no weights. The program is solved in
    seconds, and reads the run folder alone; a metric of the user's own, which is code, is not counted.

    Args:
        run: folder that ``bitsearch allocate`` wrote.
        budget: one or several, all to be met.
        metric: of a budget that names none; the space's by default.
        target: hardware target; the run's by default.
        command: recorded as the command that made the plan.

    Raises:
        InputError: no such run, budgets that are malformed or infeasible, or bits that the run has not scored.

    >>> allocated = bitsearch.allocate(space, budgets="1x", metric="s_ace", samples=64, iterations=0, out="scored")
    >>> plan = bitsearch.reallocate("scored", "memory=1KiB")
    >>> plan.met, plan.accuracy.validation
    (True, None)
    """
    folder = RunFolder.open(run)
    scores, settings = read_scores(folder), folder.settings
    space, hardware = settings.space, settings.target if target is None else Target.load(target)
    check_granularity(space.allocation.quantizer.granularity, hardware)
    check_first_layer(space.first_layer, hardware)
    model = scores.model(hardware, first_layer_counted=space.first_layer.counted, ties=space.ties)
    rules = AllowedBits.make(model, space.choices, space.first_layer, space.layers)
    model = model.with_one_step(rules.one_step(space.allocation.quantizer.spike_granularity))
    budgets = parse_budgets(budget, metric or space.metric, model, space.baseline)
    tolerances = {}
    if settings.calibration is not None and settings.calibration.fine_tune:
        tolerances = {
            "weight_tolerance": space.allocation.weight_tolerance,
            "time_tolerance": space.allocation.time_tolerance,
        }
    scored = ScoredNetwork(model, rules, ScoredLoss(scores, **tolerances), space.allocation)
    layers = scored.best(budgets, scores.activity)
    # Firing rates are those of other bits: they count where a budget asks for them alone.
    depends = any(model.needs_activity(limit.metric) for limit in budgets)
    costs = model.costs(layers, scores.activity if depends else None)
    return BitPlan(
        space=space.name,
        network=space.network,
        target=hardware.name,
        budget=tuple(limit.outcome(costs[limit.metric]) for limit in budgets),
        baseline=Baseline(**space.baseline.model_dump(), costs=model.costs(model.uniform(space.baseline, None))),
        layers=layers,
        unquantized={
            layer.name: Unquantized(reason=layer.fixed_reason or "", weights=layer.weights, macs=layer.macs)
            for layer in model.unquantized
        },
        costs=costs,
        provenance=Provenance(
            bitsearch=__version__,
            torch=torch.__version__,
            seed=settings.seed,
            command=command or f"bitsearch.reallocate({str(run)!r}, {budget!r})",
            method=METHOD,
            split_seed=space.split_seed,
        ),
    )
