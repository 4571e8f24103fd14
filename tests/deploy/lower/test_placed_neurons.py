"""Neurons in front of pooling, sums and concatenation: deployed as operations of their own."""

import pytest
import torch
from calibration import calibrate
from framed_networks import FRAMES, check_equal, events, framed
from packed_reader import run as run_by_hand
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch import pack, read, verify
from bitsearch.data.splits import Splits
from bitsearch.deploy.integer.operations import RunLayer, RunNeuron, RunSynapses
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, NeuronSettings


def multi_step(*modules):
    network = nn.Sequential(*modules)
    functional.set_step_mode(network, "m")
    return network


def reading(neurons, time_steps=3, **changes):
    return framed(time_steps, pooled=True, in_place=True, neurons=neurons, **changes)


def around(*pools, node=neuron.IFNode):
    """Convolution, neuron, something between, convolution, neuron, flatten, linear layer."""
    torch.manual_seed(0)
    return multi_step(
        layer.Conv2d(2, 4, 3, padding=1),
        layer.BatchNorm2d(4),
        node(),
        nn.Sequential(*pools),
        layer.Conv2d(4, 3, 2, bias=False),
        layer.BatchNorm2d(3),
        node(),
        layer.Flatten(),
        layer.Linear(27, 5),
    )


def network_plan(time_steps, **changes):
    return {
        "0": framed(time_steps, neurons=()),
        "4": reading(("2",), time_steps, **changes),
        "8": framed(time_steps, neurons=("6",), **changes),
    }


BETWEEN = {
    "max": lambda: [layer.MaxPool2d(2)],
    "average": lambda: [layer.AvgPool2d(2)],
    "average of 6": lambda: [layer.AvgPool2d((2, 3), stride=2, padding=(0, 1))],
    "adaptive": lambda: [layer.AdaptiveAvgPool2d(4)],
    "both": lambda: [layer.MaxPool2d(3, 1, padding=1), layer.AvgPool2d(2)],
}


@pytest.mark.parametrize("time_steps", [1, 3, FRAMES])
@pytest.mark.parametrize("between", BETWEEN)
def test_spikes_are_pooled_in_integers(between, time_steps):
    network = convert(around(*BETWEEN[between]()), network_plan(time_steps))
    lowered = check_equal(calibrate(network, events(FRAMES, 4, 2, 8, 8)), events(FRAMES, 4, 2, 8, 8))
    kinds = [type(operation) for operation in lowered.program.operations if hasattr(operation, "layer")]
    assert kinds == [RunLayer, RunNeuron, RunSynapses, RunLayer]


@pytest.mark.parametrize(
    "node",
    [
        lambda: neuron.LIFNode(tau=3.0, decay_input=False),
        lambda: neuron.ParametricLIFNode(init_tau=2.0, v_threshold=0.7),
    ],
    ids=["LIF", "PLIF"],
)
def test_thresholds_and_leaks_are_in_front_of_the_spikes(node):
    network = convert(around(layer.AvgPool2d(2), node=node), network_plan(4, decay=0.7))
    check_equal(calibrate(network, events(FRAMES, 4, 2, 8, 8)), events(FRAMES, 4, 2, 8, 8))


