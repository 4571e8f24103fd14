"""A small network on a few digits: fixtures of what allocates and of what trains."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.data import Splits, load_data
from bitsearch.space import SearchSpace
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


def tiny_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def part(samples, count):
    return TensorDataset(*(tensor[:count] for tensor in samples.tensors))


@pytest.fixture(scope="session")
def splits():
    """A few hundred of the digits."""
    whole = load_data("digits", {}, split_seed=0)
    return Splits(
        part(whole.train, 256), part(whole.validation, 100), part(whole.test, 100), whole.input_shape, whole.classes
    )


@pytest.fixture(scope="session")
def trained(splits):
    """The tiny network after a few epochs in full precision; copy before changing it."""
    network = tiny_network()
    session = TrainingSession(splits, Training(batch_size=32, learning_rate=1e-2))
    train(network, session, epochs=6, seed=0, phase="full precision")
    return network


@pytest.fixture
def network(trained):
    """A copy of the trained network."""
    return copy.deepcopy(trained)


@pytest.fixture
def fresh_network():
    """The tiny network, untrained, by seed."""
    return tiny_network


@pytest.fixture(scope="session")
def model(splits):
    """Costs of the tiny network."""
    return CostModel(trace(tiny_network(), splits.train.tensors[0][:32]))


@pytest.fixture(scope="session")
def rules(model, space):
    """What each layer of the tiny network may get on the generic target."""
    return AllowedBits.make(model, space.choices, space.first_layer)


@pytest.fixture(scope="session")
def space():
    """Four epochs a trial."""
    return SearchSpace(name="tiny", network="none", data="digits", training=Training(epochs=4, batch_size=32))


@pytest.fixture(scope="session")
def batch(splits):
    """(images, labels) of the first training samples."""
    images, labels = splits.train.tensors
    return images[:128], labels[:128]
