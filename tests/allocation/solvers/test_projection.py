import re
from itertools import product

import pytest
from cost_problems import (
    HARDWARE,
    geometries,
    largest,
    layer,
    make_target,
    plans,
    projection_problems,
    some_choices,
    target_fields,
    uniform,
)
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64

from bitsearch.allocation.loss_model import LevelCount
from bitsearch.allocation.moves import moves
from bitsearch.allocation.solvers.greedy import MIN_RELATIVE_GAIN, GreedySearch
from bitsearch.allocation.solvers.local_search import RESTART_CANDIDATES
from bitsearch.allocation.solvers.projection import project
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics, Target
from bitsearch.cost.budget import parse_budgets, target_limits
from bitsearch.cost.metrics import METRICS
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan

MODEL = CostModel(
    [
        layer("first", 2304, 36, 64, 4, first=True),
        layer("small", 2304, 144, 64, 4),
        layer("busy", 9216, 288, 256, 8),
        layer("heavy", 640, 640, 64, 10),
    ]
)
TWINS = CostModel(
    [
        layer("first", 1000, 100, 64, 4, first=True),
        layer("one", 4000, 400, 64, 4),
        layer("two", 4000, 400, 64, 4),
    ]
)
CHOICES = Choices()


def rules_of(model, choices=CHOICES):
    return AllowedBits.make(model, choices, FirstLayer())


def only(**open_spans):
    """Choices with one value each, but for those given."""
    return Choices(**({"weight_bits": [1], "spike_bits": [1], "time_steps": [1]} | open_spans))


def moved(plan, name, move):
    layer = LayerPlan(weight_bits=move.weight_bits, spike_bits=move.spike_bits, time_steps=len(move.spike_bits))
    return plan | {name: layer}


def steps_up(plan, rules):
    """Every plan that has one number of one layer at its next larger value."""
    for name in rules.searched:
        for move in moves(plan[name].weight_bits, plan[name].spike_bits, rules.choices[name], +1):
            yield moved(plan, name, move)


def meets(model, plan, budgets, activity=None, share=1.0):
    return all(model.cost(budget.metric, plan, activity) <= share * budget.limit for budget in budgets)


def numbers(plan):
    return {name: (layer.weight_bits, layer.spike_bits) for name, layer in plan.items()}


def lower_losses(loss, plan, other):
    """The layers of which the plan's weights or spikes lose less than the other's."""
    return [
        name
        for name in plan
        if loss.weight_loss(name, plan[name].weight_bits) < loss.weight_loss(name, other[name].weight_bits)
        or loss.spike_loss(name, plan[name].spike_bits) < loss.spike_loss(name, other[name].spike_bits)
    ]


def check(problem, **options):
    """Project, and check all that holds of any projection; returns the plan."""
    model, rules, budgets, activity, start = problem
    plan = project(start, model, budgets, rules, activity=activity, **options)
    assert list(plan) == [layer.name for layer in model.layers]
    assert rules.contains(plan)
    for budget in budgets:
        assert budget.met_by(model, plan, activity), budget
    loss = options.get("loss", LevelCount())
    for more in steps_up(plan, rules):
        # To the last digit, what is left may not be what it seems; what lowers no loss is not worth what is left.
        fits = meets(model, more, budgets, activity, share=1 - FLOAT64)
        assert not fits or not lower_losses(loss, more, plan), (numbers(plan), numbers(more))
    assert project(plan, model, budgets, rules, activity=activity, **options) == plan
    assert project(plan, model, budgets, rules, activity=activity, use_slack=False, **options) == plan
    return plan


@examples(150)
@given(projection_problems())
def test_budgets_that_are_feasible_one_by_one_are_met_together_and_nothing_can_be_added(problem):
    model, rules, budgets, _, _ = problem
    for budget in budgets:
        budget.check_feasible(model, rules)
    check(problem)


@examples(100)
@given(projection_problems(infeasible=True))
def test_budgets_are_met_or_refused_with_one_that_can_be_met(problem):
    model, rules, budgets, activity, start = problem
    refused = {}
    for budget in budgets:
        try:
            budget.check_feasible(model, rules)
        except InputError as error:
            refused[budget.metric] = str(error)
    for metric, message in refused.items():
        assert f"({metric} ≤ " in message
        assert len(message.splitlines()) == 1
        value = float(re.search(r"smallest feasible value is (\S+)", message)[1])
        instead = Budget(metric, "instead", value)
        instead.check_feasible(model, rules)
        check((model, rules, [instead], activity, start))
        with pytest.raises(InputError):
            Budget(metric, "less", value * 0.9999).check_feasible(model, rules)
    check(
        (model, rules, [budget for budget in budgets if budget.metric not in refused] or [UNLIMITED], activity, start)
    )


