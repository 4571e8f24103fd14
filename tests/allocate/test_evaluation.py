import pytest
import torch
from torch import nn

from bitsearch.allocate.evaluation import evaluate, evaluate_with_rates
from bitsearch.allocate.quantized_network import quantize
from bitsearch.plan import UniformBits
from bitsearch.quant import uniform


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
    evaluate_with_rates(quantized, splits.validation, 32)
    assert all(module.training == training for module in quantized.modules())
    assert all(layer.observer is None for layer in quantized.layers.values())
    for name, value in quantized.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_mode_comes_back_after_a_failure(network, splits):
    broken = nn.Sequential(network, nn.Linear(3, 3)).train()
    with pytest.raises(RuntimeError, match="shapes"):
        evaluate(broken, splits.validation, 32)
    assert broken.training


def test_firing_rates_are_the_share_of_spikes_that_are_not_zero(quantized, splits):
    images, _ = splits.validation.tensors
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda module, args, output, name=name: seen.update({name: args[0]}))
        for name, layer in quantized.layers.items()
    ]
    with torch.no_grad():
        quantized.eval()(images)
    for hook in hooks:
        hook.remove()
    expected = {}
    for name, layer in quantized.layers.items():
        x, time_steps = seen[name], layer.active_steps
        membrane, nonzero = x, 0
        for t in range(time_steps):
            spikes = uniform.quantize(
                membrane, layer.spike_step[t], layer.spike_bits[t], signed=layer.signed_input
            ).detach()
            nonzero += int((spikes != 0).sum())
            membrane = x + (membrane - spikes)
        expected[name] = nonzero / (x.numel() * time_steps)
    accuracy, rates = evaluate_with_rates(quantized, splits.validation, 32)
    assert rates == pytest.approx(expected, rel=1e-12)
    assert list(rates) == list(quantized.layers)
    assert accuracy == evaluate(quantized, splits.validation, 100)
    assert all(0 < rate < 1 for rate in list(rates.values())[1:])
    # With the firing rates the costs that need them are known.
    costs = quantized.model.costs(quantized.layer_plans, rates)
    assert 0 < costs["ns_ace"] < costs["s_ace"]
