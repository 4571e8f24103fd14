"""Which layers can be given bits, and what each of them is in torch."""

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.neurons import is_multi_step

SHAPES = {
    nn.Conv1d: (2, 4, 5),
    nn.Conv2d: (2, 4, 5, 5),
    nn.Conv3d: (2, 4, 3, 3, 3),
    nn.ConvTranspose1d: (2, 4, 5),
    nn.ConvTranspose2d: (2, 4, 5, 5),
    nn.ConvTranspose3d: (2, 4, 3, 3, 3),
    nn.Linear: (2, 4),
}


def made(kind):
    torch.manual_seed(0)
    return kind(4, 3, 3) if "Conv" in kind.__name__ else kind(4, 3)


@pytest.mark.parametrize(("kind", "plain"), QUANTIZABLE.items())
def test_every_layer_is_one_of_torchs(kind, plain):
    assert issubclass(kind, plain)
    assert plain in SHAPES


@pytest.mark.parametrize(("kind", "plain"), QUANTIZABLE.items())
def test_every_layer_computes_what_torchs_does(kind, plain):
    x = torch.rand(SHAPES[plain])
    assert torch.equal(made(kind)(x), made(plain)(x))


def test_layers_of_both_libraries_are_there():
    assert {kind.__module__.partition(".")[0] for kind in QUANTIZABLE} == {"torch", "spikingjelly"}


@pytest.mark.parametrize("kind", [nn.LazyLinear, nn.LazyConvTranspose2d, nn.Bilinear, nn.Embedding, layer.BatchNorm2d])
def test_what_computes_something_else_is_not(kind):
    assert kind not in QUANTIZABLE


def test_a_subclass_is_not():
    class Special(nn.Linear):
        pass

    assert Special not in QUANTIZABLE


def test_what_takes_sequences():
    assert not is_multi_step(layer.Linear(4, 4))
    assert is_multi_step(layer.Linear(4, 4, step_mode="m"))
    assert is_multi_step(layer.SeqToANNContainer(nn.Linear(4, 4)))
    assert is_multi_step(layer.MultiStepContainer(nn.Linear(4, 4)))
    assert not is_multi_step(nn.Linear(4, 4))
