"""What every method has to keep, whatever it does."""

import copy
import functools
from typing import get_args

import pytest
import torch
from torch import nn

from bitsearch.allocation.methods import METHODS
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation, MethodName
from bitsearch.choices import Tie
from bitsearch.cost import AllowedBits, Budget, CostModel, Target, trace
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.train.evaluate import evaluate_with_activity
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


@pytest.fixture(scope="module")
def problem(trained, model, rules, splits, space):
    """Of two epochs a trial, at half of what the start of the search costs; changed by keywords."""

    def make(
        metric="bit_budget",
        share=0.5,
        attempt=0,
        on_epoch=None,
        budgets=None,
        model=model,
        rules=rules,
        network=trained,
        **settings,
    ):
        settings = Allocation(**settings)
        if budgets is None:
            start = rules.nearest(model, settings.start, granularity="layer")
            budgets = [Budget(metric, "given", share * model.cost(metric, start))]
        short = space.model_copy(update={"training": Training(epochs=2, batch_size=64), "allocation": settings})
        network = copy.deepcopy(network)
        session = TrainingSession(splits, short.training, on_epoch=on_epoch)
        return AllocationProblem(network, model, rules, session, short, settings, budgets, seed=0, attempt=attempt)

    return make


def test_the_table_has_every_name_that_a_space_may_give():
    assert set(METHODS) == set(get_args(MethodName))


@pytest.fixture(scope="module")
def found(problem):
    """By method and metric: (the problem, every epoch's record, the last network), trained once; tests only read it."""

    @functools.cache
    def train(method, metric):
        records = []
        given = problem(metric, share=0.7, method=method, on_epoch=records.append)
        *_, last = METHODS[method](given)
        return given, records, last

    return train


@pytest.mark.parametrize("metric", ["bit_budget", "s_ace", "weight_memory"])
@pytest.mark.parametrize("method", METHODS)
def test_the_last_network_meets_the_budget_with_fixed_bits_and_the_given_one_is_left(found, network, method, metric):
    given, records, last = found(method, metric)
    assert all(budget.met_by(given.model, last.layer_plans) for budget in given.budgets)
    assert given.rules.contains(last.layer_plans)
    assert not last.searched_layers
    assert len(records) >= 2
    before = network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in given.network.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_keeps_to_a_targets_rules(problem, splits, space, model, method):
    target = Target.load("power_of_two")
    model = CostModel(model.layers, target=target)
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    *_, last = METHODS[method](problem("s_ace", model=model, rules=rules, method=method, share=0.9))
    assert rules.contains(last.layer_plans)
    assert {layer.weight_bits for layer in last.layer_plans.values()} <= {1, 2, 4, 8}


@pytest.mark.parametrize(("method", "form"), [*((method, "uniform") for method in METHODS), ("uniform", "sigmoid")])
def test_a_method_trains_step_sizes_in_powers_of_two(problem, method, form):
    settings = {"method": method, "quantizer": {"step_sizes": "power_of_two", "form": form}}
    *_, last = METHODS[method](problem("s_ace", share=0.7, **settings))
    for layer in last.layers.values():
        assert layer.layer_plan.step_sizes == "power_of_two"
        steps = torch.cat([layer.weight_step.flatten(), layer.spike_step])
        assert torch.equal(torch.frexp(steps).mantissa, torch.full_like(steps, 0.5))


