"""A plan from kept scores, calibrated and measured as its run would have: with the run's own weights and data."""

from collections.abc import Sequence
from pathlib import Path

from bitsearch.calibrate import calibration_splits
from bitsearch.cost import Target, parse_budgets
from bitsearch.errors import InputError
from bitsearch.layers.weights import save_weights
from bitsearch.plan import BitPlan
from bitsearch.post_training.allocation import METHOD, PlannedAllocation
from bitsearch.post_training.scores import read_scores
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Stop
from bitsearch.runs.paired import score_of
from bitsearch.runs.progress import Progress
from bitsearch.runs.rebuild import require_trust
from bitsearch.runs.record_trial import trial_plan
from bitsearch.study.opening import make_processes
from bitsearch.study.phases import load_pretrained
from bitsearch.study.runtime import runtime_context
from bitsearch.train.task import load_task


def calibrated_plan(
    folder: RunFolder,
    requests: Sequence[str],
    *,
    metric: str | None,
    target: Target,
    weights: Path,
    trust: bool,
    device: str,
    command: str,
) -> BitPlan:
    """The calibrated plan within other budgets, and its weights.

    Args:
        folder: that ``bitsearch allocate`` wrote; nothing in it changes.
        requests: budgets, all to be met.
        metric: of a budget that names none; the space's by default.
        target: hardware target.
        weights: file that the calibrated weights are written to, last.
        trust: run code of the user's own that the run's search space names.
        device: that it is calibrated on.
        command: recorded as the command that made the plan.

    Raises:
        InputError: the run's data or weights are not there, or name code that is not trusted; or no plan meets the
            budgets.
    """
    scores, settings = read_scores(folder), folder.settings
    if settings.calibration is None:
        raise InputError(f"{folder.path} has calibrated no plans; give a run that `bitsearch allocate` wrote")
    if not trust:
        require_trust(settings.space, str(folder.path))
    # The run's own weights follow; those that it began with may have moved.
    space = settings.space.model_copy(update={"weights": None})
    task = load_task(space, seed=settings.seed, device=device, target=target)
    processes = make_processes(task, settings, Stop())
    load_pretrained(processes, folder.full_precision_weights, settings.signed_input)
    budgets = parse_budgets(requests, metric or space.metric, task.model, space.baseline)
    splits = calibration_splits(task.splits, settings.calibration.samples, settings.seed)
    with runtime_context(task, compiled=False):
        planned = PlannedAllocation(folder, processes, splits, Progress()).planned
        made = planned.best(budgets, scores.activity)
    assert made is not None, "a plan that is not uniform is there, or an InputError says why not"
    score = score_of(made.row.numpy())
    plan = trial_plan(folder, task, budgets, made.network, score, made.activity, trial=None, method=METHOD)
    save_weights(made.network.network, weights)
    return plan.model_copy(update={"provenance": plan.provenance.model_copy(update={"command": command})})
