"""Packed networks in Akida's layers: with their own thresholds they are the replay; and what has no layer there."""

import pytest
import torch
from akida_networks import SHAPES, inputs_for, matrices, packed_network, pooled, strided, trained
from calibration import calibrate
from spikingjelly.activation_based import layer
from torch import nn

from bitsearch import pack, read
from bitsearch.deploy.formats.akida.layers import akida_network
from bitsearch.deploy.formats.akida.replay import logits, replay
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan


def observed(packed, x):
    """(outputs, spikes by operation) of the integer replay."""
    spikes = {}

    def observe(name, quantity, _, integers):
        if quantity == "spikes":
            spikes[name] = integers

    return packed.replay()(x, observe), spikes


@pytest.mark.parametrize("make", SHAPES)
@pytest.mark.parametrize("spike_bits", [1, 2, 4])
def test_with_the_networks_thresholds_everything_is_as_packed(make, spike_bits, tmp_path):
    x = inputs_for(make)
    packed, _ = packed_network(trained(make), x, tmp_path, spike_bits)
    network = akida_network(packed)
    x = inputs_for(make, seed=1)
    outputs, spikes = observed(packed, x)
    expected = replay(network, spikes[network.encoder], exact=True)
    assert set(expected.activations) == set(spikes) - {network.encoder}
    fired = 0
    for one in network.layers[:-1]:
        sent, activations = spikes[one.sender].long(), expected.activations[one.sender]
        if sent.numel() > activations.numel():
            # Its neuron fires in front of the pooling, which takes the largest spikes.
            sent = nn.functional.max_pool2d(sent, 2)
        assert torch.equal(activations.reshape(sent.shape), sent), one.name
        fired += int((sent > 0).any() and (sent == 0).any())
    assert fired == len(network.layers) - 1
    # Rounding of outputs, and of their means.
    error = logits(network, expected.sums).reshape(outputs.shape) * 2.0 ** packed.analysis.values[-1].fraction - outputs
    assert error.abs().max() <= 8


@pytest.mark.parametrize("make", SHAPES)
def test_one_bit_needs_no_other_threshold_and_more_are_a_unit_away(make, tmp_path):
    x = inputs_for(make)
    single, _ = packed_network(trained(make), x, tmp_path, spike_bits=1)
    assert not any(layer.moved.any() for layer in akida_network(single).layers)
    packed, _ = packed_network(trained(make), x, tmp_path, spike_bits=4)
    moved = [layer.moved for layer in akida_network(packed).layers]
    assert max(int(one.max(initial=0)) for one in moved) <= 1
    assert sum(int(one.sum()) for one in moved) < sum(one.size for one in moved) / 4


def test_images_are_turned_where_that_puts_the_windows_right(tmp_path):
    networks = {}
    for make in SHAPES:
        networks[make] = akida_network(packed_network(trained(make), inputs_for(make), tmp_path)[0])
    assert networks[strided].turned
    assert not networks[pooled].turned
    assert [layer.mode for layer in networks[strided].layers] == ["same"] * 4
    assert [layer.mode for layer in networks[pooled].layers] == ["valid", "same", "same", "same"]
    assert [layer.weight_bits for layer in networks[strided].layers] == [8, 4, 4, 4]
    assert networks[strided].offset == 127
    assert networks[matrices].offset == 0
    assert networks[strided].layers[2].depthwise
    assert networks[strided].layers[-1].averaged


def first(*behind, channels=1):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), *behind)


class Shortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = (
            nn.Conv2d(1, 4, 3),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(4, 2, 3, padding=1),
        )

    def forward(self, x):
        x = self.first(x).relu()
        return self.last((x + self.second(x)).relu())


