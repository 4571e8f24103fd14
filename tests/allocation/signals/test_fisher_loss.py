import copy
import itertools
import math
from contextlib import nullcontext

import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based import layer as spiking
from tolerances import rounding, summed
from torch import nn
from torch.nn import functional as F

from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.latent_gradient import LatentGradientCallback
from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Choices, Span
from bitsearch.data import load_data
from bitsearch.learnable import quantize
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.quant import uniform
from bitsearch.quant.recomputation import recomputed_operands
from bitsearch.quant.renewal import renew_step
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.train.tasks.losses import fisher_slopes
from bitsearch.training import Training


def learnable(network, images, bits=3, time_steps=1, **options):
    start = UniformBits(weight_bits=bits, spike_bits=bits, time_steps=time_steps)
    return quantize(network, images[:32], start=start, **options)


def probed(network, batch, seed=0, **options):
    """(quantized network, curvature after one probe)."""
    quantized = learnable(network, batch[0], **options)
    curvature = FisherLossModel(quantized, seed)
    curvature.probe(batch[0])
    return quantized, curvature


def step(signal, inputs):
    """What the training loop does of a batch before it asks for the penalty."""
    signal.before_batch(inputs)
    signal.after_forward(signal.network(inputs))


def with_bits(weight_bits=3, spike_bits=(3,)):
    return LayerPlan(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=len(spike_bits))


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_predicted_losses_fall_with_every_bit_and_time_step(network, batch, granularity):
    quantized, curvature = probed(network, batch, granularity=granularity)
    assert len(quantized.searched_layers) == 3
    for name in quantized.searched_layers:
        weights = [curvature.weight_loss(name, bits) for bits in range(1, 9)]
        spikes = [curvature.spike_loss(name, (bits, bits)) for bits in range(1, 9)]
        for losses in (weights, spikes):
            assert all(fewer > more for fewer, more in itertools.pairwise(losses))
            assert losses[-1] > 0
        for bits in (1, 2, 3):
            times = [curvature.spike_loss(name, (bits,) * steps) for steps in range(1, 5)]
            assert times == sorted(times, reverse=True)
            assert times[0] > times[-1] > 0


def random_slopes(logits, seed):
    """The loss's slopes at the logits by the definition √p·ε − p·Σ√p·ε, in float64."""
    signs = torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    p = logits.detach().double().softmax(-1)
    return (p.sqrt() * signs - p * (p.sqrt() * signs).sum(-1, keepdim=True)).float() / len(logits)


def test_the_slopes_have_the_covariance_of_sampled_labels():
    logits = torch.tensor([[0.3, -1.0, 2.0, 9.0]])
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)))
    slopes = fisher_slopes(logits.expand(16, 4), every).double()
    p = logits[0].double().softmax(-1)
    # Of a label's loss, −log p_y, the slopes are p − onehot(y), with probability p_y.
    each = p - torch.eye(4, dtype=torch.float64)
    sampled = (p[:, None, None] * each[:, :, None] * each[:, None, :]).sum(0)
    torch.testing.assert_close(slopes.T @ slopes / 16, sampled, **summed(64))


def test_the_fisher_is_that_of_labels_as_the_networks_output_distributes_them(network, batch):
    images, _ = batch
    quantized, curvature = probed(network, batch, seed=5)
    operands = {}
    for name, layer in quantized.searched_layers.items():
        layer.observer = lambda x, spikes, weight, name=name: operands.update({name: (x.detach(), spikes, weight)})
    logits = quantized(images)
    flat = [operand for _, spikes, weight in operands.values() for operand in (spikes, weight)]
    gradients = iter(torch.autograd.grad(logits, flat, random_slopes(logits, 5)))
    two = torch.tensor(2.0)
    for name, (x, _, _) in operands.items():
        spike_gradient, weight_gradient = next(gradients), next(gradients)
        weight = quantized.layers[name].weight.detach()
        error = uniform.quantize(weight, renew_step(weight, two, signed=True), two, signed=True) - weight
        expected = 0.5 * float((128 * weight_gradient.square() * error.square()).sum())
        # Sums of squares over at most 640 weights, in any order; then over samples and over features.
        assert curvature.weight_loss(name, 2) == pytest.approx(expected, rel=2 * rounding(640 + 16))

        # The tiny network's 64 features a layer are few enough to be measured all, so the sample is no sample.
        assert x[0].numel() == 64
        error = uniform.quantize(x, renew_step(x, two, signed=False), two, signed=False) - x
        per_feature = (128 * spike_gradient.square()).sum(0) * error.square().mean(0)
        assert curvature.spike_loss(name, (2,)) == pytest.approx(
            0.5 * float(per_feature.sum()), rel=2 * rounding(2 * 128 + 64)
        )


