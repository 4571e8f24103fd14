"""Another plan from the scores that a run has kept: for another budget, metric or target, calibrated or not."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

from bitsearch.cost import AllowedBits, Target, check_first_layer, check_granularity, parse_budgets, warn_of_own_steps
from bitsearch.cost.budget import split_request
from bitsearch.cost.declared import check_declared_metric
from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.post_training.allocation import METHOD
from bitsearch.post_training.recalibration import calibrated_plan
from bitsearch.post_training.scores import ScoredLoss, read_scores
from bitsearch.post_training.solving import ScoredNetwork
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.plan_record import plan_record
from bitsearch.space import SearchSpace


def reallocate(
    run: str | Path,
    budget: str | Sequence[str],
    *,
    metric: str | None = None,
    target: str | Path | None = None,
    weights: str | Path | None = None,
    trust: bool = False,
    device: str = "auto",
    command: str | None = None,
) -> BitPlan:
    """The plan with the least predicted loss within other budgets, from the scores of a run of :func:`allocate`.

    The program is solved in seconds, and reads the run folder alone: the plan has no accuracy then, and no weights.
    With ``weights``, it is calibrated and measured on the run's own data, as the run would have.

    Args:
        run: folder that ``bitsearch allocate`` wrote.
        budget: one or several, all to be met.
        metric: of a budget that names none; the space's by default.
        target: hardware target; the run's by default.
        weights: file to write the calibrated weights to; without, nothing is calibrated, and no data are read.
        trust: import code of the user's own that the run's search space names; without, metrics of their own are not
            counted, which a warning says, and a plan of their own network is not calibrated.
        device: that the plan is calibrated on.
        command: recorded as the command that made the plan.

    Raises:
        InputError: no such run, budgets that are malformed or infeasible, bits that the run has not scored, a budget
            on a metric that is not trusted; or, with ``weights``, data that cannot be had.

    >>> allocated = bitsearch.allocate(space, budgets="1x", metric="s_ace", samples=64, iterations=0, out="scored")
    >>> plan = bitsearch.reallocate("scored", "memory=1KiB")
    >>> plan.met, plan.accuracy.validation
    (True, None)
    >>> calibrated = bitsearch.reallocate("scored", "memory=1KiB", weights="scored.safetensors")
    >>> calibrated.layers == plan.layers, calibrated.accuracy.validation is None
    (True, False)
    """
    folder = RunFolder.open(run)
    scores, settings = read_scores(folder), folder.settings
    space, hardware = settings.space, settings.target if target is None else Target.load(target)
    check_granularity(space.allocation.quantizer.granularity, hardware)
    warn_of_own_steps(space.allocation.quantizer.spike_granularity, hardware)
    check_first_layer(space.first_layer, hardware)
    requests = [budget] if isinstance(budget, str) else list(budget)
    command = command or f"bitsearch.reallocate({str(run)!r}, {budget!r})"
    if weights is not None:
        return calibrated_plan(
            folder,
            requests,
            metric=metric,
            target=hardware,
            weights=Path(weights),
            trust=trust,
            device=device,
            command=command,
        )
    limited = [split_request(request, metric or space.metric, hardware)[0] for request in requests]
    declared = _trusted(space, limited, trust=trust)
    model = scores.model(hardware, first_layer_counted=space.first_layer.counted, ties=space.ties, declared=declared)
    rules = AllowedBits.make(model, space.choices, space.first_layer, space.layers)
    model = rules.stepped(model, space.allocation.quantizer.spike_granularity or hardware.spike_granularity)
    for name in declared:
        check_declared_metric(name, model, rules)
    budgets = parse_budgets(requests, metric or space.metric, model, space.baseline)
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
    return plan_record(
        space,
        model,
        layers,
        costs,
        [limit.outcome(costs[limit.metric]) for limit in budgets],
        baseline_costs=model.costs(model.uniform(space.baseline, None)),
        seed=settings.seed,
        command=command,
        method=METHOD,
    )


def _trusted(space: SearchSpace, limited: Collection[str], *, trust: bool) -> tuple[str, ...]:
    """The metrics of a space's own that are counted; InputError if one is limited that is not."""
    declared = tuple(space.metrics or ())
    if trust or not declared:
        return declared
    for name, metric in (space.metrics or {}).items():
        if name in limited:
            raise InputError(
                f"metrics.{name} of the run is code that is not bitsearch's, {metric.function!r}; if you trust it, add "
                "--trust"
            )
    warnings.warn(
        f"allocate: {', '.join(declared)} of the run's search space not counted, since that runs code; add --trust",
        stacklevel=3,
    )
    return ()