REFUSED = {
    "average": (first(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 2)), {}, "averages are taken .* last layer's"),
    "shortcut": (Shortcut(), {}, "'(add|x)': it reads something else"),
    "weights": (
        first(nn.Conv2d(4, 2, 3, padding=1)),
        {"layer2": (5, 4)},
        "'2': it has weights of 5 bits, and at most 4 are",
    ),
    "spikes": (first(nn.Conv2d(4, 2, 3, padding=1)), {"layer2": (4, 3)}, "'2': it reads spikes of 0 … 7"),
    "steps": (
        first(nn.Conv2d(4, 2, 3, padding=1)),
        {"layer2": (4, (4, 4))},
        "'2': it has 2 time steps, and there is one",
    ),
    "padding": (first(nn.Conv2d(4, 2, 3, padding=2)), {}, "'2': its windows are padded otherwise"),
    "unpadded": (first(nn.Conv2d(4, 2, 3)), {}, "'2': its windows are padded otherwise"),
    "groups": (first(nn.Conv2d(4, 4, 3, padding=1, groups=2)), {}, "'2': its channels are in groups"),
    "oblong": (first(nn.Conv2d(4, 2, (3, 1))), {}, "'2': its kernel is no square"),
    "transposed": (first(nn.ConvTranspose2d(4, 2, 3)), {}, "'2': it is a transposed convolution"),
    "relu": (first(nn.Conv2d(4, 2, 3, padding=1), nn.ReLU()), {}, "'_3': it is behind the last layer"),
    "kernel": (
        nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)),
        {},
        "'0': it reads inputs of 8 bits",
    ),
    "channels": (
        first(nn.Conv2d(4, 2, 3, padding=1), channels=2),
        {},
        "'0': it reads inputs of 8 bits and both signs",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_akida_has_no_layer_for_is_refused_with_layer_and_reason(case, tmp_path):
    network, bits, reason = REFUSED[case]
    channels = next(module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d))
    x = torch.randn(6, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    packed, _ = packed_network(network, x, tmp_path, **bits)
    with pytest.raises(InputError, match=f"^Akida's first generation has no layer for .*{reason}"):
        akida_network(packed)


def test_a_time_axis_is_refused(tmp_path):
    x = torch.rand(2, 6, 1, 8, 8)
    network = nn.Sequential(layer.Conv2d(1, 2, 3, step_mode="m"), layer.Flatten(step_mode="m"), nn.Linear(72, 2))
    plan = LayerPlan(weight_bits=4, spike_bits=(4,), time_steps=1, frames=2)
    pack(calibrate(convert(network, {"0": plan, "2": plan}), x), x, tmp_path / "packed")
    with pytest.raises(
        InputError, match=r"^the network has a time axis of 2 frames, and Akida's first generation keeps"
    ):
        akida_network(read(tmp_path / "packed"))


def plain(channels=1):
    """Without batch norm: in powers of two its thresholds are whole numbers apart."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1),
    )


@pytest.mark.parametrize("spike_bits", [2, 4])
def test_where_thresholds_are_whole_numbers_apart_every_activation_is_as_packed(spike_bits, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    bits = {"spike_bits": (spike_bits,), "time_steps": 1, "step_sizes": "power_of_two"}
    plan = {name: LayerPlan(weight_bits=4, **bits) for name in ("3", "5")}
    plan["0"] = LayerPlan(weight_bits=8, signed_input=True, **bits | {"spike_bits": (8,)})
    pack(calibrate(convert(plain(), plan), x), x, tmp_path / "packed")
    packed = read(tmp_path / "packed")
    network = akida_network(packed)
    assert [layer.activation.bits for layer in network.layers[:-1]] == [spike_bits] * 2
    assert not any(layer.moved.any() for layer in network.layers)
    outputs, spikes = observed(packed, x)
    computed = replay(network, spikes[network.encoder])
    for one in network.layers[:-1]:
        sent, activations = spikes[one.sender].long(), computed.activations[one.sender]
        assert torch.equal(activations.reshape(sent.shape), sent), one.name
        assert len(sent.unique()) == 1 << spike_bits
    unit = 2.0 ** -packed.analysis.values[-1].fraction
    assert (logits(network, computed.sums).reshape(outputs.shape) - outputs * unit).abs().max() <= unit
