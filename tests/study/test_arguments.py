"""Arguments of a Python program: each that is of another kind is one line, before anything is written."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset, random_split
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassF1Score, MulticlassROC

import bitsearch
from bitsearch.errors import InputError
from bitsearch.space import SearchSpace
from bitsearch.study import arguments
from bitsearch.study.objects import objects_of
from bitsearch.task_settings import TaskSettings
from bitsearch.validation import whole


def score(outputs, targets):
    return (outputs.argmax(1) == targets).float()


def every_class(outputs, targets):
    return torch.stack([(targets == label).double().mean() for label in range(3)])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def samples(count=24):
    return TensorDataset(torch.rand(count, 6, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 3)


class SeveralLines:
    def __repr__(self):
        return "one\n    two"


WRONG = {
    "a bare number": ({"budget": 8}, "budget '8' can be read in two ways; write 8x for the baseline's cost divided by"),
    "numbers in a sweep": ({"budget": None, "sweep": [4, 8]}, "budget '4' can be read in two ways"),
    "a budget by its metric": ({"budget": {"memory": 64}}, "budget is {'memory': 64}; give a text such as '4x'"),
    "a budget of yes": ({"budget": True}, "budget is True; give a text such as '4x'"),
    "no budget": ({"budget": ""}, "a network comes with its data and a budget"),
    "no budgets": ({"budget": []}, "a network comes with its data and a budget"),
    "half a trial": ({"trials": 2.5}, "trials is 2.5; give a whole number from 1"),
    "trials in a text": ({"trials": "2"}, "trials is '2'; give a whole number from 1"),
    "no trials": ({"trials": 0}, "trials is 0; give a whole number from 1"),
    "a seed that is none": ({"seed": None}, "seed is None; give a whole number from 0 to 2^64 - 1"),
    "a seed below zero": ({"seed": -1}, "seed is -1; give a whole number from 0 to 2^64 - 1"),
    "confirmed by a text": ({"confirm": "x"}, "confirm is 'x'; give a whole number from 1"),
    "a text of seconds": ({"timeout": "x"}, "timeout is 'x'; give seconds, a number from 0"),
    "seconds below zero": ({"timeout": -1}, "timeout is -1; give seconds, a number from 0"),
    "a numbered device": ({"device": 0}, "device is 0; give 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'"),
    "a numbered folder": ({"out": 3}, "out is 3; give the path of a folder"),
    "a score as a cost": ({"metric": score}, "give a cost by its name, such as 'energy'; scores are task={...}'s"),
    "a score as the axis": ({"objective": score}, "objective is <function score"),
    "a list of settings": ({"training": ["epochs"]}, "training is ['epochs']; give a dict of its fields"),
    "a value of several lines": ({"training": {"optimizer": SeveralLines()}}, "optimizer is one two: Input should be"),
    "an optimizer that is made": (
        {"optimizer": torch.optim.SGD(network().parameters())},
        "optimizer is SGD of parameters that it was made with, and every trial has its own; give the class",
    ),
    "progress that cannot be told": ({"progress": True}, "progress is True; give an object that is told"),
    "a task by number": ({"task": 3}, "task is 3; give its name, such as 'regression', or a dict of its fields"),
    "a loss twice": ({"task": {"loss": "tet"}, "loss": "cross_entropy"}, "loss was given twice, by itself and in task"),
    "a metric that is made": (
        {"task": {"metric": MulticlassF1Score(3)}},
        "task.metric is MulticlassF1Score(), which is made already, and each measurement has its own; give its class",
    ),
    "a metric of several numbers": (
        {"task": {"metric": "MulticlassF1Score", "metric_options": {"average": "none"}}},
        "task.metric 'multiclass f1 score' gives float64 [3]; give one that gives one number",
    ),
    "a metric of a matrix": (
        {"task": {"metric": MulticlassConfusionMatrix, "direction": "up"}},
        "task.metric 'multiclass confusion matrix' gives float64 [3, 3]; give one",
    ),
    "a metric of several parts": ({"task": {"metric": MulticlassROC, "direction": "up"}}, "gives tuple with 0: "),
    "a score of every class": ({"task": {"metric": every_class, "direction": "up"}}, "returned a tensor [3] for 4"),
    "a loss of another task": ({"loss": nn.MSELoss()}, "no loss 'mse' in task 'classification'"),
    "a loss that sums": ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "loss CrossEntropyLoss has reduction=sum"),
    "a loss without settings": ({"loss": nn.NLLLoss()}, "loss NLLLoss is a module, which no settings stand for"),
    "a class of networks": ({"source": nn.Linear}, "network is the class Linear; give one that is made: Linear(...)"),
    "weights alone": ({"source": network().state_dict()}, "network is OrderedDict; give the torch module that has"),
    "a network by name": ({"source": "mynets:Net"}, "network is 'mynets:Net'; give the torch module itself"),
    "data for a budget": ({"budget": (samples(), samples())}, "budget is <torch.utils.data.dataset.TensorDataset"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_of_another_kind_is_one_line_and_nothing_is_written(case, tmp_path):
    changes, said = WRONG[case]
    given = {"budget": "4x", "out": tmp_path / "run", "source": network()} | changes
    with pytest.raises(InputError) as caught:
        bitsearch.search(given.pop("source"), (samples(), samples()), **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_study_says_the_same(tmp_path):
    for changes, said in (({"budget": 8}, "can be read in two ways"), ({"steps": "x"}, "steps is 'x'; give a whole")):
        with pytest.raises(InputError, match=said):
            bitsearch.Study(network(), (samples(), samples()), **({"budget": "4x"} | changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


SENSITIVITY = {
    "half a sample": ({"samples": 2.5}, "samples is 2.5; give a whole number from 1"),
    "samples in a text": ({"samples": "8"}, "samples is '8'; give a whole number from 1"),
    "no seed": ({"seed": None}, "seed is None; give a whole number from 0 to 2^64 - 1"),
    "a numbered device": ({"device": 0}, "device is 0; give 'auto', 'cpu'"),
    "a task by number": ({"task": 3}, "task is 3; give its name"),
    "a class": ({"source": nn.Linear}, "network is the class Linear; give one that is made"),
    "nothing": ({"source": None}, "source is None; give a trained network, a run folder or a search space"),
}


@pytest.mark.parametrize("case", SENSITIVITY)
def test_sensitivity_says_the_same(case):
    changes, said = SENSITIVITY[case]
    given = {"source": network()} | changes
    with pytest.raises(InputError, match=re.escape(said)):
        bitsearch.sensitivity(given.pop("source"), (samples(), samples()), **given)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": 0}, "samples is 0; give a whole number from 1"),
        ({"samples": "x"}, "samples is 'x'; give a whole number from 1"),
        ({"iterations": -1}, "iterations is -1; give a whole number from 0"),
        ({"fine_tune": 0.5}, "fine_tune is 0.5; give a whole number from 0"),
    ],
)
def test_allocate_says_the_same(changes, said, tmp_path):
    with pytest.raises(InputError, match=re.escape(said)):
        bitsearch.allocate(network(), (samples(), samples()), "4x", out=tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_network_of_ones_own_loop_says_the_same():
    learnable = bitsearch.quantize(network(), samples().tensors[0])
    for steps in (0, "x", None):
        with pytest.raises(InputError, match=f"steps is {steps!r}; give a whole number from 1"):
            learnable.penalty("4x", steps=steps)
    for call in (learnable.budget, learnable.project, learnable.plan, lambda one: learnable.penalty(one, steps=4)):
        for budget in (4, None, ["4x"]):
            with pytest.raises(InputError, match=re.escape(f"budget is {budget!r}; give a text such as '4x'")):
                call(budget)
    for other in (nn.Linear, network().state_dict(), None):
        with pytest.raises(InputError, match="; give a torch module that is made"):
            bitsearch.quantize(other, samples().tensors[0])
        with pytest.raises(InputError, match="; give a torch module that is made"):
            bitsearch.apply(learnable.plan(), other)
    with pytest.raises(InputError, match=r"plan is 'plan\.json'; give a BitPlan, as BitPlan\.load reads it"):
        bitsearch.apply("plan.json", network())


def test_numbers_and_devices_of_other_classes_are_taken():
    assert whole(torch.tensor(3), "trials", 1) == 3
    assert arguments.device_name(torch.device("cuda", 1)) == "cuda:1"
    assert arguments.seconds(2) == 2.0
    assert arguments.texts(("8x", "", "memory=2KiB"), "budget") == ["8x", "memory=2KiB"]
    assert arguments.rules("a:weight_bits=8") == ["a:weight_bits=8"]
    assert arguments.rules({"match": "a", "weight_bits": 8}) == [{"match": "a", "weight_bits": 8}]


def test_a_loss_takes_the_place_of_the_tasks_own():
    own = TaskSettings(name="regression", loss="l1", unit="s")
    assert arguments.task_settings(None, None, own) is None
    assert arguments.task_settings(None, "huber", own) == {"name": "regression", "loss": "huber", "unit": "s"}
    assert arguments.task_settings("regression", nn.L1Loss(), TaskSettings()) == {"name": "regression", "loss": "l1"}
    assert arguments.task_settings({"loss": nn.CrossEntropyLoss(label_smoothing=0.1), "top_k": 2}, None, own) == {
        "loss": "cross_entropy",
        "label_smoothing": 0.1,
        "top_k": 2,
    }


def test_a_loss_of_torchs_brings_its_own_defaults_and_not_the_spaces():
    own = TaskSettings(label_smoothing=0.2, top_k=2)
    assert arguments.task_settings(None, nn.CrossEntropyLoss(), own) == {"loss": "cross_entropy", "top_k": 2}
    assert arguments.task_settings({"label_smoothing": 0.2}, nn.CrossEntropyLoss(label_smoothing=0.2), own) == {
        "loss": "cross_entropy",
        "label_smoothing": 0.2,
    }
    with pytest.raises(InputError, match=r"label_smoothing was given twice, 0.2 in task and 0.0 by the loss"):
        arguments.task_settings({"label_smoothing": 0.2}, nn.CrossEntropyLoss(), own)


def test_the_command_of_a_run_has_what_it_was_told(tmp_path):
    made = bitsearch.search(
        network(),
        (samples(), samples()),
        "2x",
        epochs=1,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        trials=1,
        out=tmp_path / "run",
        space=SearchSpace.load("digits").override(["search.uniform_trials=1", "search.front_share=0"]),
    )
    command = made.folder.settings.command
    assert "training={'epochs': 1}, task={'loss': 'cross_entropy', 'label_smoothing': 0.1}, trials=1" in command
    assert made.folder.settings.space.task.label_smoothing == 0.1


def loader(part, **options):
    return DataLoader(part, 8, **options)


@pytest.mark.parametrize(
    ("make", "shared"),
    [
        (lambda all_of: (loader(all_of, shuffle=True), loader(all_of)), 24),
        (lambda all_of: (Subset(all_of, range(16)), Subset(all_of, range(12, 24))), 4),
        (lambda all_of: (loader(Subset(all_of, range(16))), loader(Subset(all_of, range(12, 24)))), 4),
        (lambda all_of: (Subset(Subset(all_of, range(8, 24)), range(8)), Subset(all_of, range(10))), 2),
        (lambda all_of: (loader(all_of, sampler=SubsetRandomSampler(range(9))), loader(all_of)), 9),
    ],
)
def test_parts_that_share_samples_are_refused(make, shared):
    with pytest.raises(InputError, match=f"train and validation share {shared} of the 24 samples of one TensorDataset"):
        objects_of(network(), make(samples()))


def test_parts_of_one_data_set_that_share_no_sample_are_taken():
    all_of = samples()
    apart = random_split(all_of, (16, 8))
    assert objects_of(network(), apart).splits.sizes == {"train": 16, "validation": 8}
    halves = [SubsetRandomSampler(range(start, start + 12)) for start in (0, 12)]
    sizes = objects_of(network(), [loader(all_of, sampler=half) for half in halves]).splits.sizes
    assert sizes == {"train": 12, "validation": 12}
    twice = copy.copy(all_of)
    assert objects_of(network(), (all_of, twice)).splits.sizes == {"train": 24, "validation": 24}
