import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from torch import nn
from torch.nn import functional as F

from bitsearch.choices import Choices, Span
from bitsearch.data import load_data
from bitsearch.layers import convert
from bitsearch.learnable import quantize as make_learnable
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.quant import renewal, uniform
from bitsearch.quant.uniform import SMALLEST_STEP, quantize


def renew_step(*arguments, **options):
    """The renewed step as a layer keeps it, by its logarithm."""
    return renewal.renew_step(*arguments, **options).log().exp()


def initial_step(*arguments, **options):
    """The starting step as a layer keeps it, by its logarithm."""
    return uniform.initial_step(*arguments, **options).log().exp()


def searchable_linear(weight_bits=4, spike_bits=(4,), choices=None, **options):
    torch.manual_seed(0)
    plan = LayerPlan(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=len(spike_bits), **options)
    return convert(nn.Sequential(nn.Linear(12, 6)), {"0": plan}, {"0": choices or Choices()})[0]


def inputs(seed=0, scale=1.0):
    return torch.rand(32, 12, generator=torch.Generator().manual_seed(seed)) * scale


def state_of(layer):
    return {name: value.clone() for name, value in layer.state_dict().items()}


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_steps_are_set_on_the_first_batch_and_only_then(granularity):
    layer = searchable_linear(granularity=granularity)
    before = state_of(layer)
    assert before["weight_step_bits"] == 0
    assert before["spike_step_bits"].tolist() == [0, 0, 0, 0]
    layer(inputs())
    first = state_of(layer)
    assert first["weight_step_bits"] == 4
    assert first["spike_step_bits"].tolist() == [4, 0, 0, 0]
    assert first["weight_log_step"].shape == ((6, 1) if granularity == "channel" else ())
    assert torch.equal(first["spike_log_step"].exp()[0], renew_step(inputs(), torch.tensor(4.0), signed=False))
    layer(inputs(1, scale=5))
    for name, value in first.items():
        assert torch.equal(state_of(layer)[name], value), name


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_without_renewal_steps_start_at_lsqs_value_and_stay(granularity):
    layer = searchable_linear(granularity=granularity)
    layer.renew_weights = layer.renew_spikes = False
    four = torch.tensor(4.0)
    layer(inputs())
    weight_step = initial_step(layer.weight, four, signed=True, per_channel=granularity == "channel")
    spike_step = initial_step(inputs(), four, signed=False)
    assert torch.equal(layer.weight_step, weight_step)
    assert torch.equal(layer.spike_step[0], spike_step)
    layer.round_latents(2.0, [3.0], 1.0)
    layer(inputs())
    assert layer.layer_plan.weight_bits == 2
    assert torch.equal(layer.weight_step, weight_step)
    assert torch.equal(layer.spike_step[0], spike_step)


def test_a_changed_bit_width_renews_its_step_in_the_same_forward_pass():
    layer, x = searchable_linear(), inputs()
    layer(x)
    old = state_of(layer)
    assert layer.round_latents(2.0, [4.0], 1.0)
    output = layer(x)
    two, four = torch.tensor(2.0), torch.tensor(4.0)
    renewed = renew_step(layer.weight, two, signed=True)
    assert torch.equal(layer.weight_step, renewed)
    assert torch.equal(layer.spike_step[0], old["spike_log_step"].exp()[0])
    spikes = quantize(x, old["spike_log_step"].exp()[0], four, signed=False)
    assert torch.equal(output, F.linear(spikes, quantize(layer.weight, renewed, two, signed=True), layer.bias))

    assert layer.round_latents(2.0, [1.0], 1.0)
    layer(x)
    assert torch.equal(layer.weight_step, renewed)
    assert torch.equal(layer.spike_step[0], renew_step(x, torch.tensor(1.0), signed=False))


def test_weights_and_spikes_stop_renewing_separately():
    layer, x = searchable_linear(), inputs()
    layer(x)
    old = state_of(layer)
    layer.renew_weights = False
    layer.round_latents(2.0, [2.0], 1.0)
    layer(x)
    assert torch.equal(layer.weight_step, old["weight_log_step"].exp())
    assert torch.equal(layer.spike_step[0], renew_step(x, torch.tensor(2.0), signed=False))


