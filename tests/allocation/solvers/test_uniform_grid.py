from itertools import product

import pytest
import torch
from cost_problems import projection_problems
from hypothesis import given
from profiles import examples

from bitsearch.allocation.loss_model import LevelCount
from bitsearch.allocation.solvers.uniform_grid import uniform_front
from bitsearch.allocation.solvers.uniform_grid import uniform_plans as ranked_plans
from bitsearch.choices import NUMBERS, Choices, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics, Target, trace
from bitsearch.models import make_network
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace


@pytest.fixture(scope="module")
def digits():
    """(search space, cost model) of the shipped digits space."""
    space = SearchSpace.load("digits")
    torch.manual_seed(0)
    network = make_network(space.network, space.network_options, input_shape=(1, 8, 8), classes=10)
    return space, CostModel(trace(network, torch.randn(4, 1, 8, 8)))


def uniform_plans(*arguments, weight_tolerance=0.25, **options):
    """As the shipped spaces rank them."""
    return ranked_plans(*arguments, weight_tolerance=weight_tolerance, **options)


def rules_of(model, space):
    return AllowedBits.make(model, space.choices, space.first_layer)


def as_tuples(plans):
    return [(plan.weight_bits, plan.spike_bits, plan.time_steps) for plan in plans]


@pytest.mark.parametrize("first_layer_counted", [True, False])
def test_at_a_budget_of_four_one_weight_bit_and_three_weight_bits_compete(digits, first_layer_counted):
    space, model = digits
    model = CostModel(model.layers, first_layer_counted=first_layer_counted)
    # Uncounted, 4 buys w1 s4 T1; counted, the first layer's w8 s8 T1 takes its share.
    plans = as_tuples(uniform_plans(model, rules_of(model, space), [Budget("bit_budget", "4", 4.0)], limit=100))
    if first_layer_counted:
        assert (1, 3, 1) in plans
        assert (3, 1, 1) in plans
    else:
        assert {(1, 4, 1), (4, 1, 1), (2, 2, 1), (2, 1, 2), (1, 2, 2), (1, 1, 4)} == set(plans)


def maximal(grid, feasible):
    """The feasible points of a grid at which no number can be the next larger of its values."""
    points = [point for point in product(*grid) if feasible(point)]

    def larger(point):
        for axis, values in enumerate(grid):
            above = [value for value in values if value > point[axis]]
            if above:
                yield (*point[:axis], above[0], *point[axis + 1 :])

    return {point for point in points if not any(map(feasible, larger(point)))}


@pytest.mark.parametrize("metrics", [("bit_budget",), ("s_ace",), ("weight_memory",), ("energy",), ("s_ace", "memory")])
@pytest.mark.parametrize("share", [0.3, 0.4, 0.5])
def test_every_plan_is_feasible_and_maximal_and_none_is_missing(digits, metrics, share):
    space, model = digits
    budgets = [Budget.parse(f"{metric}={1 / share}x", "", model, space.baseline) for metric in metrics]

    def feasible(point):
        w, s, t = point
        plan = model.uniform(UniformBits(weight_bits=w, spike_bits=s, time_steps=t), space.first_layer)
        return all(model.cost(budget.metric, plan) <= budget.limit for budget in budgets)

    plans = as_tuples(uniform_plans(model, rules_of(model, space), budgets, limit=1000))
    assert len(plans) == len(set(plans))
    assert set(plans) == maximal((range(1, 9), range(1, 9), range(1, 5)), feasible)
    assert plans


def test_on_a_target_plans_have_its_widths_and_keep_its_limits(digits):
    space, model = digits
    target = Target.load("power_of_two")
    model = CostModel(model.layers, target=target)
    budget = Budget("s_ace", "", 0.2 * model.cost("s_ace", model.uniform(space.baseline, None)))
    # No room for membrane potentials besides the currents: 16 channels of 8×8 numbers of 4 bytes, twice.
    narrow = Budget("working_memory", "", 8000.0)
    grid = ((1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 3, 4))
    for budgets in ([budget], [budget, narrow]):

        def feasible(point, budgets=budgets):
            w, s, t = point
            plan = model.uniform(UniformBits(weight_bits=w, spike_bits=s, time_steps=t), space.first_layer)
            return all(limit.met_by(model, plan) for limit in budgets)

        plans = as_tuples(uniform_plans(model, rules_of(model, space), budgets, limit=100))
        assert plans
        assert set(plans) == maximal(grid, feasible)
    assert all(steps == 1 for _, _, steps in plans)


