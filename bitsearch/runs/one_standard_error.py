"""The cheapest plan that the validation split cannot tell from the chosen one: within one standard error of it.

Breiman et al. 1984, Classification and Regression Trees, section 3.4.3: of many models that were tried, the best is so
by chance as well; the simplest within one standard error is as good a guess, and costs less. The error is that of the
paired difference, as both plans see the same samples.
"""

from torch import nn

from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.paired import score_of, standard_error
from bitsearch.runs.rows import read_rows, record_rows
from bitsearch.runs.test_split import load_trial
from bitsearch.train.evaluate import score_row
from bitsearch.train.task import Task


def record_validation(folder: RunFolder, task: Task, network: nn.Module) -> None:
    """Keep what the chosen plan and the front's cheaper ones get right of validation; each is measured once.

    Args:
        folder: of a run whose trials have ended.
        task: of the run.
        network: the float one.
    """
    table = read_rows(folder.validation_file)
    samples, at_once = task.splits.validation, task.space.training.at_once
    row = folder.full_precision_weights.stem
    if folder.settings.goal is not None and row not in table:
        # What the chosen plan is compared with.
        table[row] = score_row(network, samples, at_once, task.learning_task).numpy()
        record_rows(folder.validation_file, table)
    for plan in _candidates(folder):
        row = _row(folder, plan)
        if row not in table:
            measured = load_trial(folder, plan, network)
            table[row] = score_row(measured, samples, at_once, task.learning_task).numpy()
            record_rows(folder.validation_file, table)


def cheapest_within_one_standard_error(folder: RunFolder) -> BitPlan | None:
    """The cheapest plan on the front whose score is at most one standard error worse than the chosen plan's.

    It is the chosen plan itself where no cheaper one comes that close; None where it is not recorded what the plans got
    right.
    """
    table, candidates = read_rows(folder.validation_file), _candidates(folder)
    rows = [_row(folder, plan) for plan in candidates]
    if any(row not in table for row in rows):
        return None
    best, score = table[rows[-1]], candidates[-1].measured.score
    for plan, row in zip(candidates, rows, strict=True):
        if score.rank(score_of(best)) - score.rank(score_of(table[row])) <= standard_error(best, table[row]):
            return plan
    raise AssertionError("the chosen plan is no error away from itself")


def require_within_one_standard_error(folder: RunFolder) -> BitPlan:
    """As :func:`cheapest_within_one_standard_error`; InputError where it is not known."""
    plan = cheapest_within_one_standard_error(folder)
    if plan is None:
        raise InputError(
            f"{folder.path} does not record which validation samples its plans got right: it has not ended, or is of "
            "an earlier version; give the `bitsearch run` command that made it again, with --out of this folder"
        )
    return plan


def _candidates(folder: RunFolder) -> list[BitPlan]:
    """The plans of the front within the budgets that are cheaper than the chosen one, cheapest first; it comes last."""
    chosen, metric = folder.chosen(), folder.settings.metric
    cheaper = [plan for plan in folder.front() if plan.met and plan.costs[metric] < chosen.costs[metric]]
    return [*cheaper, chosen]


def _row(folder: RunFolder, plan: BitPlan) -> str:
    assert plan.provenance.trial is not None
    return folder.weights_file(plan.provenance.trial).stem