def test_the_fisher_is_not_negative_and_smoothed_over_probes(network, batch):
    quantized, curvature = probed(network, batch)
    first = {name: state.weight_fisher.clone() for name, state in curvature.states.items()}
    alone = FisherLossModel(quantized, 0)
    alone.generator = curvature.generator.clone_state()
    before = copy.deepcopy(quantized.state_dict())
    curvature.probe(batch[0])
    quantized.load_state_dict(before)
    alone.probe(batch[0])
    for name, state in curvature.states.items():
        assert (state.weight_fisher >= 0).all()
        assert (state.feature_fisher >= 0).all()
        assert state.weight_fisher.sum() > 0
        expected = 0.7 * first[name] + 0.3 * alone.states[name].weight_fisher
        torch.testing.assert_close(state.weight_fisher, expected)


def test_a_new_probe_replaces_the_predictions(network, batch):
    quantized, curvature = probed(network, batch)
    name = next(iter(quantized.searched_layers))
    before = curvature.weight_loss(name, 2), curvature.spike_loss(name, (2,))
    curvature.probe(batch[0][:64] * 0.5)
    after = curvature.weight_loss(name, 2), curvature.spike_loss(name, (2,))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_seed_decides_the_sampled_labels(network, batch):
    def prediction(seed):
        _, curvature = probed(copy.deepcopy(network), batch, seed)
        return [curvature.weight_loss(name, 2) for name in curvature.states]

    assert prediction(3) == prediction(3)
    assert prediction(3) != prediction(4)


def test_a_probe_leaves_parameters_gradients_and_observers_as_they_were(network, batch):
    quantized = learnable(network, batch[0])
    quantized(batch[0])
    before = {name: value.clone() for name, value in quantized.named_parameters()}
    FisherLossModel(quantized, 0).probe(batch[0])
    for name, parameter in quantized.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
    assert all(layer.observer is None for layer in quantized.layers.values())


@pytest.mark.parametrize("recompute", [False, True])
def test_a_probe_within_a_training_step_measures_the_same_and_leaves_its_gradients_alone(network, batch, recompute):
    images, labels = batch
    with recomputed_operands() if recompute else nullcontext():
        quantized = learnable(network, images)
        F.cross_entropy(quantized(images), labels).backward()
        expected = {name: parameter.grad for name, parameter in quantized.named_parameters()}
        apart = FisherLossModel(quantized, 7)
        apart.probe(images)

        quantized.zero_grad()
        within = FisherLossModel(quantized, 7)
        within.watch()
        logits = quantized(images)
        within.unwatch()
        within.measure(logits)
        F.cross_entropy(logits, labels).backward()
    for name, parameter in quantized.named_parameters():
        assert (parameter.grad is None) == (expected[name] is None)
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, expected[name])
    for name, state in within.states.items():
        assert torch.equal(state.weight_fisher, apart.states[name].weight_fisher)
        assert torch.equal(state.feature_fisher, apart.states[name].feature_fisher)
        assert torch.equal(state.inputs, apart.states[name].inputs)
    assert not within.calls
    assert all(layer.observer is None for layer in quantized.layers.values())


