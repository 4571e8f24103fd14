import dataclasses
import math
from unittest import mock

import numpy as np
import pytest
import torch
from cost_problems import ENERGY, HARDWARE, LATENCY, SHARES, make_target, target_fields
from hypothesis import assume, given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64, rounding

from bitsearch.cost import formulas
from bitsearch.cost.formulas import mean_bits, means
from bitsearch.cost.metric import Bits, Geometry
from bitsearch.cost.metrics import METRICS

QUICK = examples(40)
DOUBLE = {"dtype": torch.float64}
ADDED_UP = ["s_ace", "ns_ace", "synops", "weight_memory", "energy", "latency", "cores"]


def vector(*values):
    return np.asarray(values, dtype=np.float64)


# Three layers: a 3×3 convolution 1→2 on 4×4, one 2→4 with stride 2, a linear layer 16→3; and one that keeps 32 bits.
HAND = Geometry(
    macs=vector(288, 288, 48, 10),
    weights=vector(18, 72, 48, 5),
    inputs=vector(16, 32, 16, 6),
    sent=vector(16, 32, 16, 6),
    membranes=vector(16, 32, 16, 6),
    call_sent=vector(16, 32, 16, 6),
    call_membranes=vector(16, 32, 16, 6),
    outputs=vector(2, 4, 3, 2),
    count_mask=vector(1, 1, 1, 1),
    firing_rates=vector(1.0, 0.25, 0.5, 1.0),
    synaptic_rates=vector(0.75, 0.125, 0.5, 1.0),
    target=HARDWARE,
    quantized=vector(1, 1, 1, 0),
    step_owners=vector(1, 1, 1, 0),
)
# w8 s8 T1; 3 bits with spikes of 3 and 2 bits; w2 s4 T1; not quantized.
PLAN = Bits(weights=vector(8, 3, 2, 32), spikes=vector(8, 2.5, 4, 32), time_steps=vector(1, 2, 1, 1))


def cost(metric, geometry=HAND, bits=PLAN):
    return METRICS[metric].cost(geometry, bits)


def changed(geometry=HAND, **fields):
    return dataclasses.replace(geometry, **fields)


def test_mean_bits_by_hand():
    weights, spikes, steps = means(*(term.sum() for term in mean_bits(HAND, PLAN)))
    assert weights == pytest.approx((18 * 8 + 72 * 3 + 48 * 2 + 5 * 32) / 143)
    assert spikes == pytest.approx((16 * 8 + 32 * 2.5 + 16 * 4 + 6 * 32) / 70)
    assert steps == pytest.approx((16 * 1 + 32 * 2 + 16 * 1 + 6) / 70)


def test_bit_budget_by_hand():
    assert cost("bit_budget") == pytest.approx((616 / 143) * (464 / 70) * (102 / 70))


# The second layer's two steps: 288 · 3 · 3 + 288 · 3 · 2.
S_ACE = [288 * 8 * 8, 288 * 3 * (3 + 2), 48 * 2 * 4, 10 * 32 * 32]


def test_s_ace_by_hand():
    assert cost("s_ace") == sum(S_ACE)


def test_bit_budget_mac_by_hand():
    assert cost("bit_budget_mac") == pytest.approx(sum(S_ACE) / 634)


def test_ns_ace_by_hand():
    assert cost("ns_ace") == S_ACE[0] + S_ACE[1] / 4 + S_ACE[2] / 2 + S_ACE[3]


def test_synops_by_hand():
    # 288 and 2 · 288 and 48 MACs, and every one of the layer that has no spikes.
    assert cost("synops") == 288 * 0.75 + 576 * 0.125 + 48 * 0.5 + 10


def test_weight_memory_by_hand():
    # 18 · 8 bits = 18 bytes, one step, two channels; 72 · 3 = 27 bytes, two steps, four channels; 48 · 2 = 12 bytes;
    # 5 weights in float32, and no step sizes.
    assert cost("weight_memory") == (18 + 4 + 2 * 8) + (27 + 2 * 4 + 4 * 8) + (12 + 4 + 3 * 8) + (20 + 2 * 8) == 181


