"""Transposed convolutions on quantized operands, against torch's own and against sums written out."""

import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import summed
from torch import nn

import bitsearch
from bitsearch.cost import trace
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan
from bitsearch.quant.recomputation import recomputed_operands
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import quantize

GEOMETRY = {"stride": 2, "padding": 1, "output_padding": 1}
KINDS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def quantized(module, **plan):
    setting = {"weight_bits": 4, "spike_bits": (3,), "time_steps": 1} | plan
    return convert(nn.Sequential(module), {"0": LayerPlan(**setting)})[0]


def inputs(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("axes", KINDS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_it_is_torchs_on_spikes_and_weights_of_their_own_grids(axes, groups, granularity):
    torch.manual_seed(0)
    module, x = KINDS[axes](4, 6, 3, groups=groups, **GEOMETRY), inputs(2, 4, *(5, 4, 3)[:axes])
    result = quantized(copy.deepcopy(module), granularity=granularity)(x)
    four, three = torch.tensor(4.0), torch.tensor(3.0)
    weight = module.weight.data.clone()
    if granularity == "layer":
        weight = quantize(weight, renew_step(weight, four, signed=True).log().exp(), four, signed=True)
    else:
        # An output channel's weights: those of its group's inputs, at its place in the group.
        for channel in range(6):
            group, place = divmod(channel, 6 // groups)
            rows = slice(group * 4 // groups, (group + 1) * 4 // groups)
            own = weight[rows, place]
            step = renew_step(own, four, signed=True).log().exp()
            weight[rows, place] = quantize(own, step, four, signed=True)
    spikes = quantize(x, renew_step(x, three, signed=False).log().exp(), three, signed=False)
    module.weight.data = weight
    torch.testing.assert_close(result, module(spikes), **summed(4 * 3**axes + 1, 40))


def test_every_channel_has_a_step_and_one_that_learns_does_so_by_its_own_weights():
    one = quantized(nn.ConvTranspose2d(4, 6, 3, groups=2, **GEOMETRY), granularity="channel")
    assert one.weight_log_step.shape == (6, 1, 1, 1)
    one(inputs(2, 4, 5, 5))[:, 4].sum().backward()
    assert one.weight_log_step.grad.flatten().nonzero().tolist() == [[4]]


@pytest.mark.parametrize("size", [(9, 7), (10, 8), (2, 6, 9, 8)])
def test_a_call_may_say_which_of_the_open_sizes_it_means(size):
    module, x = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), inputs(2, 4, 5, 4)
    result = quantized(copy.deepcopy(module), weight_bits=8, spike_bits=(8,))(x, output_size=size)
    assert result.shape == module(x, output_size=size).shape == (2, 6, *size[-2:])


def test_another_size_of_the_same_input_is_computed_anew():
    one = quantized(nn.ConvTranspose1d(2, 3, 3, stride=2), loop="same")
    x = inputs(1, 2, 4)
    assert [one(x, size).shape[-1] for size in (None, [10], [10], [9])] == [9, 10, 10, 9]


def connections(module, spikes, result):
    """(connections, of which a spike that is not zero goes into) of a call, one by one."""
    before, after = spikes.shape[2:], result.shape[2:]
    count = alive = 0
    for place in itertools.product(*(range(size) for size in before)):
        reached = 0
        for tap in itertools.product(*(range(size) for size in module.kernel_size)):
            target = [
                i * stride + k * dilation - pad
                for i, k, stride, dilation, pad in zip(
                    place, tap, module.stride, module.dilation, module.padding, strict=True
                )
            ]
            reached += all(0 <= t < size for t, size in zip(target, after, strict=True))
        outputs = module.out_channels // module.groups
        count += reached * outputs * spikes.shape[0] * spikes.shape[1]
        alive += reached * outputs * int(torch.count_nonzero(spikes[(slice(None), slice(None), *place)]))
    return count, alive


@st.composite
def layers(draw):
    axes, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    stride, dilation = sizes(1, 3), sizes(1, 2)
    spare = tuple(draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True))
    kernel, before = sizes(1, 3), sizes(3, 5)
    padding = tuple(draw(st.integers(0, spread * (size - 1))) for size, spread in zip(kernel, dilation, strict=True))
    return KINDS[axes](2 * groups, 3 * groups, kernel, stride, padding, spare, groups, True, dilation), before


@examples(40)
@given(layers(), st.integers(0, 99))
def test_costs_count_the_connections_that_there_are(case, seed):
    module, before = case
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (2, module.in_channels, *before), generator=random).float()
    x[0, 0] = 1.0
    (geometry,) = trace(module, x)
    one = quantized(module)
    count, alive = connections(one, x, one(x))
    assert geometry.macs * 2 == count
    one.spike_log_step.data.zero_()
    assert one.count_synops(x) == alive


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_recomputed_operands_give_the_same_gradients(monkeypatch, groups, granularity):
    monkeypatch.setattr("bitsearch.quant.recomputation.MIN_ELEMENTS", 1)
    torch.manual_seed(0)
    module, x = nn.ConvTranspose2d(4, 6, 3, groups=groups, **GEOMETRY), inputs(2, 4, 5, 5)
    gradients = []
    for recompute in (False, True):
        one = quantized(copy.deepcopy(module), granularity=granularity)
        one(x)
        if recompute:
            with recomputed_operands():
                one(x).square().sum().backward()
        else:
            one(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in one.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)


class UNet(nn.Module):
    """Of spiking neurons, in multi-step mode or in a loop over the frames; every deconvolution reads spikes."""

    def __init__(self, multi):
        super().__init__()
        torch.manual_seed(0)
        self.multi = multi
        self.down = nn.ModuleList([layer.Conv2d(1, 4, 3, padding=1), layer.Conv2d(4, 6, 3, stride=2, padding=1)])
        self.up, self.last = layer.ConvTranspose2d(6, 4, 2, stride=2), layer.ConvTranspose2d(8, 2, 3, padding=1)
        self.a, self.b, self.c = neuron.IFNode(0.2), neuron.LIFNode(v_threshold=0.1), neuron.IFNode(0.1)
        functional.set_step_mode(self, "m" if multi else "s")

    def frame(self, x):
        wide = self.a(self.down[0](x))
        y = self.c(self.up(self.b(self.down[1](wide))))
        return self.last(torch.cat([wide, y], -3)).mean((-1, -2))

    def forward(self, x):
        return self.frame(x) if self.multi else torch.stack([self.frame(x) for x in x])


def test_a_unet_of_spiking_neurons_is_quantized_whole():
    x = 4 * inputs(5, 3, 1, 8, 8)
    networks = [bitsearch.quantize(UNet(multi).eval(), x, time_axis=True).eval() for multi in (True, False)]
    for network in networks:
        assert list(network.layers) == ["down.0", "down.1", "up", "last"]
        assert not network.model.unquantized
        plans = network.layer_plans
        assert plans["up"].neurons == ("b",)
        assert plans["last"].neurons == ("a", "c")
        # Taps of a 3×3 kernel that stay within 8×8, of 8 channels to 2; nothing falls outside of 2×2 at stride 2.
        macs = {geometry.name: geometry.macs for geometry in network.model.layers}
        assert macs["up"] == 16 * 6 * 4 * 4
        assert macs["last"] == (8 * 3 - 2) ** 2 * 8 * 2
    frames, loop = networks
    frames.fix({name: plan.with_bits(5, (4,) * 5) for name, plan in frames.layer_plans.items()})
    loop.fix({name: plan.with_bits(5, (4,) * 5) for name, plan in loop.layer_plans.items()})
    frames(x), loop(x)
    state = {name: value for name, value in frames.state_dict().items() if "spike_" in name}
    loop.load_state_dict(state, strict=False)
    torch.testing.assert_close(frames(x), loop(x), **summed(8 * 9 + 64, 100))