@pytest.mark.parametrize("preference", [-1.5, 2.0])
def test_a_depth_preference_shifts_sensitivity_between_the_first_and_the_last_layers(network, batch, preference):
    quantized, plain = probed(network, batch)
    shifted = FisherLossModel(quantized, 0, preference)
    shifted.states = plain.states
    # Depth runs from −1/2 at the network's first layer to 1/2 at its last: 0 is not searched, 3, 6 and 10 are.
    for name, depth in (("3", -1 / 6), ("6", 1 / 6), ("10", 1 / 2)):
        factor = math.exp(preference * depth)
        for bits in (1, 4):
            assert shifted.weight_loss(name, bits) == pytest.approx(factor * plain.weight_loss(name, bits))
        for bits in ((1,), (2, 2)):
            assert shifted.spike_loss(name, bits) == pytest.approx(factor * plain.spike_loss(name, bits))


def test_of_the_weights_loss_a_share_counts_and_the_spikes_whole(network, batch):
    quantized, plain = probed(network, batch)
    tolerant = FisherLossModel(quantized, 0, weight_tolerance=0.25)
    tolerant.states = plain.states
    for name in quantized.searched_layers:
        assert tolerant.weight_loss(name, 1) == 0.25 * plain.weight_loss(name, 1) > 0
        assert tolerant.spike_loss(name, (1,)) == plain.spike_loss(name, (1,)) > 0


def deep_network(seed):
    torch.manual_seed(seed)
    modules, channels = [], 1
    for outputs, stride in ((8, 2), (8, 1), (8, 1), (8, 1), (8, 1)):
        modules += [nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=False)]
        modules += [nn.BatchNorm2d(outputs), nn.ReLU()]
        channels = outputs
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(channels * 16, 10))


def spearman(one, other):
    one, other = (torch.tensor(values).argsort().argsort().double() for values in (one, other))
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def test_the_prediction_ranks_layers_as_the_training_loss_really_changes():
    splits = load_data("digits", {}, split_seed=0)
    images, labels = splits.train.tensors
    correlations = {"weight": [], "spike": []}
    for seed in range(4):
        network = deep_network(seed)
        train(network, TrainingSession(splits, Training(learning_rate=5e-3)), epochs=4, seed=seed, phase="float")
        quantized = learnable(network, images, bits=3, time_steps=2)
        still = {"bits_learning_rate": 1e-9, "time_learning_rate": 1e-9}
        session = TrainingSession(splits, Training())
        train(quantized, session, epochs=3, seed=seed, phase="quantized", latent_rates=still)
        plans = quantized.layer_plans
        curvature = FisherLossModel(quantized, seed)
        quantized.train()
        for part in images.split(256)[:4]:
            curvature.probe(part)

        @torch.no_grad()
        def loss(changes, quantized=quantized, plans=plans):
            changed = copy.deepcopy(quantized)
            changed.fix(plans | changes)
            return F.cross_entropy(changed(images), labels).item()

        base = loss({})
        for kind in ("weight", "spike"):
            predicted, measured = [], []
            for name in quantized.searched_layers:
                if kind == "weight":
                    fewer = with_bits(2, (3, 3))
                    predicted.append(curvature.weight_loss(name, 2) - curvature.weight_loss(name, 3))
                else:
                    fewer = with_bits(3, (2, 2))
                    predicted.append(curvature.spike_loss(name, (2, 2)) - curvature.spike_loss(name, (3, 3)))
                measured.append(loss({name: fewer}) - base)
            assert min(predicted) > 0
            if kind == "weight":
                assert sum(change > 0 for change in measured) >= len(measured) - 1
            correlations[kind].append(spearman(predicted, measured))
    assert min(sum(found) for found in correlations.values()) > 0, correlations
    # Of five layers in a random order a correlation has a deviation of 1/√(5 − 1); this is three of a mean of eight.
    assert sum(map(sum, correlations.values())) / 8 > 3 * 0.5 / 8**0.5, correlations