@pytest.mark.parametrize(("method", "form"), [*((method, "uniform") for method in METHODS), ("ramp", "sigmoid")])
def test_a_method_keeps_to_ties_and_layer_rules(problem, trained, splits, space, method, form):
    network = copy.deepcopy(trained)
    network[6].weight = network[3].weight
    tie = Tie(layers=("3", "10"), share={"spike_bits", "time_steps"})
    model = CostModel(trace(network, splits.train.tensors[0][:32]), ties=[tie])
    layers = [
        LayerRule(match="*", weight_bits=[1, 2, 4, 8]),
        LayerRule(match="10", weight_bits=3, time_steps=[1, 2], granularity="channel", quantizer="sigmoid"),
        LayerRule(match="[36]", spike_bits={"low": 2, "high": 4}),
    ]
    rules = AllowedBits.make(model, space.choices, space.first_layer, layers)
    assert rules.searched == ("0", "3", "6", "10")
    settings = {"method": method, "quantizer": {"form": form}}
    *_, last = METHODS[method](problem("s_ace", model=model, rules=rules, network=network, share=0.4, **settings))
    plan = last.layer_plans
    assert rules.contains(plan)
    assert plan["3"].weight_bits == plan["6"].weight_bits
    assert plan["3"].spike_bits == plan["10"].spike_bits
    assert [plan[name].granularity for name in ("0", "3", "6", "10")] == ["layer", "layer", "layer", "channel"]
    assert plan["10"].weight_bits == 3
    assert plan["10"].time_steps == plan["3"].time_steps <= 2
    assert min(plan["3"].spike_bits + plan["6"].spike_bits) >= 2
    assert torch.equal(last.layers["3"].quantized_weight(), last.layers["6"].quantized_weight())


class Branched(nn.Module):
    """The tiny network with a second convolution beside its second."""

    def __init__(self, trained):
        super().__init__()
        self.stem, self.left, self.rest = trained[:3], trained[3], trained[4:]
        self.right = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x):
        x = self.stem(x)
        return self.rest(self.left(x) + self.right(x))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_keeps_to_streams(problem, trained, splits, space, method):
    torch.manual_seed(0)
    network = Branched(copy.deepcopy(trained))
    model = CostModel(trace(network, splits.train.tensors[0][:32]), ties=[TieRule(share="streams")])
    rules = AllowedBits.make(model, space.choices, space.first_layer, [LayerRule(match="right", spike_bits=[2, 3])])
    *_, last = METHODS[method](
        problem("working_memory", model=model, rules=rules, network=network, share=0.9, method=method)
    )
    plan = last.layer_plans
    assert rules.contains(plan)
    assert plan["left"].spike_bits == plan["right"].spike_bits
    assert set(plan["right"].spike_bits) <= {2, 3}
    assert (plan["left"].stream, plan["right"].stream) == (None, "left")
    assert last.layers["left"].spike_log_step is last.layers["right"].spike_log_step


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_network(problem, found, method):
    _, _, first = found(method, "bit_budget")
    *_, again = METHODS[method](problem(share=0.7, method=method))
    assert first.layer_plans == again.layer_plans
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("method", ["sensitivity", "random"])
def test_a_budget_on_firing_is_met_as_counted(problem, method, splits):
    start = problem(method=method)
    budget = Budget("ns_ace", "given", 0.25 * start.model.cost("s_ace", start.plan(start.settings.start)))
    *_, last = METHODS[method](problem(budgets=[budget], method=method))
    _, activity = evaluate_with_activity(last, splits.validation, 64)
    assert budget.met_by(start.model, last.layer_plans, activity)


def test_another_draw_is_another_plan(problem):
    for method in ("random", "uniform"):
        plans = [list(METHODS[method](problem(method=method, attempt=attempt)))[-1].layer_plans for attempt in range(2)]
        assert plans[0] != plans[1], method


def test_nothing_can_be_added_to_a_random_plan(problem):
    given = problem(method="random")
    (network,) = METHODS["random"](given)
    plan = network.layer_plans
    for name in given.rules.searched:
        layer, choices = plan[name], given.rules.choices[name]
        up = choices.weight_bits.neighbour(layer.weight_bits, 1)
        if up is not None:
            larger = plan | {name: layer.model_copy(update={"weight_bits": up})}
            assert not given.budgets[0].met_by(given.model, larger)


def test_the_best_uniform_plan_is_uniform(problem):
    (network,) = METHODS["uniform"](problem(method="uniform"))
    _, *searched = network.layer_plans.values()
    assert len({(layer.weight_bits, layer.spike_bits, layer.time_steps) for layer in searched}) == 1


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_through_sigmoids_if_asked(problem, method):
    *_, last = METHODS[method](problem(method=method, share=0.7, quantizer={"form": "sigmoid"}))
    assert all(layer.soft_weights is None for layer in last.layers.values())
    assert 0 <= last.soft_accuracy <= 1
