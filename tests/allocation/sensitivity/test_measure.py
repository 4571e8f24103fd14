"""Measured sensitivities, against networks that are converted with the changed bits from the start."""

import copy

import numpy as np
import pytest
import torch
from order_of_pulses import FRAMES, MultiStep, StepByStep, recordings
from spikingjelly.activation_based import functional
from tolerances import FLOAT64
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import bitsearch
from bitsearch.allocation.sensitivity.measure import (
    LEAST,
    MOST,
    finest_bits,
    measure_sensitivities,
    sample_count,
    settings_of,
)
from bitsearch.allocation.sensitivity.records import standard_error
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.layers.convert import quantized_layers
from bitsearch.train.tasks import CLASSIFICATION

SAMPLES = 24
CHOICES = Choices(weight_bits=Span(low=1, high=4), spike_bits=Span(low=1, high=3), time_steps=Span(low=1, high=2))


def static_network():
    torch.manual_seed(0)
    parts = (nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    return nn.Sequential(*parts).double().eval()


def static_samples():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(SAMPLES, 6, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, torch.randint(0, 3, (SAMPLES,), generator=generator))


def recorded_network(form):
    torch.manual_seed(0)
    net = form(10).double().eval()
    for part in net.layers:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.2, 0.7)
    return net


def recorded_samples():
    inputs, labels = recordings(SAMPLES)
    samples = TensorDataset(inputs.double(), labels)
    samples.frames = FRAMES
    return samples


def at_its_finest(net, examples, choices=CHOICES, **options):
    """A network whose bits could move, with the most of everything."""
    rules = bitsearch.quantize(net, examples, choices=choices, **options).rules
    quantized = bitsearch.quantize(net, examples, choices=choices, start=finest_bits(rules), **options)
    quantized.release_spikes()
    return quantized


