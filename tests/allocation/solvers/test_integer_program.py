import math
from itertools import product

import numpy as np
import pytest
from cost_problems import ACTIVITY, HARDWARE, LAYERS, layer
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64

from bitsearch.allocation.loss_model import EVEN_PRICES, LevelCount
from bitsearch.allocation.solvers import integer_program
from bitsearch.allocation.solvers.integer_program import GAP, LEAST_GAIN, solve
from bitsearch.allocation.solvers.local_search import Problem
from bitsearch.allocation.solvers.projection import project
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits

SOLVER_GAP = 4 * 1e-6 / 1e4
"""Absolute, of losses up to four: 1e-6 in units of a ten-thousandth of the largest."""
SMALL = Choices(weight_bits=[1, 2, 4], spike_bits=Span(low=1, high=2), time_steps=Span(low=1, high=2))


class Table:
    """Losses from a table."""

    weight_tolerance = 1.0

    def __init__(self, losses):
        self.losses = losses

    def weight_loss(self, name, weight_bits):
        return self.losses[name, weight_bits]

    def spike_loss(self, name, spike_bits, membrane=None):
        return self.losses[name, spike_bits]


def start_of(model, rules):
    return rules.nearest(model, UniformBits(weight_bits=4, spike_bits=2, time_steps=2), granularity="layer")


def brute_force(model, rules, budgets, loss, activity=None):
    """The least loss of all plans whose spike bits are alike in all steps."""
    start = start_of(model, rules)
    options = {
        name: [
            LayerPlan(weight_bits=w, spike_bits=(s,) * t, time_steps=t)
            for w, s, t in product(choices.weight_bits.values, choices.spike_bits.values, choices.time_steps.values)
        ]
        for name, choices in rules.choices.items()
    }
    best = math.inf
    for chosen in product(*options.values()):
        plan = dict(zip(start, chosen, strict=True))
        if all(budget.met_by(model, plan, activity) for budget in budgets):
            best = min(best, loss_of(plan, rules, loss))
    return best


def loss_of(plan, rules, loss):
    return sum(
        loss.weight_loss(name, plan[name].weight_bits) + loss.spike_loss(name, plan[name].spike_bits)
        for name in rules.searched
    )


class Asked(Table):
    """Remembers what it was asked for."""

    def __init__(self, losses):
        super().__init__(losses)
        self.names = set()

    def weight_loss(self, name, weight_bits):
        self.names.add((name, weight_bits))
        return super().weight_loss(name, weight_bits)


def test_what_no_plan_can_afford_is_not_predicted():
    sizes = {"first": 10, "small": 10, "large": 1000}
    layers = [layer(name, 50, size, 5, 5, first=name == "first") for name, size in sizes.items()]
    model = CostModel(layers, first_layer_counted=False, target=HARDWARE)
    rules = AllowedBits.make(model, SMALL, FirstLayer())
    loss = Asked({(name, w): sizes[name] / w for name in rules.searched for w in SMALL.weight_bits.values})
    loss.spike_loss = lambda name, spike_bits, membrane=None: 0.0
    # Of the large layer, two bits where all others have one; the small one may have any where the large one has one.
    plan = rules.smallest(model)
    plan["large"] = plan["large"].model_copy(update={"weight_bits": 2})
    budget = Budget("weight_memory", "drawn", model.cost("weight_memory", plan))
    found = solve(start_of(model, rules), model, [budget], rules, loss)
    assert found.plan["large"].weight_bits == 2
    assert {bits for name, bits in loss.names if name == "large"} == {1, 2}
    assert {bits for name, bits in loss.names if name == "small"} == {1, 2, 4}


@st.composite
def problems(draw):
    """Three searched layers behind a fixed one, any losses, one or two budgets, often exactly at a plan's cost."""
    count = st.integers(1, 300)
    layers = [layer(f"layer{i}", *(draw(count) for _ in range(4)), first=i == 0) for i in range(4)]
    if draw(st.booleans()):
        layers.append(layer("fixed", 20, 10, 7, 3, fixed="a test"))
    model = CostModel(layers, first_layer_counted=draw(st.booleans()), target=HARDWARE)
    rules = AllowedBits.make(model, SMALL, FirstLayer())
    losses = {}
    for name in rules.searched:
        for w in SMALL.weight_bits.values:
            losses[name, w] = draw(st.floats(0, 1))
        for steps in SMALL.time_steps.values:
            for spikes in product(SMALL.spike_bits.values, repeat=steps):
                losses[name, spikes] = draw(st.floats(0, 1))
    names = ["bit_budget", "bit_budget_mac", "s_ace", "weight_memory", "working_memory", "energy", "latency", "cores"]
    budgets = []
    for metric in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        least, most = (
            model.cost(
                metric,
                rules.nearest(model, UniformBits(weight_bits=w, spike_bits=s, time_steps=s), granularity="layer"),
            )
            for w, s in ((1, 1), (4, 2))
        )
        share = draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1))
        budgets.append(Budget(metric, "drawn", max(least, least + share * (most - least))))
    return model, rules, budgets, Table(losses)


