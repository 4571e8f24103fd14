import copy

import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from tolerances import FLOAT64
from torch import nn

from bitsearch.choices import FirstLayer
from bitsearch.errors import InputError
from bitsearch.learnable import quantize
from bitsearch.plan import UniformBits
from bitsearch.quant import uniform
from bitsearch.train.evaluate import evaluate, evaluate_with_activity, measure_activity, score_row


@pytest.fixture
def quantized(network, batch):
    """Three weight bits, two spike bits, three time steps; steps set."""
    found = quantize(network, batch[0][:32], start=UniformBits(weight_bits=3, spike_bits=2, time_steps=3))
    found(batch[0])
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_accuracy_is_the_share_of_right_labels_whatever_the_batches(network, splits, batch_size):
    images, labels = splits.validation.tensors
    expected = int((network.eval()(images).argmax(1) == labels).sum())
    assert 0 < expected < len(labels)
    assert evaluate(network, splits.validation, batch_size) == expected / len(labels)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_mode_and_state_as_they_were(quantized, splits, training):
    quantized.train(training)
    before = {name: value.clone() for name, value in quantized.state_dict().items()}
    evaluate(quantized, splits.validation, 32)
    evaluate_with_activity(quantized, splits.validation, 32)
    measure_activity(quantized, splits.validation.tensors[0][:7])
    assert all(module.training == training for module in quantized.modules())
    assert all(layer.observer is None for layer in quantized.layers.values())
    for name, value in quantized.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_mode_comes_back_after_a_failure(network, splits):
    broken = nn.Sequential(network, nn.Linear(3, 3)).train()
    with pytest.raises(RuntimeError, match="shapes"):
        evaluate(broken, splits.validation, 32)
    assert broken.training


@pytest.mark.parametrize("measure", [evaluate, score_row])
def test_one_row_of_logits_is_not_repeated_for_all_samples(measure, network, splits):
    class FirstOnly(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)[:1]

    with pytest.raises(InputError, match="returns 1 rows of logits for 32 samples"):
        measure(FirstOnly(), splits.validation, 32)


def recorded(quantized, images):
    """Layer name to every time step's spikes, ``[T, N, ...]``, by the neuron's own equations."""
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda module, args, output, name=name: seen.update({name: args[0]}))
        for name, layer in quantized.layers.items()
    ]
    with torch.no_grad():
        quantized.eval()(images)
    for hook in hooks:
        hook.remove()
    spikes = {}
    for name, layer in quantized.layers.items():
        membrane, steps = seen[name], []
        for t in range(layer.active_steps):
            fired = uniform.quantize(
                membrane, layer.spike_step[t], layer.spike_bits[t], signed=layer.signed_input
            ).detach()
            steps.append(fired)
            membrane = seen[name] + (membrane - fired)
        spikes[name] = torch.stack(steps)
    return spikes


def test_firing_and_synaptic_rates_are_plain_counts(quantized, splits):
    spikes = recorded(quantized, splits.validation.tensors[0])
    accuracy, activity = evaluate_with_activity(quantized, splits.validation, 32)
    assert activity.firing_rate == pytest.approx({name: (s != 0).double().mean().item() for name, s in spikes.items()})
    assert list(activity.firing_rate) == list(activity.synaptic_rate) == list(quantized.layers)
    assert accuracy == evaluate(quantized, splits.validation, 100)
    assert all(0 < rate < 1 for rate in list(activity.firing_rate.values())[1:])
    # Every spike reaches the outputs of the linear layer; at a convolution's edges there are fewer.
    assert activity.synaptic_rate["10"] == pytest.approx(activity.firing_rate["10"], rel=FLOAT64)
    for geometry in quantized.model.layers[1:3]:
        found = (spikes[geometry.name] != 0).double()
        ones = torch.ones(4, 4, 3, 3, dtype=torch.float64)
        connections = sum(nn.functional.conv2d(step, ones, padding=1).sum() for step in found)
        expected = connections / (len(found) * found.shape[1] * geometry.macs)
        assert activity.synaptic_rate[geometry.name] == pytest.approx(expected.item(), rel=FLOAT64)
        assert activity.synaptic_rate[geometry.name] != pytest.approx(activity.firing_rate[geometry.name], rel=1e-3)