def test_a_step_size_that_is_one_counts_once_by_hand():
    every = cost("weight_memory")
    # The second layer's two time steps have one size.
    assert cost("weight_memory", changed(steps_in_time=vector(1, 0, 1, 1))) == every - 4
    # It reads the spikes of another's neurons, which has both.
    assert cost("weight_memory", changed(step_owners=vector(1, 0, 1, 0))) == every - 8


def test_weights_and_spikes_are_stored_in_whole_bytes_a_layer():
    bits = Bits(weights=vector(3, 1, 3, 32), spikes=vector(1, 1, 1, 32), time_steps=vector(1, 1, 1, 1))
    # 54 bits = 6.75 bytes, stored as 7; 72 bits = 9; 144 bits = 18.
    assert cost("weight_memory", bits=bits) == (7 + 4 + 16) + (9 + 4 + 32) + (18 + 4 + 24) + 36
    # 9 one-bit spikes take 2 bytes.
    geometry = changed(call_sent=vector(9, 1, 1, 0), call_membranes=vector(9, 1, 1, 0))
    assert cost("working_memory", geometry, bits) == 9 * 3 + 2


def test_working_memory_by_hand():
    # At 24 bits an input current has 3 bytes, and from two time steps on a membrane potential as well.
    layers = [16 * 3 + 16, 32 * (3 + 3) + 32 * 5 // 8, 16 * 3 + 8, 6 * 3 + 24]
    assert METRICS["working_memory"].terms(HAND, PLAN)[0].tolist() == layers == [64, 212, 56, 42]
    assert cost("working_memory") == 212
    more_steps = Bits(PLAN.weights, PLAN.spikes, vector(1, 5, 1, 1))
    assert cost("working_memory", bits=more_steps) == 32 * (3 + 3) + math.ceil(32 * 5 * 2.5 / 8)
    assert cost("working_memory", changed(target=make_target())) == 32 * (4 + 4) + 20


def test_spikes_of_every_mean_take_the_bytes_of_their_sum():
    # A mean such as 11/7, times 7, is 11.000000000000002.
    for steps in range(1, 65):
        total = np.arange(steps, 8 * steps + 1, dtype=np.float64)
        bits = Bits(np.ones_like(total), total / steps, np.full_like(total, steps))
        columns = {name: np.full_like(total, 8) for name in ("call_sent", "call_membranes")}
        columns["quantized"] = np.ones_like(total)
        assert (METRICS["working_memory"].terms(changed(**columns), bits)[0] % 1 == 0).all()
        states = 8 * (1 + (steps > 1)) * 3
        assert (METRICS["working_memory"].terms(changed(**columns), bits)[0] == states + total).all()


def test_energy_by_hand():
    # A bit operation 0.5 pJ, an accumulation 0.25, a byte of weights 2, a byte of states 3 read and written.
    operations = [288 * (0.5 * 64 + 0.25), 576 * (0.5 * 7.5 + 0.25), 48 * (0.5 * 8 + 0.25), 10 * (0.5 * 1024 + 0.25)]
    stored = [2 * 18, 2 * 27, 2 * 12, 2 * 20]
    moved = [3 * 2 * 16 * 32 / 8, 3 * 2 * 32 * 2 * 26.5 / 8, 3 * 2 * 16 * 28 / 8, 3 * 2 * 6 * 56 / 8]
    assert cost("energy") == pytest.approx(sum(operations) + sum(stored) + sum(moved), rel=FLOAT64)
    assert cost("energy") == pytest.approx(9708 + 3630 + 564 + 5414.5, rel=FLOAT64)


def test_neurons_in_front_of_pooling_have_a_membrane_each():
    # Four neurons for each of the second layer's 32 inputs: their currents and potentials, but the inputs' spikes.
    pooled = changed(membranes=vector(16, 128, 16, 6), call_membranes=vector(16, 128, 16, 6))
    assert METRICS["working_memory"].terms(pooled, PLAN)[0].tolist() == [64, 128 * (3 + 3) + 32 * 5 // 8, 56, 42]
    more = 3 * 2 * 2 * (128 - 32) * 24 / 8
    assert cost("energy", pooled) == pytest.approx(cost("energy") + more, rel=FLOAT64)
    for metric in set(METRICS) - {"working_memory", "energy", "cores"}:
        assert cost(metric, pooled) == cost(metric)


def test_event_driven_energy_counts_operations_of_spikes_alone():
    target = make_target("events", membrane_bits=24, energy=ENERGY | {"event_driven": True})
    # A quarter of the second layer's spikes and half of the third's; the unquantized layer's inputs all count.
    saved = 0.75 * 2304 + 0.5 * 204
    assert cost("energy", changed(target=target)) == pytest.approx(9708 + 3630 + 564 + 5414.5 - saved, rel=FLOAT64)
    assert math.isnan(cost("energy", changed(target=target, firing_rates=vector(1, math.nan, 1, 1))))
    assert METRICS["energy"].activity(target)
    assert not METRICS["energy"].activity(HARDWARE)


def test_latency_by_hand():
    # 64 bit operations a cycle, 5 cycles more a layer, at 1 kHz.
    assert cost("latency") == pytest.approx((288 + 4320 / 64 + 6 + 160 + 4 * 5) / 1000, rel=FLOAT64)
    by_macs = {"clock": 2000.0, "macs_per_cycle": 16.0}
    # As many MACs a cycle whatever their bits, but every time step's.
    assert cost("latency", changed(target=make_target(latency=by_macs))) == pytest.approx(57.625 / 2000, rel=FLOAT64)


def test_cores_by_hand():
    # Of 100 bytes each: 38 + 64, 67 + 212, 40 + 56 and 40 + 42 bytes.
    assert METRICS["cores"].terms(HAND, PLAN)[0].tolist() == [2, 3, 1, 1]
    assert cost("cores") == 7


def test_a_layer_that_just_fits_its_cores_takes_no_more():
    def taken(bytes_each):
        return cost(
            "cores", changed(target=make_target(membrane_bits=24, cores={"count": 1, "bytes_each": bytes_each}))
        )

    assert taken(279) == 4
    assert taken(278) == 5


def test_cores_hold_so_many_neurons_and_weights():
    def taken(**core):
        geometry = changed(target=make_target(cores={"count": 9, **core}), on_chip=vector(0, 32, 16, 0))
        return METRICS["cores"].terms(geometry, PLAN)[0].tolist()

    weights = HAND.weights.tolist()
    assert taken(neurons_each=10) == [1, 4, 2, 1]
    assert taken(neurons_each=32) == [1, 1, 1, 1]
    assert taken(synapses_each=50) == [-(-count // 50) for count in weights]
    # What asks for most decides.
    assert taken(bytes_each=10**6, neurons_each=10) == [1, 4, 2, 1]


def test_a_layer_that_has_to_fit_a_core_and_does_not_takes_more_than_there_are():
    cores = {"count": 4, "bytes_each": 278, "whole_layers": True}
    whole = changed(target=make_target(membrane_bits=24, cores=cores))
    # Of 102, 279, 96 and 82 bytes; 4 · 279/278 rounded up.
    assert METRICS["cores"].terms(whole, PLAN)[0].tolist() == [1, 5, 1, 1]
    fits = changed(target=make_target(membrane_bits=24, cores=cores | {"bytes_each": 279}))
    assert cost("cores", fits) == 4


def test_accumulator_by_hand():
    # Nine weights of ±7, and spikes of at most 3 at each of two time steps: ±378 takes ten bits.
    each = {"addends": np.array([9.0, 1.0]), "signed": np.zeros(2), "framed": np.zeros(2)}
    bits = Bits(np.array([4.0, 1.0]), np.array([2.0, 1.0]), np.array([2.0, 1.0]))

    def widest(bits=bits, **changes):
        rows = {name: np.ones(2) for name in ("quantized", "on_chip", "step_owners", "steps_in_time")}
        geometry = Geometry(*[np.ones(2)] * 11, target=make_target(), **rows, **each | changes)
        return cost("accumulator", geometry, bits)

    assert widest() == 10
    # One step at a time, ±189; of ±1, one bit and a sign.
    assert widest(framed=np.ones(2)) == 9
    assert widest(signed=np.ones(2)) == (9 * 7 * 2).bit_length() + 1
    # 511 fits what 512 does not.
    assert widest(Bits(np.array([1.0, 1.0]), *[np.array([1.0, 1.0])] * 2), addends=np.array([511.0, 1])) == 10
    assert widest(Bits(np.array([1.0, 1.0]), *[np.array([1.0, 1.0])] * 2), addends=np.array([512.0, 1])) == 11
    # Three bits and one are more than two at both steps: 7 + 1.
    unequal = dataclasses.replace(bits, code_sums=np.array([8.0, 1.0]))
    assert widest(unequal) == (9 * 7 * 8).bit_length() + 1 > 9


def test_the_first_layer_uncounted_by_hand():
    geometry = changed(count_mask=vector(0, 1, 1, 1))
    # W̄ = (72·3 + 48·2 + 5·32) / 125, S̄ = (32·2.5 + 16·4 + 6·32) / 54, T̄ = (32·2 + 16 + 6) / 54.
    assert cost("bit_budget", geometry) == pytest.approx(472 / 125 * 336 / 54 * 86 / 54)
    assert cost("s_ace", geometry) == sum(S_ACE[1:])
    assert cost("bit_budget_mac", geometry) == pytest.approx(sum(S_ACE[1:]) / 346)
    assert cost("ns_ace", geometry) == S_ACE[1] / 4 + S_ACE[2] / 2 + S_ACE[3]
    assert cost("synops", geometry) == 576 * 0.125 + 48 * 0.5 + 10
    for metric in ("weight_memory", "working_memory", "energy", "latency", "cores"):
        assert cost(metric, geometry) == cost(metric)


def test_missing_rates_give_nan_to_the_metrics_that_need_them():
    geometry = changed(firing_rates=vector(1.0, np.nan, 0.5, 1), synaptic_rates=vector(1, 1, np.nan, 1))
    assert [name for name in METRICS if math.isnan(cost(name, geometry))] == ["ns_ace", "synops"]


@pytest.mark.parametrize("bits", [(8, 4, 2), (1, 1, 1), (3, 2, 4)])
def test_a_uniform_plan_has_the_product_of_its_bits(bits):
    uniform = Bits(*(np.full(4, float(value)) for value in bits))
    assert cost("bit_budget", bits=uniform) == pytest.approx(math.prod(bits))
    assert cost("bit_budget_mac", bits=uniform) == pytest.approx(math.prod(bits))


def test_the_table_is_keyed_by_the_metrics_names():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert list(METRICS) == [
        "bit_budget",
        "bit_budget_mac",
        "s_ace",
        "ns_ace",
        "synops",
        "weight_memory",
        "working_memory",
        "energy",
        "latency",
        "accumulator",
        "cores",
    ]
    assert [name for name, metric in METRICS.items() if metric.activity(HARDWARE)] == ["ns_ace", "synops"]
    assert [name for name, metric in METRICS.items() if not metric.available(make_target())] == [
        "energy",
        "latency",
        "accumulator",
        "cores",
    ]
    names = [name for metric in METRICS.values() for name in (metric.name, metric.alias) if name]
    assert len(names) == len(set(names))


ALLOCATION = ["weights", "spikes", "time_steps"]


@st.composite
def networks(draw, *, whole=True):
    """(geometry on a target that has every table, bits); the bits between whole numbers if not ``whole``."""
    size = draw(st.integers(1, 6))

    def row(elements):
        return np.asarray(draw(st.lists(elements, min_size=size, max_size=size)), dtype=np.float64)

    count_mask = row(st.integers(0, 1))
    count_mask[-1] = 1
    counts = st.integers(1, 10**4) | st.sampled_from([8, 64])
    defaults = {"energy": ENERGY, "latency": LATENCY, "cores": {"count": 9, "bytes_each": 100}}
    fields = draw(target_fields())
    target = make_target(**{key: defaults.get(key) if value is None else value for key, value in fields.items()})
    geometry = Geometry(
        *(row(counts) for _ in range(8)),
        count_mask,
        row(SHARES),
        row(SHARES),
        target,
        quantized=row(st.integers(0, 1)),
        on_chip=row(counts),
        step_owners=row(st.integers(0, 1)),
        steps_in_time=row(st.integers(0, 1)),
        addends=row(counts),
        signed=row(st.integers(0, 1)),
        framed=row(st.integers(0, 1)),
        streams=np.eye(size)[draw(st.lists(st.integers(0, size - 1), min_size=size, max_size=size))],
    )
    if whole:
        return geometry, Bits(row(st.integers(1, 8)), row(st.integers(4, 32)) / 4, row(st.integers(1, 4)))
    # Membrane potentials come in between one time step and two: there the slope has a kink.
    steps = row(st.floats(1.05, 1.95) | st.floats(2.05, 4))
    return geometry, Bits(row(st.floats(1, 8)), row(st.floats(1, 8)), steps)


def tensors(record, **options):
    return type(record)(
        **{
            name: value if name == "target" or value is None else torch.tensor(value, **options)
            for name, value in vars(record).items()
        }
    )


@QUICK
@given(networks(), st.sampled_from(sorted(METRICS)))
def test_tensors_and_numbers_agree(network, metric):
    geometry, bits = network
    numbers = cost(metric, geometry, bits)
    single = cost(metric, tensors(geometry, dtype=torch.float32), tensors(bits, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert single.shape == ()
    # In float32, what fills a core to the last byte, or a sum to its last bit, may seem to need another.
    whole = {"cores": len(bits.weights), "accumulator": 1}.get(metric, 0)
    assert single.item() == pytest.approx(numbers, rel=2 * rounding(64), abs=whole)
    double = cost(metric, tensors(geometry, **DOUBLE), tensors(bits, **DOUBLE))
    assert double.item() == pytest.approx(numbers, rel=FLOAT64)


@QUICK
@given(networks(), st.sampled_from(sorted(METRICS)))
def test_many_plans_at_once_cost_what_each_costs(network, metric):
    geometry, bits = network
    several = [bits, Bits(np.ones_like(bits.weights), bits.spikes, bits.time_steps + 1)]
    stacked = Bits(*(np.stack([getattr(one, name) for one in several]) for name in ALLOCATION))
    at_once = METRICS[metric].cost(geometry, stacked)
    assert np.broadcast_to(at_once, 2).tolist() == pytest.approx([cost(metric, geometry, one) for one in several])


@QUICK
@given(networks())
def test_bit_budget_mac_is_s_ace_over_macs(network):
    geometry, bits = network
    macs = (geometry.macs * geometry.count_mask).sum()
    assert cost("bit_budget_mac", geometry, bits) == pytest.approx(cost("s_ace", geometry, bits) / macs, rel=FLOAT64)


@QUICK
@given(networks(), st.sampled_from(ADDED_UP))
def test_a_network_costs_what_its_layers_cost_alone(network, metric):
    geometry, bits = network

    def only(index, record):
        whole = ("target", "code_sums")
        values = {
            name: value if name in whole or value is None else value[[index]] for name, value in vars(record).items()
        }
        return type(record)(**values)

    layers = [cost(metric, only(index, geometry), only(index, bits)) for index in range(len(bits.weights))]
    assert cost(metric, geometry, bits) == pytest.approx(sum(layers), rel=FLOAT64)
    peaks = [cost("working_memory", only(index, geometry), only(index, bits)) for index in range(len(bits.weights))]
    # Those of layers that read the same values are there at once.
    streams = geometry.streams.argmax(-1)
    sums = [sum(peak for peak, stream in zip(peaks, streams, strict=True) if stream == other) for other in streams]
    assert cost("working_memory", geometry, bits) == pytest.approx(max(sums), rel=FLOAT64)


@QUICK
@given(networks())
def test_means_are_weighted_over_the_counted_layers(network):
    geometry, bits = network
    mean_weights, mean_spikes, mean_steps = means(*(term.sum() for term in mean_bits(geometry, bits)))
    weights, inputs = geometry.weights * geometry.count_mask, geometry.inputs * geometry.count_mask
    assert mean_weights == pytest.approx(np.average(bits.weights, weights=weights), rel=FLOAT64)
    assert mean_spikes == pytest.approx(np.average(bits.spikes, weights=inputs), rel=FLOAT64)
    assert mean_steps == pytest.approx(np.average(bits.time_steps, weights=inputs), rel=FLOAT64)


@examples(80)
@given(networks(whole=False), st.sampled_from(sorted(METRICS)), st.data())
def test_gradients_are_difference_quotients_of_what_was_not_rounded(network, metric, data):
    geometry, bits = network
    exact, moved = tensors(geometry, **DOUBLE), tensors(bits, **DOUBLE)
    for name in ALLOCATION:
        getattr(moved, name).requires_grad_()
    field = data.draw(st.sampled_from(ALLOCATION))
    layer = data.draw(st.integers(0, len(bits.weights) - 1))
    if METRICS[metric].peak:
        # Where layers tie or nearly do, a peak has a kink, and rounding may say which of them is the largest.
        (term,) = METRICS[metric].terms(geometry, bits)
        assume(len(term) < 2 or np.sort(term)[-1] - np.sort(term)[-2] > 2)
    total = cost(metric, exact, moved)
    found = torch.autograd.grad(total, getattr(moved, field), allow_unused=True)[0]
    found = 0.0 if found is None else found[layer].item()
    costs = []
    # With a sign, one bit has as many levels as two.
    assume(metric != "accumulator" or abs(getattr(bits, field)[layer] - 2) > 1e-4)
    smooth = {"_round_up": lambda values: values, "_bit_length": lambda values: np.log2(values + 1)}
    with mock.patch.multiple(formulas, **smooth):
        for shift in (1e-5, -1e-5):
            values = {name: getattr(bits, name).copy() for name in ALLOCATION}
            values[field][layer] += shift
            costs.append(cost(metric, geometry, Bits(**values)))
        scale = abs(cost(metric, geometry, bits))
    # Off by the third derivative's share, 1e-10 of numbers of one and more, and by roundings over the distance.
    off = rounding(64, torch.float64) / 1e-5
    assert found == pytest.approx((costs[0] - costs[1]) / 2e-5, rel=10 * FLOAT64, abs=off * scale)


@pytest.mark.parametrize(("steps", "slope"), [(1.0, 3 + 1), (2.0, 3 + 1), (3.0, 1)])
def test_membrane_potentials_that_come_in_with_the_second_step_have_a_slope_at_one_and_at_two(steps, slope):
    # 8 bits a spike and 24 bits a membrane: a byte of spikes a step, and 3 bytes a potential once there is a second.
    bits = tensors(Bits(*(np.array([value]) for value in (1.0, 8.0, steps))), **DOUBLE)
    bits.time_steps.requires_grad_()
    geometry = tensors(Geometry(*[vector(1)] * 11, target=make_target(membrane_bits=24)), **DOUBLE)
    cost("working_memory", geometry, bits).backward()
    assert bits.time_steps.grad.item() == slope


@QUICK
@given(networks())
def test_weight_memory_passes_its_gradient_through_the_rounding(network):
    geometry, bits = network
    moved = tensors(bits, **DOUBLE)
    for name in ALLOCATION:
        getattr(moved, name).requires_grad_()
    cost("weight_memory", tensors(geometry, **DOUBLE), moved).backward()
    np.testing.assert_allclose(moved.weights.grad.numpy(), geometry.weights / 8)
    np.testing.assert_allclose(moved.time_steps.grad.numpy(), 4 * geometry.step_owners * geometry.steps_in_time)
    assert moved.spikes.grad is None


@examples(120)
@given(networks(), st.sampled_from(sorted(METRICS)), st.data())
def test_no_metric_rises_when_a_number_falls(network, metric, data):
    geometry, bits = network
    field = data.draw(st.sampled_from(ALLOCATION))
    index = data.draw(st.integers(0, len(bits.weights) - 1))
    fewer = getattr(bits, field).copy()
    fewer[index] = data.draw(st.integers(1, int(fewer[index])))
    assert cost(metric, geometry, dataclasses.replace(bits, **{field: fewer})) <= cost(metric, geometry, bits)