@examples(25)
@given(problems())
def test_no_plan_within_the_budgets_has_a_lower_loss(problem):
    model, rules, budgets, loss = problem
    found = solve(start_of(model, rules), model, budgets, rules, loss)
    assert found.optimal
    assert rules.contains(found.plan)
    assert all(budget.met_by(model, found.plan) for budget in budgets)
    assert found.loss == pytest.approx(loss_of(found.plan, rules, loss), abs=FLOAT64)
    assert found.loss == pytest.approx(brute_force(model, rules, budgets, loss), abs=SOLVER_GAP)


@examples(25)
@given(problems())
def test_no_plan_alike_in_all_steps_is_predicted_to_lose_clearly_less_than_a_projection(problem):
    """From wherever it starts, though spike bits may have to become time steps of the same layer."""
    model, rules, budgets, loss = problem
    least = brute_force(model, rules, budgets, loss)
    for start in (start_of(model, rules), rules.smallest(model)):
        plan = project(start, model, budgets, rules, loss=loss)
        assert rules.contains(plan)
        assert all(budget.met_by(model, plan) for budget in budgets)
        assert loss_of(plan, rules, loss) * (1 - LEAST_GAIN) <= least + SOLVER_GAP


def test_spike_bits_become_time_steps_of_the_same_layer_where_that_loses_less():
    model = CostModel([layer("only", 100, 10, 10, 10)])
    rules = AllowedBits.make(model, Choices(weight_bits=[1], spike_bits=[1, 4], time_steps=[1, 4]), FirstLayer())
    losses = {("only", spikes): 1 / sum(spikes) for steps in (1, 4) for spikes in product([1, 4], repeat=steps)}
    loss = Table(losses | {("only", 1): 0.0, ("only", (1,) * 4): 0.2})
    start = {"only": LayerPlan(weight_bits=1, spike_bits=(4,), time_steps=1)}
    # Four bits in one step and one in each of four cost the same; every move up exceeds it.
    budget = Budget("s_ace", "", model.cost("s_ace", start))
    assert project(start, model, budget, rules, loss=loss)["only"].spike_bits == (1,) * 4


def test_a_projection_is_no_worse_than_single_moves_where_the_program_is_cut_short(monkeypatch):
    monkeypatch.setattr(integer_program, "MAX_PROGRAMS", 0)
    model = CostModel(LAYERS)
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    start, budget = start_of(model, rules), Budget("bit_budget", "given", 16.0)
    problem = Problem(model, [budget], rules, LevelCount(), EVEN_PRICES)
    near = problem.improved(start)
    assert integer_program.improve(near, problem) == (near, False)
    plan = project(start, model, budget, rules, loss=LevelCount())
    assert budget.met_by(model, plan)
    assert problem.predicted(plan) <= problem.predicted(problem.best_of_starts(start))


def least_by_tables(weights, options, limit):
    """The least loss of layers of one input each: the best for all totals of w·N_w, s and T, layer by layer."""
    most = [max(option[axis] for option in options[0]) for axis in range(3)]
    best = np.full((most[0] * sum(weights) + 1, most[1] * len(weights) + 1, most[2] * len(weights) + 1), np.inf)
    best[0, 0, 0] = 0
    for count, choices in zip(weights, options, strict=True):
        after = np.full_like(best, np.inf)
        for w, s, t, loss in choices:
            here = after[w * count :, s:, t:]
            shifted = best[: best.shape[0] - w * count, : best.shape[1] - s, : best.shape[2] - t]
            np.minimum(here, shifted + loss, out=here)
        best = after
    w, s, t = np.indices(best.shape)
    return best[w * s * t <= limit * sum(weights) * len(weights) ** 2].min()


@pytest.mark.parametrize("seed", range(3))
def test_the_bit_budget_of_a_deep_network_is_solved_to_the_end(seed):
    random = np.random.default_rng(seed)
    weights = [int(count) for count in random.integers(1, 6, 12)]
    model = CostModel([layer(f"layer{i}", 1, count, 1, 1) for i, count in enumerate(weights)])
    choices = Choices(weight_bits=[1, 2, 4], spike_bits=[1, 2, 3, 4], time_steps=Span(low=1, high=2))
    rules = AllowedBits.make(model, choices, FirstLayer())
    losses, options = {}, []
    for name in rules.searched:
        a, b = random.random(2) ** 2
        losses |= {(name, w): a / 4**w for w in choices.weight_bits.values}
        spikes = product(choices.spike_bits.values, choices.time_steps.values)
        losses |= {(name, (s,) * t): b / 4**s / t for s, t in spikes}
        every = product(choices.weight_bits.values, choices.spike_bits.values, choices.time_steps.values)
        options.append([(w, s, t, losses[name, w] + losses[name, (s,) * t]) for w, s, t in every])
    assert len(options) == len(weights)
    found = solve(start_of(model, rules), model, [Budget("bit_budget", "6", 6.0)], rules, Table(losses))
    assert found.optimal
    assert model.cost("bit_budget", found.plan) <= 6
    # The solver's gap again, with a loss that is a hundredth of the largest at the least.
    assert found.loss == pytest.approx(least_by_tables(weights, options, 6.0), rel=100 * 1e-6 / 1e4)


