"""Loaders, networks, losses and metrics that cannot be used: one line that names them, and nothing is written."""

import copy

import pytest
import torch
from bars import SHORT, loaders, network, parts
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitsearch
from bitsearch.errors import InputError

pytestmark = pytest.mark.training


class Batches:
    """A loader whose passes are lists, one after the other; the last one is repeated."""

    def __init__(self, *passes):
        self.passes = list(passes)

    def __iter__(self):
        return iter(self.passes.pop(0) if len(self.passes) > 1 else self.passes[0])


def batches(part, size=16):
    return [[x, labels] for x, labels in zip(*(tensor.split(size) for tensor in part.tensors), strict=True)]


def below_zero(outputs, targets):
    return outputs.square().mean(1) - 100


def not_a_number(outputs, targets):
    return outputs.mean(1) * float("nan")


def infinite(outputs, targets):
    return outputs.square().mean(1) * float("inf")


def of_nothing(outputs, targets):
    return torch.ones(len(outputs))


def frozen():
    one = network()
    for parameter in one.parameters():
        parameter.requires_grad = False
    return one


TRAIN, VALIDATION, TEST = parts()
NO_SAMPLES = [TRAIN.tensors[0][:0], TRAIN.tensors[1][:0]]
OWN = {"name": "own", "direction": "up"}
SQUARE = "torch.nn.functional:mse_loss"
CASES = {
    "a loader that gives nothing": ({"train": Batches([])}, "train gives no batch; give at least one sample"),
    "an empty batch": (
        {"train": Batches([*batches(TRAIN), NO_SAMPLES])},
        "train batch 6 is empty; give batches of at least one sample",
    ),
    "labels that are floats": (
        {"train": DataLoader(TensorDataset(TRAIN.tensors[0], TRAIN.tensors[1].float()), 16)},
        "its labels are torch.float32 [16]; give the classes' numbers as an int64 tensor [N]",
    ),
    "labels that are texts": (
        {"train": Batches([(x, list("abc")) for x, _ in batches(TRAIN)])},
        "train batch 0: its labels are list; give the classes' numbers",
    ),
    "a metric that is no number": ({"task": OWN | {"loss": SQUARE, "metric": not_a_number}}, "not a number is nan on"),
    "a metric of no direction": (
        {"task": {"name": "own", "loss": SQUARE, "metric": below_zero}},
        "does not say whether a higher score is better; set task.direction to up or down",
    ),
    "a loss below zero": (
        {"task": OWN | {"loss": below_zero, "metric": below_zero}},
        "samples; it has to be a finite number, not below zero",
    ),
    "a loss that is infinite": (
        {"task": OWN | {"loss": infinite, "metric": below_zero}},
        "the loss is inf on",
    ),
    "a loss of nothing": (
        {"task": OWN | {"loss": of_nothing, "metric": below_zero}},
        "cannot be trained: the loss does not depend on what it returns (task.loss); leave out detach()",
    ),
    "a direction that is not the metric's": (
        {"task": OWN | {"loss": SQUARE, "metric": "MeanSquaredError", "direction": "up"}},
        "task.direction is up, but a lower 'MeanSquaredError' is better; leave it out",
    ),
    "a loss that is no number": (
        {"task": OWN | {"loss": not_a_number, "metric": below_zero}},
        "the loss is nan on",
    ),
    "a network of frozen parameters": ({"network": frozen()}, "has nothing to train: all of its 6 parameters have"),
    "a network of doubles": ({"network": network().double()}, "is float64, inputs are float32; convert the network by"),
    "a network without values": ({"network": network().to("meta")}, "cannot be copied"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_used_is_named_in_one_line(case, tmp_path):
    changes, said = CASES[case]
    data = dict(zip(("train", "validation", "test"), loaders(), strict=True))
    data |= {name: part for name, part in changes.items() if name in data}
    if changes.get("task"):
        numbers = (TensorDataset(x, torch.zeros(len(x), 3)) for x in (part.tensors[0] for part in parts()))
        data = tuple(DataLoader(part, 16) for part in numbers)
    one = copy.deepcopy(changes.get("network", network()))
    with pytest.raises(InputError) as caught:
        bitsearch.search(one, data, "4x", task=changes.get("task"), out=tmp_path / "run", device="cpu", **SHORT)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "plan.json").exists()


def test_a_loader_that_ends_early_is_told_and_the_run_goes_on_once_it_is_whole(tmp_path):
    whole, data = batches(TRAIN), loaders()[1:]
    early = Batches(whole, whole, whole, whole[:3])
    with pytest.raises(InputError, match="train gave 48 samples in one pass and has 96; give a loader whose passes"):
        bitsearch.search(network(), (early, *data), "4x", out=tmp_path / "run", device="cpu", **SHORT)
    result = bitsearch.search(network(), (Batches(whole), *data), "4x", out=tmp_path / "run", device="cpu", **SHORT)
    assert result.best.met


def test_a_last_batch_of_one_sample_is_trained_on_behind_batch_norm(tmp_path):
    torch.manual_seed(0)
    one = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)
    )
    few = TensorDataset(*(tensor[:33] for tensor in TRAIN.tensors))
    data = DataLoader(few, 16), *loaders()[1:]
    result = bitsearch.search(one, data, "2x", out=tmp_path / "run", device="cpu", **SHORT)
    assert result.best.met
    assert all(tensor.isfinite().all() for tensor in result.network().state_dict().values())


def test_frozen_parameters_stay_what_they_are(tmp_path):
    one = network()
    one[3].weight.requires_grad = False
    before = one[3].weight.clone()
    result = bitsearch.search(one, loaders(), "4x", out=tmp_path / "run", device="cpu", **SHORT)
    weights = [module.weight for name, module in result.network().named_modules() if name.endswith("3")]
    assert any(torch.equal(weight, before) for weight in weights)
