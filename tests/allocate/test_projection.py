import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitsearch.allocate.projection import LevelCount, moves, project
from bitsearch.cost import Budget, CostModel, LayerGeometry
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import Choices, FirstLayer, Span


def geometry(name, macs, weights, inputs, outputs, first=False):
    return LayerGeometry(name, macs, weights, inputs, outputs, signed_input=first, first=first)


MODEL = CostModel(
    [
        geometry("first", 2304, 36, 64, 4, first=True),
        geometry("small", 2304, 144, 64, 4),
        geometry("busy", 9216, 288, 256, 8),
        geometry("heavy", 640, 640, 64, 10),
    ]
)
TWINS = CostModel(
    [
        geometry("first", 1000, 100, 64, 4, first=True),
        geometry("one", 4000, 400, 64, 4),
        geometry("two", 4000, 400, 64, 4),
    ]
)
METRICS = ("bit_budget", "bit_budget_mac", "s_ace", "weight_memory")
FIRST = LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True)
CHOICES = Choices()


def spans(high):
    return st.tuples(st.integers(1, high), st.integers(1, high)).map(lambda ends: Span(low=min(ends), high=max(ends)))


@st.composite
def problems(draw):
    """(start plan, choices, budget, prices)."""
    choices = draw(st.builds(Choices, weight_bits=spans(8), spike_bits=spans(8), time_steps=spans(4)))
    start = {"first": FIRST}
    for name in ("small", "busy", "heavy"):
        time_steps = draw(st.integers(choices.time_steps.low, choices.time_steps.high))
        bits = st.integers(choices.spike_bits.low, choices.spike_bits.high)
        start[name] = LayerPlan(
            weight_bits=draw(st.integers(choices.weight_bits.low, choices.weight_bits.high)),
            spike_bits=tuple(draw(st.lists(bits, min_size=time_steps, max_size=time_steps))),
            time_steps=time_steps,
        )
    metric = draw(st.sampled_from(METRICS))
    least = MODEL.cost(metric, MODEL.uniform(choices.smallest, FirstLayer()))
    largest = UniformBits(
        weight_bits=choices.weight_bits.high, spike_bits=choices.spike_bits.high, time_steps=choices.time_steps.high
    )
    most = MODEL.cost(metric, MODEL.uniform(largest, FirstLayer()))
    budget = Budget(metric, "drawn", least + draw(st.floats(0, 1)) * (most - least))
    price = st.floats(0.2, 5)
    return start, choices, budget, draw(st.fixed_dictionaries({"weight": price, "spike": price, "time": price}))


@settings(deadline=None, max_examples=150)
@given(problems())
def test_the_projected_plan_is_feasible_within_the_choices_and_full(problem):
    start, choices, budget, prices = problem
    plan = project(start, MODEL, budget, choices, searched=["small", "busy", "heavy"], prices=prices)
    assert MODEL.cost(budget.metric, plan) <= budget.limit
    assert list(plan) == list(start)
    assert plan["first"] == FIRST
    for name in ("small", "busy", "heavy"):
        assert plan[name].weight_bits in choices.weight_bits
        assert plan[name].time_steps in choices.time_steps
        assert len(plan[name].spike_bits) == plan[name].time_steps
        assert all(bits in choices.spike_bits for bits in plan[name].spike_bits)
        for move in moves(plan[name], choices, +1):
            # Spike bits are not in the weights' memory: they cost nothing there, so no budget is spent on them.
            free = move.kind == "spike" and budget.metric == "weight_memory"
            assert free or not budget.met_by(MODEL, plan | {name: move.plan}), (name, move)


@settings(deadline=None, max_examples=40)
@given(problems(), st.sets(st.sampled_from(["small", "busy", "heavy"]), min_size=1))
def test_only_searched_layers_change(problem, searched):
    start, choices, budget, _ = problem
    generous = Budget(budget.metric, "all", 1.01 * MODEL.cost(budget.metric, start))
    plan = project(start, MODEL, generous, choices, searched=sorted(searched))
    assert generous.met_by(MODEL, plan)
    for name in set(start) - searched:
        assert plan[name] == start[name]