UNLIMITED = Budget("s_ace", "all", 1e300)


@examples(60)
@given(projection_problems(), st.fixed_dictionaries(dict.fromkeys(("weight", "spike", "time"), st.floats(0.2, 5))))
def test_prices_and_losses_change_nothing_of_that(problem, prices):
    class Odd(LevelCount):
        """More bits are not always better, and some change nothing."""

        def weight_loss(self, name, weight_bits):
            return float(weight_bits * 7 % 3)

    check(problem, prices=prices)
    check(problem, loss=Odd())


@examples(60)
@given(projection_problems())
def test_without_refilling_no_number_rises_from_what_the_rules_make_of_it(problem):
    model, rules, budgets, activity, start = problem
    roomy = project(start, model, [UNLIMITED], rules, use_slack=False)
    plan = project(start, model, budgets, rules, activity=activity, use_slack=False)
    assert rules.contains(plan)
    assert meets(model, plan, budgets, activity)
    for name, got in plan.items():
        most = roomy[name]
        assert got.weight_bits <= most.weight_bits
        assert got.time_steps <= most.time_steps
        assert all(bits <= more for bits, more in zip(got.spike_bits, most.spike_bits, strict=False))
    if meets(model, roomy, budgets, activity):
        assert plan == roomy


@examples(40)
@given(geometries(), target_fields(), st.data())
def test_without_limits_every_layer_gets_the_most_there_is(layers, fields, data):
    target = make_target(**fields)
    model = CostModel(layers, target=target)
    rules = rules_of(model, data.draw(some_choices(target)))
    start = data.draw(plans([layer.name for layer in model.layers]))
    assert numbers(project(start, model, UNLIMITED, rules)) == numbers(largest(model, rules))


def test_a_start_outside_the_rules_goes_to_the_nearest_within():
    target = make_target(weight_bits=[1, 2, 4, 8], spike_bits=[1, 4], max_time_steps=2)
    model = CostModel(MODEL.layers, target=target)
    start = {
        "first": LayerPlan(weight_bits=3, spike_bits=(2, 2), time_steps=2, signed_input=True),
        "small": LayerPlan(weight_bits=3, spike_bits=(2, 3, 8), time_steps=3, decay=0.5),
        "busy": LayerPlan(weight_bits=5, spike_bits=(1,), time_steps=1, granularity="channel"),
        "heavy": LayerPlan(weight_bits=6, spike_bits=(5, 1), time_steps=2),
    }
    plan = project(start, model, UNLIMITED, rules_of(model, Choices(time_steps=[2])), use_slack=False)
    assert numbers(plan) == {"first": (8, (8,)), "small": (4, (1, 4)), "busy": (4, (1, 1)), "heavy": (8, (4, 1))}
    # What no budget is about stays.
    assert (plan["first"].signed_input, plan["small"].decay, plan["busy"].granularity) == (True, 0.5, "channel")


def test_layers_that_are_not_searched_keep_what_the_target_requires():
    target = make_target(weight_bits=[1], last_layer={"weight_bits": 8}, first_layer={"weight_bits": 4})
    model = CostModel(MODEL.layers, target=target)
    rules = rules_of(model)
    budget = Budget("s_ace", "", 1.5 * model.cost("s_ace", rules.smallest(model)))
    plan = check((model, rules, [budget], None, model.uniform(uniform(8, 8, 4), None)))
    assert [layer.weight_bits for layer in plan.values()] == [4, 1, 1, 8]


def test_moves_that_fit_one_by_one_but_not_together_are_not_made_together():
    # One layer has all the weights, the other all the inputs: in W̄·S̄·T̄ what they gain multiplies.
    model = CostModel([layer("weights", 1000, 10**6, 1, 1), layer("inputs", 1000, 1, 10**6, 1)])
    for widths in ([1, 8], [1, 4, 8], [1, 2, 4, 8]):
        rules = rules_of(model, only(weight_bits=widths, spike_bits=widths))
        for limit in range(1, 66, 4):
            budget = Budget("bit_budget", "", limit * 1.001)
            check((model, rules, [budget], None, rules.smallest(model)))