def test_a_budget_that_depends_on_spikes_takes_the_rates_that_were_measured(digits):
    space, model = digits
    budget = Budget("ns_ace", "", 0.1 * model.cost("s_ace", model.uniform(space.baseline, None)))
    names = [layer.name for layer in model.layers]
    by_rate = {
        rate: uniform_plans(
            model, rules_of(model, space), [budget], limit=100, activity=SpikeStatistics(dict.fromkeys(names, rate))
        )
        for rate in (0.2, 1.0)
    }
    same = Budget("s_ace", "", budget.limit)
    assert by_rate[1.0] == uniform_plans(model, rules_of(model, space), [same], limit=100)
    five_times = Budget("s_ace", "", budget.limit / 0.2)
    assert by_rate[0.2] == uniform_plans(model, rules_of(model, space), [five_times], limit=100)
    assert by_rate[0.2] != by_rate[1.0]


def test_the_limit_keeps_the_first_of_the_ranking(digits):
    space, model = digits
    budget = Budget("bit_budget", "8", 8.0)
    everything = uniform_plans(model, rules_of(model, space), [budget], limit=1000)
    assert len(everything) > 3
    assert uniform_plans(model, rules_of(model, space), [budget], limit=3) == everything[:3]


def test_the_ranking_takes_the_users_weight_tolerance(digits):
    """Where weights' errors count in full, plans with more weight bits come first."""
    space, model = digits
    arguments = (model, rules_of(model, space), [Budget("bit_budget", "8", 8.0)], 100)
    ranked = {tolerance: uniform_plans(*arguments, weight_tolerance=tolerance) for tolerance in (0.01, 0.25, 1.0)}
    for tolerance, plans in ranked.items():
        errors = [tolerance * 4.0**-plan.weight_bits + (plan.time_steps * 2.0**plan.spike_bits) ** -2 for plan in plans]
        assert errors == sorted(errors)
    assert ranked[0.01][0].weight_bits < ranked[1.0][0].weight_bits
    assert {tuple(sorted(map(str, plans))) for plans in ranked.values()} == {tuple(sorted(map(str, ranked[0.25])))}


def test_plans_stay_within_the_spaces_choices(digits):
    space, model = digits
    choices = Choices(weight_bits=Span(low=2, high=3), spike_bits=Span(low=1, high=2), time_steps=Span(low=2, high=2))
    rules = AllowedBits.make(model, choices, space.first_layer)
    assert as_tuples(uniform_plans(model, rules, [Budget("bit_budget", "", 1e6)], limit=9)) == [(3, 2, 2)]


@examples(60)
@given(projection_problems())
def test_what_is_judged_at_once_is_judged_as_plan_by_plan(problem):
    model, rules, budgets, activity, _ = problem
    names = rules.searched or tuple(rules.choices)
    grid = [
        sorted({value for name in names for value in getattr(rules.choices[name], number).values}) for number in NUMBERS
    ]

    def plan_of(point):
        w, s, t = point
        return rules.nearest(model, UniformBits(weight_bits=w, spike_bits=s, time_steps=t), granularity="layer")

    def feasible(point):
        return all(budget.met_by(model, plan_of(point), activity) for budget in budgets)

    plans = [
        plan_of(point) for point in as_tuples(uniform_plans(model, rules, budgets, limit=100000, activity=activity))
    ]
    expected = [plan_of(point) for point in maximal(grid, feasible)]
    assert all(plan in expected for plan in plans)
    assert all(plan in plans for plan in expected)
    # Bits that make the same plan are one candidate.
    assert all(plans.count(plan) == 1 for plan in plans)


def test_the_uniform_front_is_what_no_cheaper_plan_equals(digits):
    space, model = digits
    rules, levels = rules_of(model, space), LevelCount(0.25)
    limit = 0.5 * model.cost("weight_memory", model.uniform(space.baseline, None))
    front = uniform_front(model, rules, [Budget("weight_memory", "", limit)], "s_ace", weight_tolerance=0.25)
    outcomes = {}
    for weight_bits, spike_bits, time_steps in product(range(1, 9), range(1, 9), range(1, 5)):
        bits = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
        plan = rules.nearest(model, bits, granularity="layer")
        if model.cost("weight_memory", plan) <= limit:
            error = levels.weight_loss("", weight_bits) + levels.spike_loss("", (spike_bits,) * time_steps)
            outcomes[str(bits)] = model.cost("s_ace", plan), error
    for bits, cost in front:
        own_cost, own_error = outcomes[str(bits)]
        assert cost == own_cost
        assert not any(cost <= own_cost and error < own_error for cost, error in outcomes.values())
    errors = [outcomes[str(bits)][1] for bits, _ in front]
    assert errors == sorted(errors, reverse=True)
    assert min(errors) == min(error for _, error in outcomes.values())


def test_the_uniform_front_without_budgets_has_both_ends_of_the_grid(digits):
    space, model = digits
    front = uniform_front(model, rules_of(model, space), [], "bit_budget", weight_tolerance=0.25)
    assert as_tuples([front[0][0], front[-1][0]]) == [(1, 1, 1), (8, 8, 4)]
