"""What a finished run says of the test split, which is read once."""

from collections.abc import Iterable

from torch import nn

from bitsearch.layers import apply
from bitsearch.layers.weights import load_weights
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.pareto import best_plan
from bitsearch.train.evaluate import evaluate
from bitsearch.train.task import Task


def evaluate_test_split(folder: RunFolder, task: Task, network: nn.Module) -> None:
    """Measure test accuracy, once each, of the front, the choice, the baselines and full precision."""
    settings, test = folder.settings, task.splits.test
    batch_size = task.space.training.at_once
    if settings.full_precision.test is None:
        measured = settings.full_precision.model_copy(update={"test": evaluate(network, test, batch_size)})
        folder.write_settings(settings.model_copy(update={"full_precision": measured}))
    for plan in _reported(folder):
        if plan.accuracy.test is None:
            accuracy = evaluate(_load_trial(folder, plan, network), test, batch_size)
            measured = plan.accuracy.model_copy(update={"test": accuracy})
            folder.write_plan(plan.model_copy(update={"accuracy": measured}))


def _reported(folder: RunFolder) -> Iterable[BitPlan]:
    plans = folder.plans()
    trials = {plan.provenance.trial for plan in [*folder.front(), folder.chosen()]}
    for method in folder.settings.space.search.methods:
        best = best_plan([plan for plan in plans if plan.provenance.method == method], folder.settings.metric)
        trials |= {best.provenance.trial} if best is not None else set()
    if not folder.settings.space.search.methods:
        trials |= {plan.provenance.trial for plan in plans if plan.provenance.method == "uniform"}
    return [plan for plan in plans if plan.provenance.trial in trials]


def _load_trial(folder: RunFolder, plan: BitPlan, network: nn.Module) -> nn.Module:
    """The quantized network of a trial with its weights; ``network`` is the float one, left as it is."""
    assert plan.provenance.trial is not None
    quantized = apply(plan, network)
    load_weights(quantized, folder.weights_file(plan.provenance.trial))
    return quantized
