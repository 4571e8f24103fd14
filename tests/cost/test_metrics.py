import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitsearch.cost.metrics import METRICS, Bits, Geometry, mean_bits

QUICK = settings(max_examples=60, deadline=None)
COUNTS = st.integers(1, 10**6)
FLOAT64 = {"dtype": torch.float64}


def vector(*values):
    return np.asarray(values, dtype=np.float64)


# Three layers: a 3×3 convolution 1→2 on 4×4, one 2→4 with stride 2, a linear layer 16→3.
HAND = Geometry(
    macs=vector(288, 288, 48),
    weights=vector(18, 72, 48),
    inputs=vector(16, 32, 16),
    outputs=vector(2, 4, 3),
    counted=vector(1, 1, 1),
    firing_rates=vector(1.0, 0.25, 0.5),
)
# 8/8/1; 3 bits with spikes of 3 and 2 bits; 2/4/1.
PLAN = Bits(weights=vector(8, 3, 2), spikes=vector(8, 2.5, 4), time_steps=vector(1, 2, 1))


def uncounted_first(geometry):
    return Geometry(**{**vars(geometry), "counted": vector(0, 1, 1)})


def test_mean_bits_by_hand():
    weights, spikes, steps = mean_bits(HAND, PLAN)
    assert weights == pytest.approx((18 * 8 + 72 * 3 + 48 * 2) / 138)
    assert spikes == pytest.approx((16 * 8 + 32 * 2.5 + 16 * 4) / 64)
    assert steps == pytest.approx((16 * 1 + 32 * 2 + 16 * 1) / 64)


def test_bit_budget_by_hand():
    assert METRICS["bit_budget"].formula(HAND, PLAN) == pytest.approx((456 / 138) * 4.25 * 1.5)


def test_s_ace_by_hand():
    # The second layer's two steps: 288 · 3 · 3 + 288 · 3 · 2.
    assert METRICS["s_ace"].formula(HAND, PLAN) == 288 * 8 * 8 + 288 * 3 * (3 + 2) + 48 * 2 * 4


def test_bit_budget_mac_by_hand():
    assert METRICS["bit_budget_mac"].formula(HAND, PLAN) == pytest.approx(23136 / 624)


def test_ns_ace_by_hand():
    assert METRICS["ns_ace"].formula(HAND, PLAN) == pytest.approx(18432 * 1.0 + 4320 * 0.25 + 384 * 0.5)


def test_weight_memory_by_hand():
    # 18 · 8 bits = 18 bytes, one step, two channels; 72 · 3 = 27 bytes, two steps, four channels; 48 · 2 = 12 bytes.
    wanted = (18 + 4 + 2 * 8) + (27 + 2 * 4 + 4 * 8) + (12 + 4 + 3 * 8)
    assert METRICS["weight_memory"].formula(HAND, PLAN) == wanted == 145


def test_weights_are_stored_in_whole_bytes_a_layer():
    bits = Bits(weights=vector(3, 1, 3), spikes=vector(1, 1, 1), time_steps=vector(1, 1, 1))
    # 54 bits = 6.75 bytes, stored as 7; 72 bits = 9; 144 bits = 18.
    assert METRICS["weight_memory"].formula(HAND, bits) == (7 + 4 + 16) + (9 + 4 + 32) + (18 + 4 + 24)


def test_the_first_layer_uncounted_by_hand():
    geometry = uncounted_first(HAND)
    # W̄ = (72·3 + 48·2) / 120 = 2.6, S̄ = (32·2.5 + 16·4) / 48 = 3, T̄ = (32·2 + 16) / 48 = 5/3.
    assert METRICS["bit_budget"].formula(geometry, PLAN) == pytest.approx(2.6 * 3 * 5 / 3)
    assert METRICS["s_ace"].formula(geometry, PLAN) == 4320 + 384
    assert METRICS["bit_budget_mac"].formula(geometry, PLAN) == pytest.approx(4704 / 336)
    assert METRICS["ns_ace"].formula(geometry, PLAN) == pytest.approx(4320 * 0.25 + 384 * 0.5)
    assert METRICS["weight_memory"].formula(geometry, PLAN) == 145


def test_missing_firing_rates_give_nan():
    geometry = Geometry(**{**vars(HAND), "firing_rates": vector(1.0, np.nan, 0.5)})
    assert math.isnan(METRICS["ns_ace"].formula(geometry, PLAN))
    assert METRICS["s_ace"].formula(geometry, PLAN) == 23136


