"""What a finished run says of the test split, which is read once."""

from collections.abc import Iterable

from torch import nn

from bitsearch.layers import apply
from bitsearch.layers.weights import load_weights
from bitsearch.plan import BitPlan
from bitsearch.runs.confirmed import seeds_by_trial
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.paired import score_of
from bitsearch.runs.pareto import best_plan
from bitsearch.runs.rows import read_rows, record_rows
from bitsearch.runs.sweep import sweep_plans
from bitsearch.runs.verdict import Verdict, judge
from bitsearch.train.evaluate import score_row
from bitsearch.train.task import Task


def evaluate_test_split(folder: RunFolder, task: Task, network: nn.Module) -> None:
    """Measure the test score, once each, of the front, the choice, its rival, the baselines and full precision.

    What each of them gets right is kept in the run folder, for the verdict. Without a test split, nothing is.
    """
    settings, test = folder.settings, task.splits.test
    if test is None:
        return
    batch_size = task.space.training.at_once
    table = read_rows(folder.test_file)

    def measure(measured: nn.Module, row: str) -> float:
        table[row] = score_row(measured, test, batch_size, task.learning_task).numpy()
        record_rows(folder.test_file, table)
        return score_of(table[row])

    if settings.full_precision.test is None:
        score = measure(network, folder.full_precision_weights.stem)
        measured = settings.full_precision.model_copy(update={"test": score})
        folder.write_settings(settings.model_copy(update={"full_precision": measured}))
    for plan in _reported(folder):
        if plan.measured.test is None:
            assert plan.provenance.trial is not None
            row = folder.weights_file(plan.provenance.trial).stem
            score = measure(load_trial(folder, plan, network), row)
            measured = plan.measured.model_copy(update={"test": score})
            folder.write_plan(plan.with_measured(measured))


def verdict_of(folder: RunFolder) -> Verdict:
    """Whether the chosen plan of a run is better than the best of the other kind.

    Raises:
        InputError: no trial meets the budget yet, or a file of the run cannot be read.
    """
    plans, table = folder.plans(), read_rows(folder.test_file)
    trials = [plan.provenance.trial for plan in plans if plan.provenance.trial is not None]
    names = {trial: folder.weights_file(trial).stem for trial in trials}
    rows = {trial: table[row] for trial, row in names.items() if row in table}
    by_method = bool(folder.settings.space.search.methods)
    confirmed = seeds_by_trial(folder.confirmed_test_file)
    return judge(plans, folder.chosen(), folder.settings.metric, rows, by_method=by_method, confirmed=confirmed)


def _reported(folder: RunFolder) -> Iterable[BitPlan]:
    plans, chosen = folder.plans(), folder.chosen()
    by_method = bool(folder.settings.space.search.methods)
    rival = judge(plans, chosen, folder.settings.metric, by_method=by_method).rival
    trials = {plan.provenance.trial for plan in [*folder.front(), chosen, *([] if rival is None else [rival])]}
    for method in folder.settings.space.search.methods:
        best = best_plan([plan for plan in plans if plan.provenance.method == method], folder.settings.metric)
        trials |= {best.provenance.trial} if best is not None else set()
    trials |= {plan.provenance.trial for _, plan in sweep_plans(folder) if plan is not None}
    if not folder.settings.space.search.methods:
        trials |= {plan.provenance.trial for plan in plans if plan.provenance.method == "uniform"}
    return [plan for plan in plans if plan.provenance.trial in trials]


def load_trial(folder: RunFolder, plan: BitPlan, network: nn.Module) -> nn.Module:
    """The quantized network of a trial with its weights; ``network`` is the float one, left as it is."""
    assert plan.provenance.trial is not None
    quantized = apply(plan, network)
    load_weights(quantized, folder.weights_file(plan.provenance.trial))
    return quantized
