"""Rounding offsets: the levels that a weight may come to rest on, and what is left of it there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bitsearch.layers import convert
from bitsearch.layers.rounding import GAMMA, ZETA, RoundingOffsets
from bitsearch.plan import LayerPlan


def quantized(bits, *, granularity="layer", seed=0):
    torch.manual_seed(seed)
    plan = LayerPlan(weight_bits=bits, spike_bits=(4,), time_steps=1, signed_input=True, granularity=granularity)
    layer = convert(nn.Sequential(nn.Linear(6, 5)), {"0": plan})
    layer(torch.randn(8, 6))
    return layer[0]


def levels(bits):
    return {-1, 1} if bits == 1 else set(range(1 - 2 ** (bits - 1), 2 ** (bits - 1)))


@given(bits=st.integers(1, 8), granularity=st.sampled_from(["layer", "channel"]), seed=st.integers(0, 99))
def test_before_anything_is_learned_weights_are_themselves_but_for_the_clipping(bits, granularity, seed):
    layer = quantized(bits, granularity=granularity, seed=seed)
    largest = max(levels(bits))
    with torch.no_grad():
        soft = RoundingOffsets(layer)(layer.weight) / layer.weight_step
        clipped = (layer.weight / layer.weight_step).clamp(-largest, largest)
    # A sigmoid of its own logit, times a distance of at most two, beside levels up to 127.
    torch.testing.assert_close(soft, clipped, rtol=1e-6, atol=1e-5)


@given(bits=st.integers(1, 8), granularity=st.sampled_from(["layer", "channel"]), seed=st.integers(0, 99))
def test_the_quantizer_rounds_a_weight_to_the_level_that_was_chosen(bits, granularity, seed):
    layer = quantized(bits, granularity=granularity, seed=seed)
    offsets = RoundingOffsets(layer)
    up = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    with torch.no_grad():
        offsets.offsets.copy_(torch.where(up, 9.0, -9.0))
    assert offsets.undecided(2.0).item() == 0.0
    chosen = offsets.below + offsets.distance * up
    assert set(chosen.flatten().tolist()) <= levels(bits)
    before = (layer.weight / layer.weight_step).detach().clone()
    layer.soft_weights = offsets
    offsets.harden()
    assert layer.soft_weights is None
    torch.testing.assert_close(layer.quantized_weight(), layer.weight_step * chosen, rtol=1e-6, atol=0)
    # Where the level is the nearest anyway, the weight stays as it was.
    kept = ((before - chosen).abs() < 0.49 * offsets.distance) & (before.abs() <= max(levels(bits)))
    torch.testing.assert_close((layer.weight / layer.weight_step)[kept], before[kept], rtol=1e-5, atol=1e-6)


def test_what_is_undecided_costs_by_how_far_it_is_from_a_level():
    layer = quantized(4)
    offsets = RoundingOffsets(layer)
    share = torch.full_like(layer.weight, 0.25)
    with torch.no_grad():
        offsets.offsets.copy_(torch.logit((share - GAMMA) / (ZETA - GAMMA)))
    assert offsets.undecided(2.0).item() == pytest.approx(layer.weight.numel() * (1 - 0.5**2), rel=1e-5)
