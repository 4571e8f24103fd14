"""Data that are read one by one: their sign is known once full precision has been trained on them."""

import sys

import pytest
import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset, TensorDataset

import bitsearch
from bitsearch.runs.interruption import Stop
from bitsearch.study.jobs import LoadWeights, TrainFullPrecision
from bitsearch.study.processes import ProcessGroup
from bitsearch.train.input_signs import InputSigns
from bitsearch.train.task import load_task


class Lazy(Dataset):
    """Digits without their mean taken off, of which one late sample is below zero."""

    def __init__(self, samples, late):
        self.inputs, self.labels = samples[:][0].abs()[:200], samples[:][1][:200]
        if late:
            self.inputs[150] *= -1

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.labels[index]


def lazy(*, late):
    splits = bitsearch.load_data("digits", {}, split_seed=0)
    return tuple(Lazy(splits.split(part), late) for part in ("train", "validation", "test"))


def in_memory(*, late):
    return tuple(TensorDataset(part.inputs, part.labels) for part in lazy(late=late))


@pytest.fixture
def task(tiny_space, monkeypatch):
    monkeypatch.setitem(sys.modules, "signed_data", sys.modules[__name__])

    def make(factory, *, late, epochs=1, **changes):
        training = tiny_space.training.model_copy(update={"full_precision_epochs": epochs})
        data = {"data": f"signed_data:{factory}", "data_options": {"late": late}, "training": training}
        return load_task(tiny_space.model_copy(update=data | changes), device="cpu")

    return make


def signs(task):
    return {layer.name: layer.signed_input for layer in task.model.layers}


@pytest.mark.parametrize("late", [True, False])
def test_in_memory_all_training_samples_tell(task, late):
    made = task("in_memory", late=late)
    assert made.signed_input is late
    assert signs(made)["conv1"] is late
    assert not any(signed for name, signed in signs(made).items() if name != "conv1")


@pytest.mark.parametrize("declared", [True, False])
def test_what_the_space_declares_wins(task, declared):
    for factory in ("in_memory", "lazy"):
        made = task(factory, late=not declared, signed_input=declared)
        assert (made.signed_input, signs(made)["conv1"]) == (declared, declared)


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("epochs", [0, 1])
def test_read_one_by_one_they_tell_once_all_were_read(task, late, epochs):
    made = task("lazy", late=late, epochs=epochs)
    assert made.signed_input is None
    assert not signs(made)["conv1"]
    processes = ProcessGroup(made, [], 0, Fabric(accelerator="cpu"), Stop())
    assert processes.do(TrainFullPrecision()).signed_input is late
    assert signs(made)["conv1"] is late
    # Another process, or a run that goes on, takes it with the weights.
    again = task("lazy", late=late)
    weights = processes.network.state_dict()
    ProcessGroup(again, [], 0, Fabric(accelerator="cpu"), Stop()).do(LoadWeights(weights, late))
    assert signs(again) == signs(made)


def test_a_training_that_goes_on_remembers():
    first, second = InputSigns(), InputSigns()
    first.before_batch(torch.tensor([[1.0, -2.0]]), torch.ones(1, 2))
    second.load_state_dict(first.state_dict())
    second.before_batch(torch.ones(1, 2))
    assert second.signed()
    third = InputSigns()
    third.before_batch(torch.zeros(1, 2))
    assert not third.signed()