@pytest.mark.parametrize("metric", ["weight_memory", "s_ace", "energy", "bit_budget", "bit_budget_mac"])
@pytest.mark.parametrize("widths", [list(range(1, 9)), [1, 2, 4, 8]], ids=["all", "powers"])
def test_of_a_single_number_the_largest_that_fits_remains(metric, widths):
    model = CostModel([layer("only", 4000, 400, 64, 4)])
    rules = rules_of(model, only(weight_bits=widths))
    for fits in range(1, 9):
        limit = model.cost(metric, model.uniform(uniform(fits, 1, 1), None))
        for start in (1, 3, 8):
            plan = project(model.uniform(uniform(start, 1, 1), None), model, Budget(metric, "", limit), rules)
            assert plan["only"].weight_bits == max(bits for bits in widths if bits <= fits)


@pytest.mark.parametrize("metrics", [("s_ace",), ("bit_budget",), ("weight_memory", "s_ace"), ("energy",)])
def test_of_twins_no_even_split_of_weight_bits_is_better(metrics):
    rules = rules_of(TWINS, only(weight_bits=Span(low=1, high=8)))

    def loss(plan):
        return sum(LevelCount().weight_loss(name, plan[name].weight_bits) for name in ("one", "two"))

    def with_bits(one, two):
        plan = TWINS.uniform(uniform(1, 1, 1), FirstLayer())
        return plan | {
            "one": LayerPlan(weight_bits=one, spike_bits=(1,), time_steps=1),
            "two": LayerPlan(weight_bits=two, spike_bits=(1,), time_steps=1),
        }

    for most in product(range(1, 9), repeat=2):
        budgets = [Budget(metric, "", TWINS.cost(metric, with_bits(*most))) for metric in metrics]
        plan = project(rules.smallest(TWINS), TWINS, budgets, rules)
        fitting = [with_bits(*bits) for bits in product(range(1, 9), repeat=2)]
        best = min(loss(other) for other in fitting if meets(TWINS, other, budgets))
        assert loss(plan) == best, most


def small_cores(count, bytes_each, layers=TWINS.layers):
    model = CostModel(layers, target=make_target(cores={"count": count, "bytes_each": bytes_each}))
    return model, rules_of(model), target_limits(model.target)


def test_cores_are_whole_numbers_and_what_a_core_still_holds_is_used():
    for count in range(12, 40):
        model, rules, budgets = small_cores(count, 150)
        # Down a staircase: from the top many moves save no core.
        plan = check((model, rules, budgets, None, model.uniform(uniform(8, 8, 4), None)))
        assert model.cost("cores", plan) <= count
        held = model.layer_costs("weight_memory", plan)["one"] + model.layer_costs("working_memory", plan)["one"]
        assert held <= 150 * model.layer_costs("cores", plan)["one"]


def test_one_core_a_layer_is_feasible_only_if_each_fits():
    least = 400 // 8 + 4 + 8 * 4 + 64 * 4 + 64 // 8
    assert small_cores(9, least)[0].layer_costs("cores", rules_of(TWINS).smallest(TWINS))["one"] == 1
    model, rules, _ = small_cores(3, least)
    with pytest.raises(InputError, match=r"cores ≤ 3 .* smallest feasible value is 4 "):
        Budget("cores", "3", 3.0).check_feasible(model, rules)


def test_a_layer_that_has_to_fit_a_core_gives_way_until_it_does():
    layers = [layer("wide", 4000, 400, 64, 4), layer("slim", 4000, 40, 8, 4)]
    cores = {"count": 2, "bytes_each": 900, "whole_layers": True}
    model = CostModel(layers, target=make_target(cores=cores))
    rules, top = rules_of(model), model.uniform(uniform(8, 8, 4), None)
    plan = check((model, rules, target_limits(model.target), None, top))
    held = {
        name: model.layer_costs("weight_memory", plan)[name] + model.layer_costs("working_memory", plan)[name]
        for name in plan
    }
    assert held["wide"] <= 900
    # The other fits with all of its bits.
    assert numbers(plan)["slim"] == numbers(top)["slim"]
    small = CostModel(layers, target=make_target("tiny", cores=cores | {"bytes_each": 300}))
    with pytest.raises(
        InputError, match=r"target tiny \(cores ≤ 2 cores\) is infeasible.*layer 'wide' alone takes 3 cores:"
    ):
        target_limits(small.target)[0].check_feasible(small, rules)


