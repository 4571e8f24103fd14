"""The vectorized allocation against a plain one, layer by layer."""

import pytest
import torch
from tolerances import rounding, summed

from bitsearch.choices import Choices, Span
from bitsearch.learnable import quantize
from bitsearch.plan import LayerPlan

KINDS = ("weight bits", "spike bits", "time steps")
ALLOCATIONS = {
    "as it starts": {},
    "mixed time steps": {"3": (2, (5, 1, 3)), "6": (7, (4,)), "10": (1, (8, 1, 2, 6))},
    "one step each": {"3": (2, (5,)), "6": (7, (4,)), "10": (1, (8,))},
    "one bit, all steps": dict.fromkeys(("3", "6", "10"), (1, (1, 1, 1, 1))),
}


def plain_allocation(learnable):
    """(weight bits, mean spike bits, time steps): for every layer (the rounded value, the latent's own)."""
    weights, spikes, times = [], [], []
    for layer in learnable.layers.values():
        plan = layer.layer_plan
        if layer.weight_latent is None:
            weights.append((plan.weight_bits, None))
            spikes.append((sum(plan.spike_bits) / plan.time_steps, None))
            times.append((plan.time_steps, None))
            continue
        active = layer.spike_latent[: plan.time_steps]
        weights.append((plan.weight_bits, layer.weight_latent))
        spikes.append((sum(plan.spike_bits) / plan.time_steps, sum(active) / plan.time_steps))
        times.append((plan.time_steps, layer.time_latent))
    return weights, spikes, times


def moved(network, batch, allocation, **options):
    """The learnable network with this allocation, its latents off the rounded values."""
    learnable = quantize(network, batch[0][:8], **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, (weight_bits, spike_bits) in allocation.items():
            layer = learnable.layers[name]
            layer._write(LayerPlan(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=len(spike_bits)))
        for layer in learnable.searched_layers.values():
            layer.weight_latent.copy_(layer.weight_bits + 0.4 * torch.rand((), generator=generator))
            layer.spike_latent.copy_(layer.spike_bits + 0.4 * torch.rand(4, generator=generator))
            layer.time_latent.copy_(layer.time_steps - 0.3)
    return learnable


def latents(learnable):
    return {name: value for name, value in learnable.named_parameters() if name.endswith("latent")}


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("name", ALLOCATIONS)
def test_values_are_the_rounded_ones_and_gradients_those_of_the_latents(network, batch, name, granularity):
    learnable = moved(network, batch, ALLOCATIONS[name], granularity=granularity)
    got, wanted = learnable.allocation, plain_allocation(learnable)
    generator = torch.Generator().manual_seed(1)
    for values, layers, kind in zip(got, wanted, KINDS, strict=True):
        assert values.dtype == torch.float32, kind
        assert values.tolist() == pytest.approx([rounded for rounded, _ in layers], rel=rounding(4)), kind
        weights = torch.randn(len(layers), generator=generator)
        learnable.zero_grad(set_to_none=True)
        (values * weights).sum().backward(retain_graph=True)
        found = {name: value.grad for name, value in latents(learnable).items()}
        learnable.zero_grad(set_to_none=True)
        sum(
            weight * latent for weight, (_, latent) in zip(weights, layers, strict=True) if latent is not None
        ).backward()
        for parameter, value in latents(learnable).items():
            expected = torch.zeros_like(value) if value.grad is None else value.grad
            torch.testing.assert_close(found[parameter], expected, **summed(8, 4.0), msg=f"{kind}: {parameter}")
        # The first layer is fixed: it counts, and has no latents.
        assert learnable.layers["0"].weight_latent is None


def test_unused_time_steps_get_no_gradient(network, batch):
    learnable = moved(network, batch, ALLOCATIONS["mixed time steps"])
    learnable.allocation[1].sum().backward()
    for name, share in (("3", [1 / 3] * 3 + [0]), ("6", [1, 0, 0, 0]), ("10", [1 / 4] * 4)):
        assert learnable.layers[name].spike_latent.grad.tolist() == pytest.approx(share), name


def test_the_rows_are_the_cost_models_layers(network, batch):
    learnable = moved(network, batch, ALLOCATIONS["mixed time steps"])
    model, plans = learnable.model, learnable.layer_plans
    assert [layer.name for layer in model.layers] == list(learnable.layers)
    for metric in ("bit_budget", "bit_budget_mac", "s_ace", "weight_memory"):
        assert model.cost_tensor(metric, *learnable.allocation).item() == pytest.approx(model.cost(metric, plans))


def test_a_frozen_network_has_the_values_and_no_gradients(network, batch):
    learnable = moved(network, batch, ALLOCATIONS["mixed time steps"])
    before = [values.tolist() for values in learnable.allocation]
    learnable.fix(learnable.layer_plans)
    assert [values.tolist() for values in learnable.allocation] == before
    assert not any(values.requires_grad for values in learnable.allocation)


def test_a_network_with_some_layers_frozen(network, batch):
    learnable = moved(network, batch, ALLOCATIONS["mixed time steps"])
    learnable.layers["6"].fix(learnable.layer_plans["6"])
    weights, spikes, times = learnable.allocation
    assert weights.tolist() == [8, 2, 7, 1]
    assert spikes.tolist() == pytest.approx([8, 3, 4, 17 / 4])
    assert times.tolist() == [1, 3, 1, 4]
    (weights.sum() + spikes.sum() + times.sum()).backward()
    assert {name.split(".")[1] for name, value in latents(learnable).items() if value.grad is not None} == {"3", "10"}


def test_choices_with_one_time_step_only(network, batch):
    choices = Choices(time_steps=Span(low=1, high=1))
    learnable = quantize(network, batch[0][:8], choices=choices)
    assert learnable.allocation[2].tolist() == [1, 1, 1, 1]
    learnable.allocation[1].sum().backward()
    assert learnable.layers["3"].spike_latent.grad.tolist() == [1]
