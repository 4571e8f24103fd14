"""Layers that share numbers: every solver keeps to it, and the exact one finds what trying every plan finds."""

import itertools
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from cost_problems import HARDWARE, layer
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64

from bitsearch.allocation.loss_model import EVEN_PRICES, LevelCount, predicted_loss
from bitsearch.allocation.moves import moves, plan_after
from bitsearch.allocation.solvers.greedy import GreedySearch
from bitsearch.allocation.solvers.integer_program import solve
from bitsearch.allocation.solvers.projection import project
from bitsearch.allocation.solvers.random_plan import random_plan
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.choices import Choices, FirstLayer, Span, Tie
from bitsearch.cost import AllowedBits, Budget, CostModel
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule
from bitsearch.plan import LayerPlan

SMALL = Choices(weight_bits=[1, 2, 4], spike_bits=Span(low=1, high=2), time_steps=Span(low=1, high=2))
WEIGHT = frozenset({"weight_bits"})
SPIKES = frozenset({"spike_bits", "time_steps"})
METRICS = ("bit_budget", "bit_budget_mac", "s_ace", "weight_memory", "working_memory", "energy", "latency", "cores")


class Table:
    """Losses from a table, drawn where they are asked for first."""

    weight_tolerance = 1.0

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.losses = {}

    def weight_loss(self, name, weight_bits):
        return self.losses.setdefault((name, weight_bits), float(self.random.random()))

    def spike_loss(self, name, spike_bits, membrane=None):
        return self.losses.setdefault((name, spike_bits, membrane), float(self.random.random()))


def layer_plan(w, spikes):
    return LayerPlan(weight_bits=w, spike_bits=spikes, time_steps=len(spikes))


@st.composite
def layer_rules(draw):
    """Pins, lists and ranges, beyond the choices of all too, of one layer, some, or every one, the first among them.

    Pins and lists of membranes' widths are among them.
    """
    rules = []
    for _ in range(draw(st.integers(0, 3))):
        numbers = draw(st.sets(st.sampled_from(["weight_bits", "spike_bits", "time_steps"]), min_size=1))
        values = st.integers(1, 4) | st.lists(st.integers(1, 4), min_size=1, max_size=2)
        match = draw(st.sampled_from(["*", "layer[12]", "layer[234]", *(f"layer{i}" for i in range(5))]))
        rule = {number: draw(values) for number in sorted(numbers)}
        if draw(st.integers(0, 3)) == 3:
            rule["membrane_bits"] = draw(st.sampled_from([8, 12, [8, 24]]))
        rules.append(LayerRule(match=match, **rule))
    return rules


@st.composite
def problems(draw):
    """A fixed first layer and four more, up to three ties and three layer rules, budgets, and where to start."""
    count = st.integers(1, 300)
    layers = [layer(f"layer{i}", *(draw(count) for _ in range(4)), first=i == 0) for i in range(5)]
    if draw(st.booleans()):
        layers.append(layer("fixed", 20, 10, 7, 3, fixed="a test"))
    # Layers that read the same values, tied or not.
    for index in draw(st.sets(st.integers(2, 4))):
        layers[index] = replace(layers[index], source=f"layer{draw(st.sampled_from([1, 1, 2]))}")
    layers = [entry if entry.source != entry.name else replace(entry, source=None) for entry in layers]
    firsts = {entry.name: entry.source for entry in layers}
    layers = [replace(entry, source=firsts.get(entry.source) or entry.source) for entry in layers]
    names = [f"layer{i}" for i in range(1, 5)]
    members = st.lists(st.sampled_from(names), min_size=2, max_size=4, unique=True)
    ties = [
        Tie(layers=draw(members), share=draw(st.sampled_from([WEIGHT, SPIKES, WEIGHT | SPIKES])))
        for _ in range(draw(st.integers(1, 3)))
    ]
    if draw(st.booleans()):
        # The fixed first layer may share as well: its number is then the others' too.
        ties.append(Tie(layers=("layer0", draw(st.sampled_from(names))), share=WEIGHT))
    model = CostModel(layers, first_layer_counted=draw(st.booleans()), target=HARDWARE, ties=ties)
    first_layer = FirstLayer(weight_bits=draw(st.sampled_from(SMALL.weight_bits.values)), spike_bits=8)
    try:
        widths = draw(st.none() | st.just(Span.model_validate([8, 16])))
        choices = SMALL.model_copy(update={"membrane_bits": widths})
        rules = AllowedBits.make(model, choices, first_layer, draw(layer_rules()))
    except InputError:
        # Tied layers with nothing in common.
        reject()
    model = rules.stepped(model, "step")
    budgets = []
    for metric in draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=2, unique=True)):
        most = rules.nearest(model, rules.maximum, granularity="layer")
        low, high = (model.cost(metric, plan) for plan in (rules.smallest(model), most))
        share = draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1))
        budgets.append(Budget(metric, "drawn", max(low, low + share * (high - low))))
    start = {
        name: layer.with_bits(draw(st.integers(1, 8)), tuple(draw(st.lists(st.integers(1, 8), min_size=1, max_size=3))))
        for name, layer in rules.smallest(model).items()
    }
    return model, rules, budgets, Table(draw(st.integers(0, 2**32 - 1))), start