@pytest.mark.parametrize("bits", [(8, 4, 2), (1, 1, 1), (3, 2, 4)])
def test_a_uniform_plan_has_the_product_of_its_bits(bits):
    uniform = Bits(*(np.full(3, float(value)) for value in bits))
    assert METRICS["bit_budget"].formula(HAND, uniform) == pytest.approx(math.prod(bits))
    assert METRICS["bit_budget_mac"].formula(HAND, uniform) == pytest.approx(math.prod(bits))


def test_the_table_is_keyed_by_the_metrics_names():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert set(METRICS) == {"bit_budget", "bit_budget_mac", "s_ace", "ns_ace", "weight_memory"}
    assert [name for name, metric in METRICS.items() if metric.needs_firing_rates] == ["ns_ace"]


@st.composite
def networks(draw):
    size = draw(st.integers(1, 6))

    def row(elements):
        return np.asarray(draw(st.lists(elements, min_size=size, max_size=size)), dtype=np.float64)

    counted = row(st.integers(0, 1))
    counted[-1] = 1
    geometry = Geometry(row(COUNTS), row(COUNTS), row(COUNTS), row(COUNTS), counted, row(st.integers(0, 100)) / 100)
    bits = Bits(row(st.integers(1, 8)), row(st.integers(4, 32)) / 4, row(st.integers(1, 4)))
    return geometry, bits


def tensors(record, **options):
    return type(record)(**{name: torch.tensor(value, **options) for name, value in vars(record).items()})


@QUICK
@given(networks(), st.sampled_from(sorted(METRICS)))
def test_tensors_and_numbers_agree(network, metric):
    geometry, bits = network
    numbers = METRICS[metric].formula(geometry, bits)
    single = METRICS[metric].formula(tensors(geometry, dtype=torch.float32), tensors(bits, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(numbers, rel=1e-5)
    double = METRICS[metric].formula(tensors(geometry, **FLOAT64), tensors(bits, **FLOAT64))
    assert double.item() == pytest.approx(numbers, rel=1e-12)


@QUICK
@given(networks())
def test_bit_budget_mac_is_s_ace_over_macs(network):
    geometry, bits = network
    macs = (geometry.macs * geometry.counted).sum()
    assert METRICS["bit_budget_mac"].formula(geometry, bits) == pytest.approx(
        METRICS["s_ace"].formula(geometry, bits) / macs, rel=1e-12
    )


@QUICK
@given(networks())
def test_s_ace_is_a_sum_over_layers_and_means_are_weighted(network):
    geometry, bits = network
    rows = zip(*vars(geometry).values(), *vars(bits).values(), strict=True)
    s_ace, weights, weight_bits = 0.0, 0.0, 0.0
    for macs, weight_count, _, _, counted, _, w, s, t in rows:
        s_ace += counted * macs * w * s * t
        weights += counted * weight_count
        weight_bits += counted * weight_count * w
    assert METRICS["s_ace"].formula(geometry, bits) == pytest.approx(s_ace, rel=1e-12)
    assert mean_bits(geometry, bits)[0] == pytest.approx(weight_bits / weights, rel=1e-12)


@QUICK
@given(networks(), st.sampled_from(["bit_budget", "bit_budget_mac", "s_ace", "ns_ace"]), st.data())
def test_gradients_are_difference_quotients(network, metric, data):
    geometry, bits = network
    exact = tensors(geometry, **FLOAT64)
    moved = tensors(bits, **FLOAT64)
    for value in vars(moved).values():
        value.requires_grad_()
    METRICS[metric].formula(exact, moved).backward()
    field = data.draw(st.sampled_from(["weights", "spikes", "time_steps"]))
    layer = data.draw(st.integers(0, len(bits.weights) - 1))
    costs = []
    for shift in (1e-3, -1e-3):
        values = {name: value.copy() for name, value in vars(bits).items()}
        values[field][layer] += shift
        costs.append(METRICS[metric].formula(geometry, Bits(**values)))
    scale = abs(METRICS[metric].formula(geometry, bits))
    assert getattr(moved, field).grad[layer].item() == pytest.approx(
        (costs[0] - costs[1]) / 2e-3, rel=1e-6, abs=1e-9 * scale
    )


@QUICK
@given(networks())
def test_weight_memory_passes_its_gradient_through_the_rounding(network):
    geometry, bits = network
    moved = tensors(bits, **FLOAT64)
    for value in vars(moved).values():
        value.requires_grad_()
    METRICS["weight_memory"].formula(tensors(geometry, **FLOAT64), moved).backward()
    np.testing.assert_allclose(moved.weights.grad.numpy(), geometry.weights / 8)
    np.testing.assert_allclose(moved.time_steps.grad.numpy(), 4)
    assert moved.spikes.grad is None
