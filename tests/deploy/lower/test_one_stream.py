"""Layers that read the spikes of one layer's neurons: step sizes are stored once, and replayed like any others."""

import json

import pytest
import torch
from branches import branches, images
from calibration import calibrate
from packed_reader import run as run_by_hand
from safetensors.torch import load_file
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch import TieRule, UniformBits, pack, quantize, read, verify
from bitsearch.deploy.integer.program import Program
from bitsearch.errors import InputError
from bitsearch.layers import convert


def test_one_stream_is_deployed_as_it_was_trained(tmp_path):
    start = UniformBits(weight_bits=4, spike_bits=3, time_steps=2)
    network = quantize(branches(), images(), ties=[TieRule(share="streams")], start=start)
    network.train()(images())
    network.project("4x")
    plan = network.plan("4x")
    assert plan.layers["right"].stream == "left"
    network.eval()
    size = pack(network.network, images(), tmp_path / "net.packed", plan)
    assert size == plan.costs["weight_memory"]
    assert "right.spike_step" not in load_file(tmp_path / "net.packed")
    packed = read(tmp_path / "net.packed")
    samples = TensorDataset(images(), torch.zeros(len(images()), dtype=torch.long))
    assert verify(packed, network.network, images(), samples).equal
    outputs, _ = run_by_hand(tmp_path / "net.packed", images()[0].tolist())
    assert packed.replay()(images()[:1]).flatten().tolist() == outputs


class Pooled(nn.Module):
    """Two convolutions read what a pooling makes of one neuron's spikes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), neuron.IFNode(v_reset=None), layer.MaxPool2d(2))
        self.left, self.right = layer.Conv2d(4, 4, 3, padding=1), layer.Conv2d(4, 4, 1)
        self.out = nn.Sequential(neuron.IFNode(v_reset=None), layer.Flatten(), layer.Linear(36, 3))
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = self.stem(x)
        return self.out(self.left(x) + self.right(x)).mean(0)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    """(network, frames for it, its packed file, its size and what the cost model says)."""
    x = torch.poisson(torch.full((3, 5, 2, 6, 6), 0.6), generator=torch.Generator().manual_seed(0))
    bits = UniformBits(weight_bits=4, spike_bits=2, time_steps=3)
    quantized = quantize(Pooled(), x, start=bits, baseline=bits, time_axis=True)
    plans = quantized.layer_plans
    network = calibrate(convert(Pooled(), plans), x)
    path = tmp_path_factory.mktemp("pooled") / "net.packed"
    return network, x, path, pack(network, x, path), quantized.model.cost("weight_memory", plans)


def test_step_sizes_of_neurons_in_their_places_are_stored_once(pooled):
    network, x, path, size, memory = pooled
    # Weights of 8 and 4 bits, three step sizes of every layer but one, and eight bytes a channel.
    assert size == memory == (72 + 3 * 4 + 32) + (72 + 3 * 4 + 32) + (8 + 32) + (54 + 3 * 4 + 24)
    packed = read(path)
    assert {name: one.steps_of for name, one in packed.program.layers.items()} == {
        "stem.0": None,
        "left": None,
        "right": "left",
        "out.2": None,
    }
    samples = TensorDataset(x.transpose(0, 1), torch.zeros(5, dtype=torch.long))
    samples.frames = 3
    assert verify(packed, network, x, samples).equal
    outputs, _ = run_by_hand(path, x[:, 0].flatten().tolist())
    assert packed.replay()(x[:, :1]).flatten().tolist() == outputs


@pytest.mark.parametrize(
    ("name", "owner", "message"),
    [
        ("right", "nothing", "for which none are stored"),
        ("right", "right", "for which none are stored"),
        ("left", "right", "for which none are stored"),
        ("right", "stem.0", "whose spikes are others"),
    ],
)
def test_lies_about_whose_step_sizes_are_read_are_refused(pooled, name, owner, message):
    program = json.loads(read(pooled[2]).program.model_dump_json(exclude_none=True))
    program["layers"][name]["steps_of"] = owner
    with pytest.raises(InputError, match=message):
        Program.from_json(json.dumps(program), "a lie")
