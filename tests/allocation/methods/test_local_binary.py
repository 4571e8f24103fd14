import dataclasses

import pytest
import torch
from tolerances import rounding

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.local_binary import Binarization, BinaryFlips, allocate_local_binary
from bitsearch.allocation.methods.uniform import best_uniform
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import AllowedBits, Budget, CostModel, trace
from bitsearch.errors import InputError
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits
from bitsearch.train.session import TrainingSession

START = UniformBits(weight_bits=8, spike_bits=2, time_steps=1)


@pytest.fixture
def problem(network, model, rules, splits, space):
    def make(share=0.5, on_epoch=None, **settings):
        settings = Allocation(**{"start": START} | settings)
        plan = rules.nearest(model, settings.start, granularity="layer")
        budget = Budget("weight_memory", "given", share * model.cost("weight_memory", plan))
        session = TrainingSession(splits, space.training, on_epoch=on_epoch)
        return AllocationProblem(network, model, rules, session, space, settings, [budget], seed=0)

    return make


@pytest.fixture
def binarization(problem):
    """Of four epochs, with losses that the test sets by layer."""

    def make(share, losses):
        given = problem(share)
        quantized = QuantizedNetwork.learnable(
            given.network,
            given.model,
            rules=given.rules,
            start=START,
            baseline=given.space.baseline,
            granularity="layer",
            decay=None,
        )
        callback = Binarization(quantized, given, epochs=4)
        callback.loss = lambda name: losses[name]
        return quantized, callback

    return make


def binary(quantized):
    return [name for name, plan in quantized.layer_plans.items() if plan.weight_bits == 1]


def test_every_layer_has_one_bit_or_all_and_the_methods_spike_bits_and_t_of_one(problem):
    records = []
    (network,) = allocate_local_binary(problem(0.95, on_epoch=records.append, search_share=0.5))
    _, *searched = network.layer_plans.values()
    assert {layer.weight_bits for layer in searched} == {1, 8}
    assert {(layer.spike_bits, layer.time_steps) for layer in searched} == {((2,), 1)}
    assert [record.phase for record in records] == ["binarize"] * 2 + ["fine-tune"] * 2
    assert records[1].measures["binary_layers"] >= 1


def test_a_budget_below_one_weight_bit_at_the_start_is_met_with_fewer_spike_bits(network, model, rules, splits, space):
    settings = Allocation(start=UniformBits(weight_bits=8, spike_bits=4, time_steps=2))
    budget = Budget.parse("16x", "bit_budget", model, space.baseline)
    session = TrainingSession(splits, space.training)
    problem = AllocationProblem(network, model, rules, session, space, settings, [budget], seed=0)
    binary = problem.plan(settings.start.model_copy(update={"weight_bits": 1}))
    assert model.cost("bit_budget", binary) > budget.limit
    (found,) = allocate_local_binary(problem)
    assert budget.met_by(model, found.layer_plans)
    within = best_uniform(problem, None)
    _, *searched = found.layer_plans.values()
    assert {(layer.spike_bits, layer.time_steps) for layer in searched} == {
        ((within.spike_bits,) * within.time_steps, within.time_steps)
    }
    assert {layer.weight_bits for layer in searched} <= {1, 8}


def test_a_budget_that_no_uniform_plan_meets_is_refused_in_one_line(problem):
    with pytest.raises(InputError, match="no uniform plan meets the budget given; allow more"):
        list(allocate_local_binary(problem(0.01)))


def test_the_estimate_is_that_of_the_formula(problem, binarization):
    quantized, _ = binarization(0.5, {})
    callback = Binarization(quantized, problem(), epochs=1)
    layer = quantized.layers["3"]
    layer.weight.grad = torch.full_like(layer.weight, 0.5)
    callback.after_step()
    weight = layer.weight.detach().double()
    error = weight.abs().mean() * weight.sign() - weight
    expected = abs(float((0.5 * error).sum())) + 0.5 * 0.25 * float(error.square().sum())
    # Sums over 144 weights, the first of which cancels by less than its share in the whole.
    assert callback.loss("3") == pytest.approx(expected, rel=rounding(2 * 144 + 16))