def test_where_layers_tie_for_the_peak_all_of_them_give_way():
    peers = [layer(f"layer{i}", 1000, 100, 64, 4) for i in range(6)]
    model = CostModel([*peers, layer("little", 1000, 100, 8, 4)])
    rules = rules_of(model)
    top = model.uniform(uniform(8, 8, 4), None)
    for share in (0.2, 0.5, 0.9):
        least, most = (model.cost("working_memory", plan) for plan in (rules.smallest(model), top))
        budget = Budget("working_memory", "", least + share * (most - least))
        plan = check((model, rules, [budget], None, top))
        # What does not reach the peak keeps everything, and so do weights, which are not in it.
        assert numbers(plan)["little"] == (8, (8, 8, 8, 8))
        assert {layer.weight_bits for layer in plan.values()} == {8}


def test_a_budget_is_kept_by_the_firing_rates_that_were_measured():
    rules = rules_of(MODEL)
    start = MODEL.uniform(uniform(8, 8, 4), FirstLayer())
    costs = {}
    for busy in (0.01, 0.9):
        rates = {"first": 1.0, "small": 0.5, "busy": busy, "heavy": 0.5}
        activity = SpikeStatistics(rates, rates)
        least, most = (MODEL.cost("ns_ace", plan, activity) for plan in (rules.smallest(MODEL), start))
        budgets = [Budget("ns_ace", "", least + 0.1 * (most - least)), Budget("synops", "", 4e4)]
        plan = check((MODEL, rules, budgets, activity, start))
        costs[busy] = MODEL.layer_costs("s_ace", plan)["busy"] / MODEL.cost("s_ace", plan)
    # A layer that hardly fires is cheap: it keeps more.
    assert costs[0.01] > costs[0.9]


def test_a_network_without_a_single_spike_costs_nothing():
    silent = SpikeStatistics(dict.fromkeys(numbers(MODEL.uniform(uniform(1, 1, 1), None)), 0.0))
    budgets = [Budget("ns_ace", "", 1.0), Budget("weight_memory", "", 900.0)]
    check((MODEL, rules_of(MODEL), budgets, silent, MODEL.uniform(uniform(8, 8, 4), None)))


def test_a_large_network_takes_few_rounds(monkeypatch):
    rounds = []
    for step in ("remove_bits", "add_bits"):
        original = getattr(GreedySearch, step)
        monkeypatch.setattr(GreedySearch, step, lambda self, original=original: (rounds.append(1), original(self))[1])
    model = CostModel([layer(f"layer{i}", 1000 + 7 * i, 100 + i, 64 + i % 5, 4) for i in range(60)])
    rules = rules_of(model)
    for start in (uniform(1, 1, 1), uniform(8, 8, 4)):
        del rounds[:]
        check((model, rules, [Budget("s_ace", "", 12.0 * 60 * 1000)], None, model.uniform(start, None)))
        # One move a round would be thousands.
        assert 0 < len(rounds) < 1000


def test_every_metric_can_be_a_budget_at_once():
    target = Target.load("power_of_two").model_copy(
        update={"cores": make_target(cores={"count": 9, "bytes_each": 900}).cores, "accumulator_bits": 40}
    )
    model = CostModel(MODEL.layers, target=target)
    rules = rules_of(model)
    top = model.uniform(uniform(8, 8, 4), FirstLayer())
    activity = SpikeStatistics(dict.fromkeys(top, 0.3), dict.fromkeys(top, 0.25))
    assert set(model.metrics) == set(METRICS)
    least = rules.smallest(model)
    budgets = [
        Budget(metric, "", 0.7 * model.cost(metric, least, activity) + 0.3 * model.cost(metric, top, activity))
        for metric in METRICS
    ]
    check((model, rules, budgets + parse_budgets("s_ace=1", "s_ace", model, uniform(8, 4, 2))[1:], activity, top))


