"""A loop over frames in ONNX and in NIR: the file of its multi-step twin, in what it computes."""

import nir
import numpy as np
import pytest
import torch
from calibration import calibrate
from nir_reader import run_nir
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import summed
from torch import nn
from torch.utils.data import TensorDataset

import bitsearch
from bitsearch.choices import FirstLayer
from bitsearch.deploy.formats.nir.export import export_nir
from bitsearch.deploy.formats.onnx import check_onnx, export_onnx
from bitsearch.deploy.formats.shared_steps import share_steps
from bitsearch.errors import InputError
from bitsearch.layers import convert

T = 4


class Net(nn.Module):
    """A convolution, a neuron whose spikes are averaged, and two linear layers with a neuron between them."""

    def __init__(self, ends="loop", node=lambda: neuron.IFNode(v_reset=None)):
        super().__init__()
        torch.manual_seed(0)
        self.ends = ends
        features = layer.Conv2d(2, 4, 3, padding=1), node(), layer.AvgPool2d(2), layer.Flatten()
        self.net = nn.Sequential(*features, layer.Linear(36, 8), node(), layer.Linear(8, 3))
        functional.set_step_mode(self.net, "m" if ends == "whole" else "s")

    def forward(self, x):
        return getattr(self, self.ends)(x)

    def whole(self, x):
        return self.net(x).mean(0)

    def loop(self, x):
        return torch.stack([self.net(frame) for frame in x]).mean(0)

    def added(self, x):
        logits = 0.0
        for t in range(x.shape[0]):
            logits = logits + self.net(x[t])
        return logits

    def each(self, x):
        return torch.stack([self.net(frame) for frame in x])

    def largest(self, x):
        return torch.stack([self.net(frame) for frame in x]).amax(0)


class Recurrent(nn.Module):
    """Spikes that come back a frame later."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.back, self.lif, self.c = nn.Linear(72, 8), nn.Linear(8, 8), neuron.IFNode(), nn.Linear(8, 3)

    def forward(self, x):
        sent, logits = x.new_zeros(x.shape[1], 8), 0.0
        for frame in x:
            sent = self.lif(self.a(frame.flatten(1)) + self.back(sent))
            logits = logits + self.c(sent)
        return logits


class Frames(TensorDataset):
    """Samples ``[T, 2, 6, 6]`` of ``[T, N, 2, 6, 6]``."""

    frames = T

    def __init__(self, x):
        super().__init__(x.transpose(0, 1), torch.arange(x.shape[1]) % 3)


NODES = {
    "IF": lambda: neuron.IFNode(v_reset=None),
    "LIF, hard reset": lambda: neuron.LIFNode(tau=2.0, decay_input=False),
    "a threshold of its own": lambda: neuron.IFNode(v_threshold=0.7, v_reset=None),
}


@pytest.fixture(scope="module")
def x():
    return torch.poisson(torch.full((T, 7, 2, 6, 6), 1.5), generator=torch.Generator().manual_seed(0))


def prepared(network, x, spike_bits, shared=True):
    """(quantized network with its steps set, its layers' plans)."""
    bits = bitsearch.UniformBits(weight_bits=4, spike_bits=spike_bits, time_steps=T)
    first = FirstLayer(weight_bits=8, spike_bits=1 if spike_bits == 1 else 8)
    plans = bitsearch.quantize(network, x, start=bits, baseline=bits, first_layer=first, time_axis=True).layer_plans
    quantized = calibrate(convert(network, plans), x)
    if shared:
        share_steps(quantized)
    return quantized, plans


def pair(kind, ends, x, spike_bits):
    """A loop and its multi-step twin with the same numbers, each with its plans."""
    loop, plans = prepared(Net(ends, NODES[kind]), x, spike_bits)
    assert {plan.loop for plan in plans.values()} == {"frames"}
    whole, whole_plans = prepared(Net("whole", NODES[kind]), x, spike_bits)
    whole.load_state_dict(loop.state_dict())
    return (loop, plans), (whole, whole_plans)


@pytest.mark.parametrize("ends", ["loop", "added", "each"])
@pytest.mark.parametrize("kind", NODES)
def test_nir_of_a_loop_is_that_of_its_twin_and_computes_what_it_does(kind, ends, x, make_plan, tmp_path):
    (loop, plans), (whole, whole_plans) = pair(kind, ends, x, 1)
    export_nir(loop, x, tmp_path / "loop.nir", make_plan(plans))
    export_nir(whole, x, tmp_path / "whole.nir", make_plan(whole_plans))
    one, other = nir.read(tmp_path / "loop.nir"), nir.read(tmp_path / "whole.nir")
    assert sorted(one.edges) == sorted(other.edges)
    for name, node in one.nodes.items():
        assert type(node) is type(other.nodes[name])
        for field in ("weight", "bias", "v_threshold", "tau", "r", "v_leak", "scale"):
            if hasattr(node, field):
                np.testing.assert_array_equal(getattr(node, field), getattr(other.nodes[name], field))
    logits = run_nir(tmp_path / "loop.nir", x)["output"]
    with torch.no_grad():
        expected = loop(x)
    read_out = {"loop": logits.mean(0), "added": logits.sum(0), "each": logits}[ends]
    torch.testing.assert_close(read_out, expected, **summed(64))


@pytest.mark.parametrize("ends", ["loop", "added", "each"])
@pytest.mark.parametrize("kind", NODES)
def test_onnx_runtime_computes_what_a_loop_does(kind, ends, x, make_plan, tmp_path):
    loop, plans = prepared(Net(ends, NODES[kind]), x, 3)
    export_onnx(loop, x, tmp_path / "loop.onnx", make_plan(plans))
    agreement = check_onnx(tmp_path / "loop.onnx", loop, Frames(x), batch_size=3)
    assert agreement.agreeing == agreement.samples == 7
    assert agreement.difference < 1e-5


def test_onnx_holds_time_steps_in_which_nothing_has_come_in(x, make_plan, tmp_path):
    # Silence before a recording begins: the first frame's step size is open, and stays so.
    x = torch.cat((torch.zeros(1, *x.shape[1:]), x[1:]))
    network, plans = prepared(Recurrent(), x, 3, shared=False)
    assert not network.a.spike_step_bits[0]
    export_onnx(network, x, tmp_path / "silent.onnx", make_plan(plans))
    agreement = check_onnx(tmp_path / "silent.onnx", network, Frames(x), batch_size=3)
    assert agreement.agreeing == agreement.samples == 7


def test_onnx_runtime_computes_what_a_recurrence_does(x, make_plan, tmp_path):
    network, plans = prepared(Recurrent(), x, 3)
    export_onnx(network, x, tmp_path / "loop.onnx", make_plan(plans))
    agreement = check_onnx(tmp_path / "loop.onnx", network, Frames(x), batch_size=3)
    assert agreement.agreeing == agreement.samples == 7
    assert agreement.difference < 1e-5


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Net("largest"), "something else than the logits of its loop's frames, their sum or their mean"),
        (Recurrent(), "reads in one round of the forward pass's loop what another one computed"),
    ],
)
def test_nir_names_what_a_stream_does_not(network, message, x, make_plan, tmp_path):
    quantized, plans = prepared(network, x, 1)
    with pytest.raises(InputError, match=message):
        export_nir(quantized, x, tmp_path / "network.nir", make_plan(plans))
    assert not (tmp_path / "network.nir").exists()