def test_the_layers_with_the_least_loss_a_bit_go_first(binarization):
    # Layer 10 has 640 weights, the others 144: its loss a bit is the least though its loss is not.
    quantized, callback = binarization(0.6, {"3": 2.0, "6": 1.0, "10": 1.5})
    callback.after_epoch(4, 1.0)
    assert binary(quantized) == ["10"]


def test_a_layer_whose_estimate_has_risen_is_released_for_a_better_one(binarization):
    losses = {"3": 3.0, "6": 1.0, "10": 1000.0}
    quantized, callback = binarization(0.93, losses)
    callback.after_epoch(4, 1.0)
    assert binary(quantized) == ["6"]
    losses["6"] = 1.4
    assert callback.after_epoch(4, 1.0)["released"] == 0.0
    assert binary(quantized) == ["6"]
    losses["6"] = 9.0
    assert callback.after_epoch(4, 1.0)["released"] == 1.0
    assert binary(quantized) == ["3"]


def test_nothing_is_released_where_no_other_layer_would_cost_less(binarization):
    losses = {"3": 3.0, "6": 1.0, "10": 1000.0}
    quantized, callback = binarization(0.93, losses)
    callback.after_epoch(4, 1.0)
    losses.update({"6": 2.0})
    assert callback.after_epoch(4, 1.0)["released"] == 0.0
    assert binary(quantized) == ["6"]


def test_weights_flip_against_a_lasting_gradient_only_and_only_after_the_plateau(problem):
    (network,) = allocate_local_binary(problem(0.4))
    flips = BinaryFlips(network, Allocation())
    name, layer = next(iter(flips.layers.items()))
    before = torch.where(layer.weight < 0, -1.0, 1.0).detach()
    for loss in (1.0, 0.5):
        flips.after_epoch(1, loss)
    flips.after_step()
    assert not flips.signs
    flips.after_epoch(2, 0.499)
    network.zero_grad()
    flips.after_step()
    # One weight is pushed down step by step, one back and forth, the others not at all.
    pushed, tossed = 0, 1
    layer.weight.data.view(-1)[:2] = layer.weight_step.detach()
    flips.signs[name].view(-1)[:2] = 1.0
    before.view(-1)[:2] = 1.0
    for step in range(40):
        gradient = torch.zeros_like(layer.weight)
        gradient.view(-1)[pushed], gradient.view(-1)[tossed] = 1.0, (-1.0) ** step
        layer.weight.grad = gradient
        flips.after_step()
        if flips.flips:
            break
    changed = (flips.signs[name] != before).view(-1).nonzero().flatten().tolist()
    assert changed == [pushed]
    layer.weight.grad.zero_()
    layer.weight.data.zero_()  # what an optimizer does to it counts for nothing
    flips.after_step()
    assert flips.after_epoch(1, 1.0)["flips"] == 1.0
    assert torch.equal(torch.sign(layer.weight), flips.signs[name])


def test_layers_with_one_weight_are_one_candidate(problem, space, splits):
    given = problem()
    given.network[6].weight = given.network[3].weight
    model = CostModel(trace(given.network, splits.train.tensors[0][:32]))
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    given = dataclasses.replace(given, model=model, rules=rules)
    quantized = QuantizedNetwork.learnable(
        given.network, model, rules=rules, start=START, baseline=space.baseline, granularity="layer", decay=None
    )
    callback = Binarization(quantized, given, epochs=1)
    assert callback.candidates == ["3", "10"]
    weight = quantized.layers["3"].weight
    weight.grad = torch.ones_like(weight)
    callback.after_step()
    # Its gradient is that of both layers, and counts once.
    error = weight.abs().mean() * torch.where(weight < 0, -1.0, 1.0) - weight
    expected = error.sum().abs() + 0.5 * error.square().sum()
    assert callback.loss("3") == pytest.approx(float(expected.detach()), rel=rounding(weight.numel()))
    assert callback._saved("3") == 7 * weight.numel()
    callback._set("3", 0.0)
    assert binary(quantized) == ["3", "6"]
    assert list(BinaryFlips(quantized, Allocation()).layers) == ["3"]