@pytest.mark.parametrize("between", ["max", "average", "average of 6"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("bits", [1, 3])
def test_a_neuron_of_the_networks_own_settings_fires_in_front_of_pooling(bits, reset, between, tmp_path):
    settings = NeuronSettings(reset=reset, threshold="full", largest=1 if bits == 1 else None)
    own = {"spike_bits": (bits,) * FRAMES, "neuron": settings}
    network = convert(around(*BETWEEN[between]()), network_plan(FRAMES, **own))
    inputs = events(FRAMES, 4, 2, 8, 8)
    check_equal(calibrate(network, inputs), inputs)
    pack(network, inputs, tmp_path / "packed")
    numbers, _ = run_by_hand(tmp_path / "packed", inputs[:, 0].flatten().tolist())
    assert numbers == read(tmp_path / "packed").replay()(inputs)[0].tolist()


class Joined(nn.Module):
    """Two neurons whose pooled spikes are added up or concatenated."""

    def __init__(self, together):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = layer.Conv2d(2, 3, 3, padding=1), layer.Conv2d(2, 3, 1)
        self.fires, self.also = neuron.IFNode(), neuron.IFNode(v_threshold=0.8)
        self.pool, self.together = layer.AvgPool2d(2), together
        self.c, self.fc = layer.Conv2d(6 if together == "cat" else 3, 2, 3), layer.Linear(8, 4)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        left, right = self.pool(self.fires(self.a(x))), self.pool(self.also(self.b(x)))
        joined = left + right if self.together == "sum" else torch.cat([left, right], -3)
        return self.fc(self.c(joined).flatten(-3))


@pytest.mark.parametrize("together", ["sum", "cat"])
def test_streams_of_two_neurons_are_joined_in_integers(together):
    plan = {name: framed(3, neurons=()) for name in ("a", "b", "fc")} | {"c": reading(("fires", "also"))}
    inputs = events(FRAMES, 4, 2, 8, 8)
    network = calibrate(convert(Joined(together), plan), inputs)
    lowered = check_equal(network, inputs)
    assert [run.layer for run in lowered.program.operations if isinstance(run, RunNeuron)] == ["c", "c"]


class Branches(nn.Module):
    """Two layers read one neuron, behind a pooling and directly."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.fires, self.pool = layer.Conv2d(2, 3, 3, padding=1), neuron.IFNode(), layer.AvgPool2d(2)
        self.c, self.d = layer.Conv2d(3, 2, 2), layer.Conv2d(3, 2, 6, bias=False)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        spikes = self.fires(self.a(x))
        return (self.c(self.pool(spikes)) + self.d(spikes)).flatten(-3)


@pytest.mark.parametrize("time_steps", [3, FRAMES])
def test_layers_that_read_one_neuron_have_its_steps(time_steps, tmp_path):
    stream = reading(("fires",), time_steps)
    plan = {"a": framed(time_steps, neurons=()), "c": stream, "d": stream}
    inputs = events(FRAMES, 4, 2, 8, 8)
    network = calibrate(convert(Branches(), plan), inputs)
    lowered = check_equal(network, inputs)
    assert [run.layer for run in lowered.program.operations if isinstance(run, RunNeuron)] == ["c"]
    assert (lowered.numbers["c"].steps == lowered.numbers["d"].steps).all()
    pack(network, inputs, tmp_path / "packed")
    outputs = read(tmp_path / "packed").replay()(inputs)
    numbers, _ = run_by_hand(tmp_path / "packed", inputs[:, 0].flatten().tolist())
    assert numbers == outputs[0].tolist()


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AvgPool2d(3, 2)])
def test_without_a_time_axis_too(pool):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), neuron.IFNode(), pool, nn.Conv2d(4, 3, 2), nn.Flatten())
    bits = {"weight_bits": 4, "spike_bits": (3, 2, 4), "time_steps": 3, "decay": 0.7}
    plan = {
        "0": LayerPlan(**bits, signed_input=True, neurons=()),
        "3": LayerPlan(**bits, neurons=("1",), pooled=True, in_place=True),
    }
    examples = torch.randn(4, 2, 8, 8)
    check_equal(calibrate(convert(network, plan), examples), examples)


@pytest.mark.parametrize("time_steps", [3, FRAMES])
def test_the_packed_file_is_read_independently(tmp_path, time_steps):
    inputs = events(FRAMES, 4, 2, 8, 8)
    network = calibrate(
        convert(around(layer.AvgPool2d((2, 3), stride=2, padding=(0, 1))), network_plan(time_steps)), inputs
    )
    path = tmp_path / "network.packed"
    pack(network, inputs, path)
    packed = read(path)
    outputs = packed.replay()(inputs)
    for sample in range(2):
        numbers, fraction = run_by_hand(path, inputs[:, sample].flatten().tolist())
        assert numbers == outputs[sample].tolist()
        assert fraction == packed.analysis.values[-1].fraction
    widths = packed.widths
    (fires,) = (run.name for run in packed.program.operations if isinstance(run, RunNeuron))
    (sums,) = (run.name for run in packed.program.operations if isinstance(run, RunSynapses))
    assert (widths[fires].accumulator, widths[sums].membrane) == (None, None)
    assert widths[fires].observed_membrane <= widths[fires].membrane
    assert widths[sums].observed_accumulator <= widths[sums].accumulator


def test_verification_compares_the_spikes_in_front_of_pooling(tmp_path):
    inputs = events(FRAMES, 4, 2, 8, 8)
    network = calibrate(convert(around(layer.AvgPool2d(2)), network_plan(3)), inputs)
    pack(network, inputs, tmp_path / "packed")
    packed = read(tmp_path / "packed")
    part = TensorDataset(inputs.transpose(0, 1), torch.zeros(4, dtype=torch.long))
    data = Splits(part, part, part, input_shape=(FRAMES, *inputs.shape[2:]), classes=5, frames=FRAMES).validation
    verification = verify(packed, network, inputs, data, 2)
    assert verification.equal
    by_run = {run.name: run for run in verification.layers}
    (fires,) = (run.name for run in packed.program.operations if isinstance(run, RunNeuron))
    (sums,) = (run.name for run in packed.program.operations if isinstance(run, RunSynapses))
    # Every neuron in front of the pooling, 4 channels of 8 × 8, of 4 samples at 3 time steps.
    assert by_run[fires].spikes == [4 * 4 * 64] * 3
    assert by_run[sums].spikes == []
    assert by_run[sums].accumulator_bits > 1
    assert sum(by_run[fires].unequal_to_float) < 0.05 * sum(by_run[fires].spikes)
