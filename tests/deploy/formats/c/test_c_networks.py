"""The C of a network computes what the integer replay does, bit for bit, under every sanitizer.

    BITSEARCH_EXAMPLES=1000 HYPOTHESIS_PROFILE=explore pytest -n 0 tests/deploy/formats/c/test_c_networks.py

tries more than the suite does, and others each time.
"""

import os
import shutil

import pytest
import torch
from c_compiler import needs_compiler
from c_networks import check_c
from calibration import calibrate
from generated_networks import MEMBRANES, Generated, designs, inputs, measured, plans, trained
from hypothesis import assume, given
from hypothesis import strategies as st
from image_files import write_cifar10
from profiles import examples
from random_programs import packed_programs, program_inputs
from torch import nn

from bitsearch import pack, read
from bitsearch.choices import NeuronChoice
from bitsearch.data import load_data
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.layers import convert
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan

pytestmark = [
    needs_compiler,
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore:kept at 32 bits"),
    pytest.mark.filterwarnings("ignore:never called"),
    pytest.mark.filterwarnings("ignore:nothing above zero has come"),
]
EXAMPLES = int(os.environ.get("BITSEARCH_EXAMPLES", "0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("c")


def packed_of(network, x, folder):
    pack(network, x, folder / "packed")
    return read(folder / "packed")


@examples(EXAMPLES or 12)
@given(st.data(), designs())
def test_any_network_is_computed_exactly(folder, data, design):
    network = Generated(design).eval()
    x = inputs(design, 24)
    network = trained(network, data.draw(plans(measured(network), membranes=MEMBRANES)), x)
    check_c(packed_of(network, x, folder), inputs(design, 6))


@examples(EXAMPLES or 25)
@given(packed_programs())
def test_any_program_is_computed_exactly(packed):
    assume(packed is not None)
    check_c(packed, program_inputs(packed, 6))


def in_bits(network, x, **bits):
    names = [name for name, module in network.named_modules() if type(module) in QUANTIZABLE]
    setting = {"weight_bits": 3, "spike_bits": (3, 2), "time_steps": 2, "decay": 0.7} | bits
    plan = {name: LayerPlan(signed_input=index == 0, **setting) for index, name in enumerate(names)}
    return calibrate(convert(network, plan), x)


@pytest.mark.skipif(shutil.which("clang") is None, reason="no clang")
def test_clang_has_nothing_to_complain_of_either(quantized_digits, examples, folder, monkeypatch):
    monkeypatch.setenv("CC", "clang")
    check_c(packed_of(quantized_digits, examples, folder), examples, ("-O1",))


@pytest.fixture
def quantized_digits(quantized):
    return quantized(weight_bits=3, spike_bits=2, time_steps=2)[0]


@pytest.mark.filterwarnings("ignore:cifar10: ")
def test_a_residual_network_computes_images_of_cifar10_exactly(folder):
    write_cifar10(folder / "cifar10", each=1, test_each=1)
    images = load_data("cifar10", {"root": str(folder / "cifar10"), "augment": False}, split_seed=0).test
    x = torch.stack([image for image, _ in images])[:3]
    torch.manual_seed(0)
    network = make_network("resnet20", {"width": 4}, input_shape=(3, 32, 32), classes=10)
    network = in_bits(network, x, weight_bits=8, spike_bits=(8, 6))
    outputs = check_c(packed_of(network, x, folder), x)
    assert len(outputs.unique(dim=0)) == len(x)


class Heads(nn.Module):
    """What it sees and where, side by side: one layer's neurons for both, and one head behind a pooling of its own."""

    def __init__(self):
        super().__init__()
        self.body, self.classes = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Linear(6 * 16, 5)
        self.places, self.pool = nn.Conv2d(6, 4, 3), nn.MaxPool2d(2)

    def forward(self, x):
        x = torch.relu(self.body(x))
        return torch.cat([self.classes(x.flatten(1)), self.pool(self.places(x)).flatten(1)], 1)


def test_two_heads_are_computed_exactly(folder):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, 8)
    packed = packed_of(in_bits(Heads(), x), x, folder)
    outputs = check_c(packed, x)
    assert outputs.shape == (6, 9)
    assert len(outputs.unique(dim=0)) == len(x)
    assert all(len(part.unique()) > 2 for part in outputs.split((5, 4), 1))


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("start", ["half", "zero"])
def test_neurons_as_a_search_space_chooses_them(reset, start, folder):
    torch.manual_seed(0)
    x = 2 * torch.rand(6, 5)
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))
    neuron = NeuronChoice(reset=reset, start=start).of(None)
    names = {"0": None, "2": neuron, "4": neuron}
    setting = {"weight_bits": 4, "spike_bits": (2, 3, 2), "time_steps": 3, "decay": 0.75}
    plan = {name: LayerPlan(signed_input=name == "0", neuron=chosen, **setting) for name, chosen in names.items()}
    packed = packed_of(calibrate(convert(network, plan), x), x, folder)
    assert packed.program.layers["2"].reset == reset
    assert packed.program.layers["2"].threshold == {"half": "half", "zero": "full"}[start]
    outputs = check_c(packed, x)
    assert len(outputs.unique(dim=0)) > 1


def test_transposed_convolutions_along_one_axis_and_rows_of_a_linear_layer(folder):
    torch.manual_seed(0)
    x = torch.randn(5, 4, 9)
    network = nn.Sequential(
        nn.Conv1d(4, 6, 3, groups=2, padding=2),
        nn.ConvTranspose1d(6, 4, 4, stride=3, padding=1, output_padding=2, groups=2),
        nn.Linear(34, 5),
        nn.Flatten(),
        nn.Linear(20, 3),
    )
    outputs = check_c(packed_of(in_bits(network, x), x, folder), x)
    assert len(outputs.unique(dim=0)) == len(x)