def every_plan(rules, model):
    """All plans that the rules allow whose spike bits are alike in all steps."""
    numbers = ("weight_bits", "spike_bits", "membrane_bits")
    free = [(name, number) for name in rules.choices for number in numbers if rules.sharing(name, number)[0] == name]
    values = []
    for name, number in free:
        choices = rules.choices[name]
        if number == "weight_bits":
            values.append(choices.weight_bits.values)
        elif number == "membrane_bits":
            values.append([None] if choices.membrane_bits is None else choices.membrane_bits.values)
        else:
            values.append([(s,) * t for s, t in product(choices.spike_bits.values, choices.time_steps.values)])
    for chosen in product(*values):
        of = dict(zip(free, chosen, strict=True))
        plan = {}
        for name, least in rules.smallest(model).items():
            weight_bits, spikes, width = (of[rules.sharing(name, number)[0], number] for number in numbers)
            plan[name] = least.with_bits(weight_bits, spikes).with_membrane(width)
        # A single time step has the narrowest membranes.
        if all(
            layer.time_steps > 1 or layer.membrane_bits == least.membrane_bits
            for layer, least in zip(plan.values(), rules.smallest(model).values(), strict=True)
        ):
            yield plan


@examples(40)
@given(problems())
def test_the_integer_program_is_exact(problem):
    model, rules, budgets, loss, start = problem
    plans = list(itertools.islice(every_plan(rules, model), 3001))
    assume(len(plans) <= 3000)
    allowed = [plan for plan in plans if all(budget.met_by(model, plan) for budget in budgets)]
    least = min(predicted_loss(loss, plan, rules, EVEN_PRICES) for plan in allowed)
    solution = solve(start, model, budgets, rules, loss)
    assert solution.optimal
    assert rules.contains(solution.plan)
    assert all(budget.met_by(model, solution.plan) for budget in budgets)
    # The solver's absolute gap is 1e-6 in units of a ten-thousandth of the largest loss, which is two at most here.
    assert solution.loss == pytest.approx(least, abs=2 * len(rules.choices) * 1e-6 / 1e4)
    assert solution.loss == pytest.approx(
        predicted_loss(loss, solution.plan, rules, EVEN_PRICES), abs=len(rules.choices) * FLOAT64
    )


@examples(60)
@given(problems(), st.booleans())
def test_projections_random_and_uniform_plans_keep_to_the_ties(problem, measured):
    model, rules, budgets, loss, start = problem
    plans = {
        "projected": project(start, model, budgets, rules, loss=loss if measured else None),
        "random": random_plan(rules.smallest(model), model, rules, budgets, np.random.default_rng(0)),
        "out of time": solve(start, model, budgets, rules, loss, seconds=0.0).plan,
    }
    for bits in uniform_plans(model, rules, budgets, 3, weight_tolerance=1.0):
        plans[str(bits)] = rules.nearest(model, bits, granularity="layer")
    for plan in plans.values():
        assert rules.contains(plan)
        assert all(budget.met_by(model, plan) for budget in budgets)
    # To the last digit, what is left may not be what it seems.
    tight = [Budget(budget.metric, "tight", budget.limit * (1 - FLOAT64)) for budget in budgets]
    for plan in (plans["random"], *([] if measured else [plans["projected"]])):
        for name in rules.choices:
            for move in moves_of(plan, name, rules, +1):
                more = plan_after(plan, name, move, rules)
                assert not all(budget.met_by(model, more) for budget in tight)


@examples(60)
@given(problems())
def test_moves_and_exchanges_take_all_along_and_cost_what_the_plans_cost(problem):
    model, rules, budgets, loss, start = problem
    search = GreedySearch(start, model, budgets, rules, loss, EVEN_PRICES, None)
    check_moves(search, rules)
    while search.log_violation() > 0:
        assert search.remove_bits()
        check_moves(search, rules)
    before = predicted_loss(loss, search.plan(), rules, EVEN_PRICES)
    for exchange in search.exchanges(single=True):
        after = search.plan_after(exchange)
        assert rules.contains(after)
        assert all(budget.met_by(model, after) for budget in budgets)
        change = predicted_loss(loss, after, rules, EVEN_PRICES) - before
        assert exchange.change == pytest.approx(change, abs=100 * FLOAT64)
    search.fill_budget(5)
    check_moves(search, rules)


def moves_of(plan, name, rules, direction):
    layer = plan[name]
    membrane = rules.membrane_of(name, layer)
    return moves(layer.weight_bits, layer.spike_bits, rules.choices[name], direction, membrane)


def check_moves(search, rules):
    """Every move is listed at the first layer that it moves, with the costs and the loss of the plan after it."""
    plan = search.plan()
    assert rules.contains(plan)
    before = predicted_loss(search.loss, plan, rules, EVEN_PRICES)
    for direction in (-1, 1):
        costs = search._costs_after(direction, search._bits(), pressure=False)[1]
        for index, name in enumerate(search.names):
            for move in moves_of(plan, name, rules, direction):
                change = search.change[direction][move.latent_index, index]
                if rules.sharing(name, move.number)[0] != name:
                    assert math.isnan(change)
                    continue
                after = plan_after(plan, name, move, rules)
                expected = [search.model.cost(budget.metric, after) for budget in search.budgets]
                assert costs[:, move.latent_index, index] == pytest.approx(expected, rel=100 * FLOAT64)
                loss = predicted_loss(search.loss, after, rules, EVEN_PRICES)
                assert change == pytest.approx(loss - before, abs=100 * FLOAT64)


def test_an_untied_layer_pays_for_both_tied_ones():
    tie = Tie(layers=("a", "b"), share=WEIGHT | SPIKES)
    model = CostModel([layer(name, 100, 10, 1, 1) for name in "abc"], ties=[tie])
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    start = rules.smallest(model) | {"c": layer_plan(8, (1,))}

    def searched(limit):
        return GreedySearch(start, model, [Budget("s_ace", "", limit)], rules, LevelCount(), EVEN_PRICES, None)

    # A bit of c is worth 100 operations; one of a and b together, 200.
    assert not searched(1099.0).swap()
    search = searched(1100.0)
    assert search.swap()
    plan = search.plan()
    assert plan["a"] == plan["b"] != start["a"]
    assert plan["c"].weight_bits == 7