def test_a_latent_that_rests_half_way_does_not_flip_the_bits():
    layer = searchable_linear()
    for value in (3.5, 3.52, 3.48, 3.46, 3.5, 4.5, 4.54, 4.48):
        assert not layer.round_latents(value, [value], 1.0)
    assert layer.round_latents(3.44, [4.0], 1.0)
    for value in (3.5, 3.52, 3.48, 3.54, 3.5):
        assert not layer.round_latents(value, [4.0], 1.0)
    assert layer.layer_plan.weight_bits == 3
    assert layer.round_latents(3.56, [4.0], 1.0)
    assert layer.layer_plan.weight_bits == 4
    assert not layer.round_latents(4.0, [4.0], 1.5)
    assert layer.round_latents(4.0, [4.0], 1.56)
    assert not layer.round_latents(4.0, [4.0, 4.0], 1.5)


def test_every_allowed_value_is_reached_by_its_latent():
    layer = searchable_linear()
    for bits in (1, 8, 5):
        layer.round_latents(float(bits), [float(bits)] * 4, 4.0)
        assert layer.layer_plan == LayerPlan(weight_bits=bits, spike_bits=(bits,) * 4, time_steps=4)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_a_time_step_that_comes_into_use_gets_its_predecessors_bits_and_a_fresh_step(decay):
    layer, x = searchable_linear(spike_bits=(5,), decay=decay), inputs()
    layer(x)
    with torch.no_grad():
        layer.spike_latent.copy_(torch.tensor([5.0, 1.0, 1.0, 1.0]))
        layer.spike_log_step[1] = 4.8
    first_step = layer.spike_step[0].clone()
    assert layer.round_latents(4.0, layer.spike_latent.tolist(), 2.0)
    assert layer.layer_plan.spike_bits == (5, 5)
    assert layer.spike_latent.tolist()[:2] == [5.0, 5.0]
    layer(x)
    five = torch.tensor(5.0)
    membrane = decay * (x - quantize(x, first_step, five, signed=False)) + x
    assert torch.equal(layer.spike_step[0], first_step)
    assert torch.equal(layer.spike_step[1], renew_step(membrane, five, signed=False))


def test_a_time_step_that_comes_back_gets_a_fresh_step():
    layer = searchable_linear(spike_bits=(4, 4))
    layer(inputs())
    layer.round_latents(4.0, [4.0, 4.0], 1.0)
    assert layer.layer_plan.spike_bits == (4,)
    layer.round_latents(4.0, [4.0, 4.0], 2.0)
    x = inputs(1, scale=10)
    layer(x)
    four = torch.tensor(4.0)
    membrane = x - quantize(x, layer.spike_step[0], four, signed=False) + x
    assert torch.equal(layer.spike_step[1], renew_step(membrane, four, signed=False))


def test_fixing_a_plan_with_a_time_step_that_was_out_of_use_gives_it_a_fresh_step():
    layer = searchable_linear(spike_bits=(4, 4))
    layer(inputs())
    layer.round_latents(4.0, [4.0, 4.0], 1.0)
    layer.fix(LayerPlan(weight_bits=4, spike_bits=(4, 4), time_steps=2))
    x = inputs(1, scale=10)
    layer(x)
    four = torch.tensor(4.0)
    membrane = x - quantize(x, layer.spike_step[0], four, signed=False) + x
    assert torch.equal(layer.spike_step[1], renew_step(membrane, four, signed=False))


SPANS = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(lambda pair: Span(low=min(pair), high=max(pair)))


@examples(40)
@given(weights=SPANS, spikes=SPANS, times=SPANS, seed=st.integers(0, 1000), size=st.sampled_from([0.3, 3.0, 100.0]))
def test_random_updates_never_take_latents_or_bits_out_of_bounds(weights, spikes, times, seed, size):
    choices = Choices(weight_bits=weights, spike_bits=spikes, time_steps=times)
    layer = searchable_linear(weights.high, (spikes.low,) * times.low, choices)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(6):
        with torch.no_grad():
            for parameter in (layer.weight_latent, layer.spike_latent, layer.time_latent):
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
            layer.weight_log_step.sub_(10)
            layer.spike_log_step.sub_(10)
        layer.clamp_parameters()
        assert weights.low <= layer.weight_latent <= weights.high
        assert (layer.spike_latent >= spikes.low).all()
        assert (layer.spike_latent <= spikes.high).all()
        assert times.low <= layer.time_latent <= times.high
        assert min(layer.weight_step.min(), layer.spike_step.min()) >= SMALLEST_STEP * 0.999
        weight, time_steps, *bits = layer.latents.tolist()
        layer.round_latents(weight, bits, time_steps)
        plan = layer.layer_plan
        assert plan.weight_bits in weights
        assert plan.time_steps in times
        assert all(bits in spikes for bits in plan.spike_bits)