class Precious(LevelCount):
    """Makes one layer's loss a thousand times the other's."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def weight_loss(self, name, weight_bits):
        return super().weight_loss(name, weight_bits) * (1000 if name == self.name else 1)

    def spike_loss(self, name, spike_bits, membrane=None):
        return super().spike_loss(name, spike_bits) * (1000 if name == self.name else 1)


@pytest.mark.parametrize("metric", ["bit_budget", "s_ace"])
@pytest.mark.parametrize("precious", ["one", "two"])
@pytest.mark.parametrize("start_bits", [2, 6])
def test_a_precious_layer_keeps_more_bits_than_its_twin(metric, precious, start_bits):
    start = TWINS.uniform(uniform(start_bits, start_bits, 2), FirstLayer())
    middle = TWINS.uniform(uniform(4, 4, 2), FirstLayer())
    budget = Budget(metric, "", TWINS.cost(metric, middle))
    plan = project(start, TWINS, budget, rules_of(TWINS), loss=Precious(precious))
    other = {"one": "two", "two": "one"}[precious]
    assert plan[precious].weight_bits > plan[other].weight_bits
    assert sum(2**bits for bits in plan[precious].spike_bits) > sum(2**bits for bits in plan[other].spike_bits)


def test_a_dear_kind_is_reduced_first():
    start = TWINS.uniform(uniform(6, 6, 3), FirstLayer())
    budget = Budget("s_ace", "", 0.5 * TWINS.cost("s_ace", start))
    plans = {
        kind: project(
            start,
            TWINS,
            budget,
            rules_of(TWINS),
            prices={"weight": 1.0, "spike": 1.0, "time": 1.0} | {kind: 1e6},
            use_slack=False,
        )
        for kind in ("weight", "spike", "time")
    }
    means = {kind: TWINS.means(plan) for kind, plan in plans.items()}
    for index, kind in enumerate(("weight", "spike", "time")):
        assert means[kind][index] == min(mean[index] for mean in means.values())
        assert means[kind][index] < TWINS.means(start)[index]
        assert sum(mean[index] == means[kind][index] for mean in means.values()) == 1


def test_a_plan_below_the_budget_is_filled_where_the_loss_falls_most_per_cost():
    start = rules_of(MODEL).smallest(MODEL)
    # Room for one unit of the classifier's weight bits (640 MACs), and for no unit of any other layer's.
    budget = Budget("s_ace", "", MODEL.cost("s_ace", start) + 640)
    plan = project(start, MODEL, budget, rules_of(MODEL))
    assert {name for name in plan if plan[name] != start[name]} == {"heavy"}
    assert MODEL.cost("s_ace", plan) == budget.limit


@pytest.mark.parametrize("names", [("busy", "lean"), ("lean", "busy")])
@pytest.mark.parametrize("metric", ["s_ace", "energy", "latency"])
def test_room_in_memory_is_filled_where_it_costs_least_on_the_axis(metric, names):
    """Of layers with the same weights, that with fewer operations comes first, whatever the limits leave."""
    macs = {"busy": 16000, "lean": 4000}
    model = CostModel(
        [layer("first", 1000, 100, 64, 4, first=True), *(layer(name, macs[name], 400, 64, 4) for name in names)],
        target=HARDWARE,
    )
    rules = rules_of(model, only(weight_bits=Span(low=1, high=6)))

    def with_bits(*bits):
        plan = rules.smallest(model)
        return plan | {name: plan[name].with_bits(width, (1,)) for name, width in zip(names, bits, strict=True)}

    def outcome(plan):
        loss = sum(LevelCount().weight_loss(name, plan[name].weight_bits) for name in names)
        return loss, model.cost(metric, plan)

    grid = [with_bits(*bits) for bits in product(range(1, 7), repeat=2)]
    limits = [sorted({model.cost(limited, plan) for plan in grid}) for limited in (metric, "weight_memory")]
    for axis, memory in product(*limits):
        budgets = [Budget(metric, "", axis), Budget("weight_memory", "", memory)]
        best = min(outcome(plan) for plan in grid if meets(model, plan, budgets))
        assert outcome(project(rules.smallest(model), model, budgets, rules)) == best


def test_nothing_is_spent_on_what_lowers_no_loss():
    class Idle(LevelCount):
        def weight_loss(self, name, weight_bits):
            return 0.0 if name == "one" else super().weight_loss(name, weight_bits)

    rules = rules_of(TWINS, only(weight_bits=Span(low=1, high=8)))
    widest = TWINS.uniform(uniform(8, 1, 1), FirstLayer())
    budgets = [Budget(metric, "", TWINS.cost(metric, widest)) for metric in ("s_ace", "weight_memory")]
    plan = project(rules.smallest(TWINS), TWINS, budgets, rules, loss=Idle())
    assert (plan["one"].weight_bits, plan["two"].weight_bits) == (1, 8)


def test_bits_go_from_one_twin_to_the_other_where_that_lowers_the_loss():
    rules = rules_of(TWINS, only(weight_bits=[1, 2, 3, 4]))
    start = moved(rules.smallest(TWINS), "one", next(iter(moves(3, (1,), rules.choices["one"], +1))))
    assert numbers(start)["one"] == (4, (1,))
    # 4 + 1 bits fill the budget; 4^−3 + 4^−2 is less than 4^−4 + 4^−1.
    budget = Budget("s_ace", "", TWINS.cost("s_ace", start))
    plan = project(start, TWINS, budget, rules, loss=LevelCount())
    assert {plan["one"].weight_bits, plan["two"].weight_bits} == {2, 3}
    assert TWINS.cost("s_ace", plan) == budget.limit
    # Nor without a loss that was measured, nor without leave to.
    assert project(start, TWINS, budget, rules)["one"].weight_bits == 4
    assert project(start, TWINS, budget, rules, loss=LevelCount(), use_slack=False)["one"].weight_bits == 4


def predicted_loss(plan, searched, prices):
    loss = LevelCount()
    weights = sum(loss.weight_loss(name, plan[name].weight_bits) for name in searched)
    return weights / prices["weight"] + sum(loss.spike_loss(name, plan[name].spike_bits) for name in searched)


@examples(60)
@given(projection_problems(), st.floats(0.2, 5))
def test_no_exchange_of_two_layers_bits_lowers_the_loss_any_more(problem, weight_price):
    model, rules, budgets, activity, start = problem
    prices = {"weight": weight_price, "spike": 1.0, "time": 1.0}
    plan = project(start, model, budgets, rules, loss=LevelCount(), activity=activity, prices=prices)
    before = predicted_loss(plan, rules.searched, prices)
    lower = []
    for name in rules.searched:
        for down in moves(plan[name].weight_bits, plan[name].spike_bits, rules.choices[name], -1):
            fewer = moved(plan, name, down)
            for other in set(rules.searched) - {name}:
                for up in moves(plan[other].weight_bits, plan[other].spike_bits, rules.choices[other], +1):
                    exchanged = moved(fewer, other, up)
                    after = predicted_loss(exchanged, rules.searched, prices)
                    least = before * (1 - MIN_RELATIVE_GAIN - FLOAT64)
                    if after < least and meets(model, exchanged, budgets, activity):
                        lower.append((name, other, after / before))
    assert not lower


@examples(60)
@given(projection_problems(), st.floats(0.2, 5))
def test_by_measured_losses_no_uniform_plan_is_better(problem, weight_price):
    model, rules, budgets, activity, start = problem
    prices = {"weight": weight_price, "spike": 1.0, "time": 1.0}
    plan = project(start, model, budgets, rules, loss=LevelCount(), activity=activity, prices=prices)
    found = predicted_loss(plan, rules.searched, prices)
    for bits in uniform_plans(model, rules, budgets, RESTART_CANDIDATES, weight_tolerance=1.0, activity=activity):
        uniform = rules.nearest(model, bits, granularity="layer")
        assert found <= predicted_loss(uniform, rules.searched, prices) * (1 + FLOAT64), bits


def test_the_moves_of_a_layer():
    choices = Choices(weight_bits=Span(low=1, high=3), spike_bits=Span(low=2, high=8), time_steps=Span(low=1, high=2))

    def found(choices, direction, weight_bits=1, spike_bits=(2, 3)):
        return {
            (move.kind, move.latent_index): (move.weight_bits, move.spike_bits, move.distance)
            for move in moves(weight_bits, spike_bits, choices, direction)
        }

    assert found(choices, +1) == {
        ("weight", 0): (2, (2, 3), 1),
        ("spike", 2): (1, (3, 3), 1),
        ("spike", 3): (1, (2, 4), 1),
    }
    assert found(choices, -1) == {("time", 1): (1, (2,), 1), ("spike", 3): (1, (2, 2), 1)}
    assert found(CHOICES, +1)["time", 1] == (1, (2, 3, 3), 1)
    gaps = Choices(weight_bits=[1, 2, 4, 8], spike_bits=[2, 5], time_steps=[1, 4])
    assert found(gaps, +1, 4, (2, 5)) == {
        ("weight", 0): (8, (2, 5), 4),
        ("time", 1): (4, (2, 5, 5, 5), 2),
        ("spike", 2): (4, (5, 5), 3),
    }
    assert found(gaps, -1, 4, (2, 5)) == {
        ("weight", 0): (2, (2, 5), 2),
        ("time", 1): (4, (2,), 1),
        ("spike", 3): (4, (2, 2), 3),
    }
