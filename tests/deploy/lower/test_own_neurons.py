"""Layers whose neurons have settings of the network's own: replayed, and read by hand, spike for spike."""

import itertools

import pytest
import torch
from framed_networks import check_equal, events, prepared
from packed_reader import run as run_by_hand
from spikingjelly.activation_based import layer, neuron
from torch import nn

from bitsearch import pack, quantize, read
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.deploy.integer.packed_layer import PackedLayer
from bitsearch.plan import NeuronSettings, UniformBits

SETTINGS = [
    NeuronSettings(reset=reset, threshold=threshold, strict=strict, largest=largest)
    for reset, (threshold, strict), largest in itertools.product(
        ("subtract", "zero"), (("half", False), ("full", False), ("full", True)), (None, 2.0)
    )
    if (reset, threshold, largest) != ("subtract", "half", None)
]


def net():
    torch.manual_seed(1)
    return nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, step_mode="m"),
        layer.BatchNorm2d(4, step_mode="m"),
        layer.Conv2d(4, 4, 3, stride=2, step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(36, 5, step_mode="m"),
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(("time_steps", "decay"), [(6, 1.0), (3, 0.6)])
def test_every_spike_is_replayed(settings, time_steps, decay, tmp_path):
    examples = events(6, 4, 2, 8, 8)
    network = prepared(net(), examples, time_steps, decay=decay, neuron=settings)
    lowered = check_equal(network, examples)
    packed = next(iter(lowered.program.layers.values()))
    assert (packed.reset, packed.threshold, packed.strict) == (settings.reset, settings.threshold, settings.strict)
    pack(network, examples, tmp_path / "packed")
    replay = read(tmp_path / "packed").replay()
    outputs, fraction = run_by_hand(tmp_path / "packed", examples[:, 0].flatten().tolist())
    assert replay(examples[:, :1]).tolist() == [outputs]
    assert fraction == replay.analysis.values[-1].fraction


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_a_spikingjelly_network_is_replayed(v_reset, trained):
    torch.manual_seed(0)
    network = nn.Sequential(
        layer.Linear(12, 30, step_mode="m"),
        neuron.LIFNode(tau=2.0, v_reset=v_reset, step_mode="m"),
        layer.Linear(30, 4, step_mode="m"),
    )
    x = 4 * events(4, 16, 12)
    bits = UniformBits(weight_bits=8, spike_bits=2, time_steps=4)
    choices = Choices(time_steps=Span(low=1, high=4))
    first = FirstLayer(weight_bits=8, spike_bits=8)
    quantized = quantize(network, x, start=bits, baseline=bits, choices=choices, first_layer=first, time_axis=True)
    if trained:
        quantized.train()(x)
    quantized.fix(quantized.layer_plans)
    quantized.train()(x)
    lowered = check_equal(quantized.network.eval(), x)
    packed = lowered.program.layers["2"]
    assert (packed.reset, packed.threshold) == ("subtract" if v_reset is None else "zero", "full")
    # Two bits have three levels; the neuron has one until its bits are trained.
    assert packed.largest == (None if trained else (1, 1, 1, 1))


FIELDS = {
    "weight_shape": (1, 1),
    "weight_bits": 2,
    "spike_bits": (2,),
    "signed": False,
    "decay": 1 << 16,
    "step_fraction": 0,
    "shift": 0,
    "fraction": 0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strict": True}, "a neuron whose threshold is half a step is strict"),
        ({"signed": True, "reset": "zero"}, "settings that are for spikes of one sign"),
        ({"largest": (1, 1)}, "2 largest codes for 1 time steps"),
        ({"largest": (4,)}, "a largest code of 4 for spikes of 2 bits"),
        ({"largest": (0,)}, "greater than or equal to 1"),
    ],
)
def test_settings_that_no_neuron_has_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PackedLayer(**FIELDS | change)