@pytest.mark.parametrize("batch_size", [7, 100])
def test_rates_are_over_all_samples_whatever_the_batches(quantized, splits, batch_size):
    _, activity = evaluate_with_activity(quantized, splits.validation, batch_size)
    at_once = measure_activity(quantized.train(), splits.validation.tensors[0])
    assert activity.firing_rate == pytest.approx(at_once.firing_rate, rel=FLOAT64)
    assert activity.synaptic_rate == pytest.approx(at_once.synaptic_rate, rel=FLOAT64)


def test_the_costs_that_need_spikes_follow_from_the_rates(quantized, splits):
    _, activity = evaluate_with_activity(quantized, splits.validation, 100)
    model, plans = quantized.model, quantized.layer_plans
    costs = model.costs(plans, activity)
    own = model.layer_costs("s_ace", plans)
    assert costs["ns_ace"] == pytest.approx(sum(own[name] * rate for name, rate in activity.firing_rate.items()))
    assert 0 < costs["ns_ace"] < costs["s_ace"]


class TimeStepsInTurn(nn.Module):
    """A layer that does what a quantized one does, a time step's spikes after the other's."""

    def __init__(self, layer, plain):
        super().__init__()
        self.layer, self.plain = layer, plain
        plain.weight.data = layer.quantized_weight().detach()

    def forward(self, x):
        """The mean of the time steps' outputs."""
        total, membrane = 0.0, x
        for t in range(self.layer.active_steps):
            step, bits = self.layer.spike_step[t], self.layer.spike_bits[t]
            spikes = uniform.quantize(membrane, step, bits, signed=self.layer.signed_input)
            total = total + self.plain((spikes != 0).to(x)) * (step if bits == 1 else torch.nan)
            membrane = x + (membrane - spikes)
        return total / self.layer.active_steps


def test_synops_of_binary_spikes_equal_spikingjellys_count_of_the_whole_network(network, splits):
    images, _ = splits.validation.tensors
    # The first layer's input is made binary too, and none of its values is negative.
    # In float64, where the two orders of its sums end on the same sides of rounding boundaries.
    images = (images > images.mean()).double()
    quantized = quantize(
        network.double(),
        images[:32],
        start=UniformBits(weight_bits=4, spike_bits=1, time_steps=3),
        first_layer=FirstLayer(weight_bits=8, spike_bits=1, time_steps=1),
    )
    quantized(images)
    quantized.eval()
    assert not any(layer.signed_input for layer in quantized.layers.values())
    unrolled = copy.deepcopy(quantized.network)
    for name, layer in quantized.layers.items():
        plain = copy.deepcopy(network.get_submodule(name))
        bias, plain.bias = plain.bias, None
        unrolled.set_submodule(name, nn.Sequential(TimeStepsInTurn(layer, plain), Bias(bias)))
    counter = SynOpCounter()
    with torch.no_grad():
        expected = quantized(images)
        with DispatchCounterMode([counter]):
            logits = unrolled(images)
    # It is the same network, so it fires the same spikes.
    torch.testing.assert_close(logits, expected, rtol=FLOAT64, atol=FLOAT64)
    activity = measure_activity(quantized, images)
    synops = quantized.model.cost("synops", quantized.layer_plans, activity)
    assert synops * len(images) == pytest.approx(counter.get_total(), rel=FLOAT64)
    assert 0 < synops < sum(layer.macs for layer in quantized.model.layers) * 3


class Bias(nn.Module):
    """Adds a bias to ``[N, C]``, or nothing."""

    def __init__(self, bias):
        super().__init__()
        self.bias = bias

    def forward(self, x):
        """Shaped like the input."""
        return x if self.bias is None else x + self.bias