CASES = {
    "static": (static_network, static_samples, {}),
    "frames": (
        lambda: recorded_network(MultiStep),
        recorded_samples,
        {"time_axis": True, "first_layer": FirstLayer(time_steps=FRAMES)},
    ),
    "a loop over frames": (
        lambda: recorded_network(StepByStep),
        recorded_samples,
        {"time_axis": True, "first_layer": FirstLayer(time_steps=FRAMES)},
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    """(network, quantized at its finest, samples, inputs, labels, axis of the samples)."""
    make_network, make_samples, options = CASES[request.param]
    net, samples = make_network(), make_samples()
    inputs, labels = samples.tensors
    axis = 1 if options else 0
    inputs = inputs.transpose(0, axis) if axis else inputs
    choices = CHOICES.model_copy(update={"time_steps": Span(low=2, high=FRAMES)}) if options else CHOICES
    return net, at_its_finest(net, inputs, choices, **options), samples, inputs, labels, axis


def losses(net, plan, inputs, labels, steps):
    """Loss of every sample of the network converted with a plan: steps are set by the inputs but in ``steps``."""
    converted = convert(net, plan).eval()
    for name, layer in quantized_layers(converted).items():
        if name in steps:
            layer.load_state_dict(steps[name])
    functional.reset_net(converted)
    with torch.no_grad():
        logits = converted(inputs)
    logits = logits.mean(0) if logits.dim() == 3 else logits
    states = {name: layer.state_dict() for name, layer in quantized_layers(converted).items()}
    return cross_entropy(logits, labels, reduction="none").numpy(), states


def with_value(plan, number, value):
    if number == "weight_bits":
        return plan.with_bits(value, plan.spike_bits)
    if number == "spike_bits":
        return plan.with_bits(plan.weight_bits, (value,) * plan.time_steps)
    return plan.with_bits(plan.weight_bits, plan.spike_bits[:value])


def test_the_loss_is_that_of_the_network_with_this_layer_alone_changed(case):
    net, quantized, samples, inputs, labels, axis = case
    finest = quantized.layer_plans
    before, steps = losses(net, finest, inputs, labels, {})
    measured = measure_sensitivities(
        quantized, samples, CLASSIFICATION, count=SAMPLES, batch_size=SAMPLES, batch_axis=axis
    )
    assert measured.samples == SAMPLES
    assert measured.loss == pytest.approx(before.mean(), rel=FLOAT64)
    expected = {}
    for row in measured.widths:
        plan = finest | {row.layer: with_value(finest[row.layer], row.number, row.value)}
        others = {name: state for name, state in steps.items() if name != row.layer}
        if row.number == "weight_bits":
            # Its spikes are what they were.
            kept = {key: value for key, value in steps[row.layer].items() if not key.startswith("weight_")}
            fresh = convert(net, plan)
            state = quantized_layers(fresh)[row.layer].state_dict()
            others[row.layer] = state | kept | {"weight_bits": state["weight_bits"]}
        differences = losses(net, plan, inputs, labels, others)[0] - before
        expected[row.layer, row.number, row.value] = differences.mean()
        assert row.increase == pytest.approx(differences.mean(), rel=1e-8, abs=1e-10)
        error = differences.std(ddof=1) / np.sqrt(SAMPLES)
        assert row.standard_error == pytest.approx(error, rel=1e-8, abs=1e-10)
    assert {(row.layer, row.number) for row in measured.widths} >= {
        (name, number) for name in quantized.searched_layers for number in ("weight_bits", "spike_bits")
    }
    assert max(map(abs, expected.values())) > 1e-3


def test_batches_make_one_measurement(case):
    _, quantized, samples, _, _, axis = case
    options = {"count": 20, "batch_axis": axis, "seed": 3}
    state, plans = copy.deepcopy(quantized.state_dict()), quantized.layer_plans
    in_parts = measure_sensitivities(quantized, samples, CLASSIFICATION, batch_size=8, **options)
    assert in_parts.samples == 20
    assert quantized.layer_plans == plans
    for name, value in quantized.state_dict().items():
        # Steps that were open have a size now; nothing else is another.
        if "step" not in name and "released" not in name:
            torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    again = measure_sensitivities(quantized, samples, CLASSIFICATION, batch_size=8, **options)
    assert [row.increase for row in again.widths] == [row.increase for row in in_parts.widths]


def test_a_layer_without_loss_by_hand():
    """Weights of ±½ are on the grid of one bit, so one bit costs nothing; with zeros among them, it costs this."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[2].weight.copy_(torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 0])
    choices = CHOICES.model_copy(update={"spike_bits": Span(low=8, high=8), "time_steps": Span(low=1, high=1)})
    quantized = at_its_finest(net, inputs, choices)
    samples = TensorDataset(inputs, labels)
    measured = measure_sensitivities(quantized, samples, CLASSIFICATION, count=3, batch_size=3)
    # Logits are (½, −½), (−½, ½), (0, 0).
    assert measured.loss == pytest.approx((2 * np.log(1 + np.exp(-1)) + np.log(2)) / 3, rel=1e-6)
    one_bit = next(row for row in measured.widths if row.value == 1)
    assert one_bit.increase == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    quantized = at_its_finest(net, inputs, choices)
    measured = measure_sensitivities(quantized, samples, CLASSIFICATION, count=3, batch_size=3)
    one_bit, two_bits = (next(row for row in measured.widths if row.value == bits) for bits in (1, 2))
    # Zero counts as positive at one bit: every weight is the same number, and no logit stands out.
    assert measured.loss == pytest.approx((2 * np.log(1 + np.exp(-1)) + np.log(2)) / 3, rel=1e-6)
    assert one_bit.increase == pytest.approx(np.log(2) - measured.loss, rel=1e-6)
    assert two_bits.increase == pytest.approx(0, abs=1e-6)
    assert one_bit.cause == "few levels"


def test_what_is_predicted_is_the_fishers_difference(case):
    _, quantized, samples, _, _, axis = case
    measured = measure_sensitivities(
        quantized, samples, CLASSIFICATION, count=SAMPLES, batch_size=SAMPLES, batch_axis=axis
    )
    drawn = next(iter(bitsearch.batches(samples, SAMPLES, torch.Generator().manual_seed(0))))
    model = FisherLossModel(quantized, 0, batch_axis=axis)
    model.probe(drawn[0], targets=[drawn[1]])
    for row in measured.widths:
        plan = quantized.layer_plans[row.layer]
        changed = with_value(plan, row.number, row.value)
        if row.number == "weight_bits":
            expected = model.weight_loss(row.layer, row.value) - model.weight_loss(row.layer, plan.weight_bits)
        elif row.number == "time_steps" and axis:
            assert row.predicted is None
            continue
        else:
            expected = model.spike_loss(row.layer, changed.spike_bits) - model.spike_loss(row.layer, plan.spike_bits)
        assert row.predicted == pytest.approx(expected, rel=1e-6)


def test_layers_with_one_weight_change_together():
    net = static_network()
    net[5] = nn.Linear(7, 8).double()
    net.append(nn.ReLU())
    net.append(nn.Linear(8, 7).double())
    net[7].weight = net[2].weight
    inputs = static_samples().tensors[0]
    quantized = at_its_finest(net, inputs)
    rows = [setting for setting in settings_of(quantized) if setting.number == "weight_bits"]
    assert {row.layer for row in rows} == {"2", "5"}
    samples = TensorDataset(inputs, static_samples().tensors[1])
    measured = measure_sensitivities(quantized, samples, CLASSIFICATION, count=8, batch_size=8)
    assert {row.layer: row.tied for row in measured.widths if row.number == "weight_bits"} == {"2": ("7",), "5": ()}


def test_the_standard_error_is_that_of_the_bootstrap():
    generator = np.random.default_rng(0)
    differences = generator.gamma(2.0, size=400)
    means = generator.choice(differences, (4000, 400)).mean(1)
    # A standard deviation of 4,000 means is known to about 1 %.
    assert standard_error(differences.tolist()) == pytest.approx(means.std(), rel=0.05)
    assert standard_error([1.0]) is None
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)


def test_nothing_to_choose_is_said_in_one_line():
    fixed = Span(low=4, high=4)
    choices = Choices(weight_bits=fixed, spike_bits=fixed, time_steps=Span(low=1, high=1))
    net, samples = static_network(), static_samples()
    quantized = bitsearch.quantize(net, samples.tensors[0], choices=choices)
    with pytest.raises(InputError, match="nothing to measure; widen choices"):
        measure_sensitivities(quantized, samples, CLASSIFICATION, count=4, batch_size=4)


def test_weights_that_are_not_finite_are_said_in_one_line():
    net, samples = static_network(), static_samples()
    quantized = at_its_finest(net, samples.tensors[0])
    with torch.no_grad():
        quantized.network[5].bias.fill_(torch.nan)
    with pytest.raises(InputError, match="the loss is nan"):
        measure_sensitivities(quantized, samples, CLASSIFICATION, count=4, batch_size=4)


def test_as_many_samples_as_take_two_epochs():
    # A pass takes 1 + 1.15·T of a float one's time, and half of the network is left to run.
    assert sample_count(50_000, 850, 4) == int(6 * 50_000 / (850 * 5.6 / 2))
    assert sample_count(50_000, 850, 1) == int(6 * 50_000 / (850 * 2.15 / 2))
    assert sample_count(100, 850, 4) == LEAST
    assert sample_count(10**6, 10, 4) == MOST