def test_without_refilling_a_feasible_plan_stays_as_it_is():
    start = MODEL.uniform(UniformBits(weight_bits=3, spike_bits=2, time_steps=2), FirstLayer())
    budget = Budget("s_ace", "", MODEL.cost("s_ace", start))
    assert project(start, MODEL, budget, CHOICES, searched=["small", "busy", "heavy"], refill=False) == start
    roomy = Budget("s_ace", "", 2 * budget.limit)
    assert project(start, MODEL, roomy, CHOICES, searched=["small", "busy"], refill=False) == start
    assert project(start, MODEL, roomy, CHOICES, searched=["small", "busy"]) != start


class Precious(LevelCount):
    """Makes one layer's loss a thousand times the other's."""

    def __init__(self, name):
        self.name = name

    def weight_loss(self, name, plan):
        return super().weight_loss(name, plan) * (1000 if name == self.name else 1)

    def spike_loss(self, name, plan):
        return super().spike_loss(name, plan) * (1000 if name == self.name else 1)


@pytest.mark.parametrize("metric", ["bit_budget", "s_ace"])
@pytest.mark.parametrize("precious", ["one", "two"])
@pytest.mark.parametrize("start_bits", [2, 6])
def test_a_precious_layer_keeps_more_bits_than_its_twin(metric, precious, start_bits):
    start = TWINS.uniform(UniformBits(weight_bits=start_bits, spike_bits=start_bits, time_steps=2), FirstLayer())
    middle = TWINS.uniform(UniformBits(weight_bits=4, spike_bits=4, time_steps=2), FirstLayer())
    budget = Budget(metric, "", TWINS.cost(metric, middle))
    plan = project(start, TWINS, budget, CHOICES, searched=["one", "two"], loss=Precious(precious))
    other = {"one": "two", "two": "one"}[precious]
    assert plan[precious].weight_bits > plan[other].weight_bits
    assert sum(2**bits for bits in plan[precious].spike_bits) > sum(2**bits for bits in plan[other].spike_bits)


def test_a_dear_kind_is_reduced_first():
    start = TWINS.uniform(UniformBits(weight_bits=6, spike_bits=6, time_steps=3), FirstLayer())
    budget = Budget("s_ace", "", 0.5 * TWINS.cost("s_ace", start))
    plans = {
        kind: project(
            start,
            TWINS,
            budget,
            CHOICES,
            searched=["one", "two"],
            prices={"weight": 1.0, "spike": 1.0, "time": 1.0} | {kind: 1e6},
            refill=False,
        )
        for kind in ("weight", "spike", "time")
    }
    means = {kind: TWINS.means(plan) for kind, plan in plans.items()}
    for index, kind in enumerate(("weight", "spike", "time")):
        assert means[kind][index] == min(mean[index] for mean in means.values())
        assert means[kind][index] < TWINS.means(start)[index]
        assert sum(mean[index] == means[kind][index] for mean in means.values()) == 1


def test_a_plan_below_the_budget_is_filled_where_the_loss_falls_most_per_cost():
    start = MODEL.uniform(UniformBits(weight_bits=1, spike_bits=1, time_steps=1), FirstLayer())
    # Room for one unit of the classifier's weight bits (640 MACs), and for no unit of any other layer's.
    budget = Budget("s_ace", "", MODEL.cost("s_ace", start) + 640)
    plan = project(start, MODEL, budget, CHOICES, searched=["small", "busy", "heavy"])
    assert {name for name in plan if plan[name] != start[name]} == {"heavy"}
    assert MODEL.cost("s_ace", plan) == budget.limit


def test_the_moves_one_unit_away():
    plan = LayerPlan(weight_bits=1, spike_bits=(2, 3), time_steps=2)
    choices = Choices(weight_bits=Span(low=1, high=3), spike_bits=Span(low=2, high=8), time_steps=Span(low=1, high=2))
    up = {(move.kind, move.slot): (move.plan.weight_bits, move.plan.spike_bits) for move in moves(plan, choices, 1)}
    assert up == {("weight", 0): (2, (2, 3)), ("spike", 2): (1, (3, 3)), ("spike", 3): (1, (2, 4))}
    down = {(move.kind, move.slot): (move.plan.weight_bits, move.plan.spike_bits) for move in moves(plan, choices, -1)}
    assert down == {("time", 1): (1, (2,)), ("spike", 3): (1, (2, 2))}
    longer = [move.plan for move in moves(plan, CHOICES, 1) if move.kind == "time"]
    assert longer == [LayerPlan(weight_bits=1, spike_bits=(2, 3, 3), time_steps=3)]