def test_the_signals_gradient_is_the_predicted_change_on_the_latents_side(network, batch):
    quantized = learnable(network, batch[0], bits=3, time_steps=2)
    signal = LatentGradientCallback(quantized, Allocation(), seed=0)
    step(signal, batch[0])
    curvature = signal.curvature
    with torch.no_grad():
        for name, offset in (("3", 0.3), ("6", -0.3)):
            layer = quantized.layers[name]
            for latent in (layer.weight_latent, layer.spike_latent, layer.time_latent):
                latent.add_(offset)
    signal.penalty().backward()

    def change(name, here, there):
        weights = curvature.weight_loss(name, there.weight_bits) - curvature.weight_loss(name, here.weight_bits)
        spikes = curvature.spike_loss(name, there.spike_bits) - curvature.spike_loss(name, here.spike_bits)
        return weights + spikes

    here = with_bits(3, (3, 3))
    for name, one in (("3", 1), ("6", -1)):
        layer = quantized.layers[name]
        assert layer.weight_latent.grad.item() == pytest.approx(one * change(name, here, with_bits(3 + one, (3, 3))))
        expected = [
            one * change(name, here, with_bits(3, (3 + one, 3))),
            one * change(name, here, with_bits(3, (3, 3 + one))),
        ]
        assert layer.spike_latent.grad.tolist() == pytest.approx([*expected, 0, 0])
        assert layer.time_latent.grad.item() == pytest.approx(one * change(name, here, with_bits(3, (3,) * (2 + one))))
        assert max(layer.weight_latent.grad, layer.time_latent.grad, *layer.spike_latent.grad[:2]) < 0


GAPS = Choices(weight_bits=[1, 2, 4, 8], spike_bits=[1, 4, 8], time_steps=[1, 2, 4])


@pytest.mark.parametrize("direction", [1, -1])
def test_where_widths_are_missing_the_slope_is_that_of_a_single_bit(network, batch, direction):
    quantized = quantize(
        network, batch[0][:32], choices=GAPS, start=UniformBits(weight_bits=4, spike_bits=4, time_steps=2)
    )
    signal = LatentGradientCallback(quantized, Allocation(), seed=0)
    step(signal, batch[0])
    layer, curvature = quantized.layers["3"], signal.curvature
    with torch.no_grad():
        for latent in (layer.weight_latent, layer.spike_latent, layer.time_latent):
            latent.add_(direction * 0.3)
    signal.penalty().backward()
    # From 4 bits, 4 bits a spike and 2 steps: the next values, and how far away they are.
    bits, level, count = (8, 8, 4) if direction > 0 else (2, 1, 1)
    bits_away, levels_away, steps_away = (4, 4, 2) if direction > 0 else (2, 3, 1)
    here = curvature.spike_loss("3", (4, 4))
    slope = direction * (curvature.weight_loss("3", bits) - curvature.weight_loss("3", 4)) / bits_away
    assert layer.weight_latent.grad.item() == pytest.approx(slope)
    slopes = [direction * (curvature.spike_loss("3", to) - here) / levels_away for to in ((level, 4), (4, level))]
    assert layer.spike_latent.grad.tolist() == pytest.approx([*slopes, 0, 0])
    slope = direction * (curvature.spike_loss("3", (4,) * count) - here) / steps_away
    assert layer.time_latent.grad.item() == pytest.approx(slope)


def test_the_signal_probes_every_few_batches_and_follows_the_bits_in_between(network, batch):
    quantized = learnable(network, batch[0], bits=3)
    signal = LatentGradientCallback(quantized, Allocation(probe_every=3), seed=0)
    probes = []
    slopes = []
    for _ in range(7):
        step(signal, batch[0])
        probes.append(signal.curvature.states["3"].probes)
        quantized.zero_grad()
        signal.penalty().backward()
        slopes.append(quantized.layers["3"].weight_latent.grad.item())
        if signal.batch == 5:
            with torch.no_grad():
                quantized.layers["3"].weight_latent.fill_(2.0)
            quantized.round_latents()
    assert probes == [1, 1, 1, 2, 2, 2, 3]
    assert slopes[0] == slopes[2] != slopes[3] == slopes[4]
    # At two bits a bit more is worth more than at three.
    assert slopes[5] < slopes[4]