def test_fix_drops_the_latents_and_computes_with_the_plans_bits():
    layer, x = searchable_linear(spike_bits=(4, 4)), inputs()
    layer(x)
    kept = layer.weight_step.clone()
    plan = LayerPlan(weight_bits=4, spike_bits=(4, 2, 1), time_steps=3)
    layer.fix(plan)
    assert not layer.is_learnable
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias", "weight_log_step", "spike_log_step"}
    assert layer.layer_plan == plan
    output = layer(x)
    assert torch.equal(layer.weight_step, kept)
    membrane, total = x, torch.zeros_like(x)
    for bits, step in zip((4.0, 2.0, 1.0), layer.spike_step, strict=True):
        spikes = quantize(membrane, step, torch.tensor(bits), signed=False)
        total, membrane = total + spikes, x + (membrane - spikes)
    weight = quantize(layer.weight, layer.weight_step, torch.tensor(4.0), signed=True)
    assert torch.equal(output, F.linear(total / 3, weight, layer.bias))
    with torch.no_grad():
        layer.spike_log_step[1] += 0.4
    assert not torch.equal(layer(x), output)


def test_a_fixed_layer_renews_even_where_the_search_had_stopped_renewing():
    layer, x = searchable_linear(), inputs()
    layer.renew_weights = layer.renew_spikes = False
    layer(x)
    layer.fix(LayerPlan(weight_bits=2, spike_bits=(4,), time_steps=1))
    layer(x)
    assert torch.equal(layer.weight_step, renew_step(layer.weight, torch.tensor(2.0), signed=True))


def test_spikes_that_are_not_zero_are_counted_over_all_time_steps():
    layer, x = searchable_linear(spike_bits=(1, 1, 1)), inputs()
    layer(x)
    membrane, nonzero = x, 0
    for step in layer.spike_step[:3]:
        spikes = quantize(membrane, step, torch.tensor(1.0), signed=False)
        nonzero += int((spikes != 0).sum())
        membrane = x + (membrane - spikes)
    assert 0 < nonzero < 3 * x.numel()
    assert layer.count_spikes(x) == (nonzero, 3 * x.numel())


def network_and_data():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 10),
    )
    images, labels = load_data("digits", {}, split_seed=0).train.tensors
    return network, images[:128], labels[:128]


def search_a_little(network, optimizer, images, labels, steps):
    network.train()
    for _ in range(steps):
        loss = F.cross_entropy(network(images), labels) + network.penalty("8x", steps=10)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_a_state_dict_of_mid_search_continues_bit_for_bit_in_a_fresh_network(granularity):
    network, images, labels = network_and_data()
    options = {"start": UniformBits(weight_bits=3, spike_bits=3, time_steps=1), "granularity": granularity}
    one = make_learnable(network, images[:8], **options)
    search_a_little(one, torch.optim.Adam(one.parameter_groups(1e-2), lr=1e-2), images, labels, 4)
    with torch.no_grad():
        # Half-way latents: what they were rounded to is in the state, not in the latents alone.
        one.layers["3"].weight_latent.fill_(2.48)
        one.layers["3"].time_latent.fill_(2.0)
        one.layers["7"].spike_latent[0] = 2.0
    one(images)
    assert one.layer_plans["3"].weight_bits == 3
    assert one.layer_plans["3"].time_steps == 2
    assert one.layer_plans["7"].spike_bits == (2,)

    other = make_learnable(network, images[:8], **options)
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    assert other.layer_plans == one.layer_plans
    assert torch.equal(other.eval()(images), one.eval()(images))
    one.train(), other.train()
    assert torch.equal(other(images), one(images))
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