def test_many_layers_are_solved_to_within_a_thousandth_in_few_programs(monkeypatch):
    random = np.random.default_rng(0)
    layers = [layer(f"layer{i}", 1, int(count), int(count), 1) for i, count in enumerate(random.integers(1, 99, 70))]
    model = CostModel(layers)
    rules = AllowedBits.make(model, SMALL, FirstLayer())
    scale = {name: random.random(2) for name in rules.searched}
    losses = {(name, w): scale[name][0] / 4**w for name in scale for w in SMALL.weight_bits.values}
    spikes = list(product(SMALL.spike_bits.values, SMALL.time_steps.values))
    losses |= {(name, (s,) * t): scale[name][1] / 4**s / t for name in scale for s, t in spikes}
    programs = []
    milp = integer_program.milp

    def counted(*arguments, integrality, **options):
        programs.append(integrality.any())
        return milp(*arguments, integrality=integrality, **options)

    monkeypatch.setattr(integer_program, "milp", counted)
    budget = Budget("bit_budget", "3", 3.0)
    found = solve(start_of(model, rules), model, [budget], rules, Table(losses))
    assert found.optimal
    assert budget.met_by(model, found.plan)
    assert found.gap == pytest.approx(GAP)
    # What has no whole numbers yet splits the boxes.
    assert sum(programs) < len(programs) / 2
    assert found.loss == pytest.approx(loss_of(found.plan, rules, Table(losses)))
    uniform = [
        loss_of(plan, rules, Table(losses))
        for w, (s, t) in product(SMALL.weight_bits.values, spikes)
        if budget.met_by(model, plan := rules.nearest(model, uniform_bits(w, s, t), granularity="layer"))
    ]
    assert found.bound <= found.loss < min(uniform)


def uniform_bits(weight_bits, spike_bits, time_steps):
    return UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)


def test_metrics_of_spikes_take_their_activity():
    model = CostModel(LAYERS, target=HARDWARE)
    rules = AllowedBits.make(model, SMALL, FirstLayer())
    start = start_of(model, rules)
    least, most = (model.cost("ns_ace", plan, ACTIVITY) for plan in (rules.smallest(model), start))
    budget = Budget("ns_ace", "given", (least + most) / 2)
    found = solve(start, model, [budget], rules, LevelCount(), activity=ACTIVITY)
    assert budget.met_by(model, found.plan, ACTIVITY)
    assert found.loss == pytest.approx(brute_force(model, rules, [budget], LevelCount(), ACTIVITY))
    with pytest.raises(InputError, match="count spikes first"):
        solve(start, model, [budget], rules, LevelCount())


def test_a_dear_kind_gets_fewer_bits():
    model = CostModel(LAYERS)
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    start = start_of(model, rules)
    least, most = (model.cost("s_ace", plan) for plan in (rules.smallest(model), start))
    budget = [Budget("s_ace", "given", (least + most) / 2)]
    bits = {
        price: sum(
            solve(start, model, budget, rules, LevelCount(), prices={"weight": price, "spike": 1.0, "time": 1.0})
            .plan[name]
            .weight_bits
            for name in rules.searched
        )
        for price in (0.01, 1.0, 100.0)
    }
    assert bits[0.01] > bits[100.0]
    assert bits[0.01] >= bits[1.0] >= bits[100.0]


def test_an_infeasible_budget_names_the_smallest():
    model = CostModel(LAYERS)
    rules = AllowedBits.make(model, SMALL, FirstLayer())
    with pytest.raises(InputError, match="smallest feasible value"):
        solve(start_of(model, rules), model, [Budget("s_ace", "1", 1.0)], rules, LevelCount())


def test_without_time_the_plan_is_feasible_and_says_that_nothing_is_proved():
    model = CostModel(LAYERS)
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    budget = Budget("bit_budget", "given", 16.0)
    found = solve(start_of(model, rules), model, [budget], rules, LevelCount(), seconds=0.0)
    assert not found.optimal
    assert budget.met_by(model, found.plan)


def test_without_time_what_is_left_goes_by_the_prices_too():
    model = CostModel(LAYERS)
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    start = start_of(model, rules)
    least, most = (model.cost("s_ace", plan) for plan in (rules.smallest(model), start))
    budget = Budget("s_ace", "given", (least + most) / 2)
    bits = {}
    for price in (0.01, 1.0, 100.0):
        prices = {"weight": price, "spike": 1.0, "time": 1.0}
        found = solve(start, model, [budget], rules, LevelCount(), prices=prices, seconds=0.0)
        assert not found.optimal
        assert found.plan == Problem(model, [budget], rules, LevelCount(), prices).best_of_starts(start)
        bits[price] = sum(found.plan[name].weight_bits for name in rules.searched)
    assert bits[0.01] > bits[1.0] > bits[100.0]


def test_a_budget_above_everything_gives_every_layer_the_least_loss():
    model = CostModel(LAYERS)
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    found = solve(start_of(model, rules), model, [Budget("bit_budget", "given", 1e6)], rules, LevelCount())
    assert all(found.plan[name].weight_bits == 8 for name in rules.searched)