def test_at_the_bounds_the_signal_has_no_slope_outwards(network, batch):
    quantized = learnable(network, batch[0], bits=8, time_steps=4)
    signal = LatentGradientCallback(quantized, Allocation(), seed=0)
    step(signal, batch[0])
    signal.penalty().backward()
    for layer in quantized.searched_layers.values():
        assert layer.weight_latent.grad == 0
        assert layer.spike_latent.grad.tolist() == [0, 0, 0, 0]
        assert layer.time_latent.grad == 0


def test_with_the_published_gradient_the_signal_only_measures(network, batch):
    quantized = learnable(network, batch[0])
    signal = LatentGradientCallback(quantized, Allocation(estimator="straight_through"), seed=0)
    step(signal, batch[0])
    assert signal.penalty() is None
    assert signal.curvature.weight_loss("3", 2) > 0
    F.cross_entropy(quantized(batch[0]), batch[1]).backward()
    assert quantized.layers["10"].time_latent.grad != 0


def framed_network():
    torch.manual_seed(0)
    network = nn.Sequential(
        spiking.Linear(6, 8), spiking.BatchNorm1d(8), nn.ReLU(), spiking.Linear(8, 8), nn.ReLU(), spiking.Linear(8, 4)
    )
    functional.set_step_mode(network, "m")
    return network


@pytest.fixture
def framed():
    """(quantized network, curvature after one probe, inputs ``[6, 32, 6]``)."""
    inputs = torch.rand(6, 32, 6, generator=torch.Generator().manual_seed(1))
    start = UniformBits(weight_bits=4, spike_bits=3, time_steps=3)
    quantized = quantize(framed_network(), inputs, start=start, choices=Choices(time_steps=Span(low=1, high=6)))
    curvature = FisherLossModel(quantized, 0, batch_axis=1)
    curvature.probe(inputs)
    return quantized, curvature, inputs


def test_with_a_time_axis_more_bits_lose_less(framed):
    quantized, curvature, _ = framed
    for name in quantized.searched_layers:
        widths = [curvature.spike_loss(name, (bits,) * 6) for bits in (1, 2, 4, 8)]
        assert widths == sorted(widths, reverse=True)
        assert widths[-1] > 0


def test_with_a_time_axis_the_fisher_couples_the_frames(framed):
    quantized, curvature, inputs = framed
    name = "3"
    layer = quantized.layers[name]
    seen = {}
    layer.observer = lambda x, spikes, weight: seen.update(x=x.detach(), spikes=spikes)
    logits = quantized(inputs).mean(0)
    layer.observer = None
    (gradient,) = torch.autograd.grad(logits, seen["spikes"], random_slopes(logits, 0))
    # Three time steps show two frames each; a sample's gradient is spread over both.
    by_frame = (32 * gradient / 2).repeat_interleave(2, 0)
    eight = torch.tensor(8.0)
    held, residual = [], 0.0
    for t in range(2):
        membrane = seen["x"].unflatten(0, (2, 3)).mean(1)[t] + residual
        spikes = uniform.quantize(membrane, renew_step(membrane, eight, signed=False), eight, signed=False)
        residual = membrane - spikes
        held += [spikes] * 3

    def loss(error):
        # Mean over the gradients' samples and over the errors', feature by feature: ½·(Σ_f g_f·e_f)².
        return 0.5 * float(torch.einsum("fnk,fmk->nmk", by_frame, error).square().mean((0, 1)).sum())

    # Sums over six frames, 32 gradients, 32 errors and eight features. An error at a rounding boundary is half a step
    # on either side of it.
    of_neuron = loss(torch.stack(held) - seen["x"].unflatten(0, (2, 3)).mean(1).repeat_interleave(3, 0))
    assert curvature.spike_loss(name, (8, 8)) == pytest.approx(of_neuron, rel=2 * rounding(6 + 32 * 32 + 8))
