import pytest
import torch
from tolerances import FLOAT64

from bitsearch.allocation.methods.adaptive import allocate_adaptively
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.methods.search_start import search_start
from bitsearch.allocation.moves import moves
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import AllowedBits, Budget, CostModel, Target, parse_budgets, trace
from bitsearch.models import make_network
from bitsearch.plan import UniformBits
from bitsearch.train.evaluate import evaluate_with_activity
from bitsearch.train.session import TrainingSession

SETTINGS = {
    "curvature": {},
    "straight_through": {"estimator": "straight_through"},
    "means": {"regularizer": "means"},
    "published": {"estimator": "straight_through", "regularizer": "means"},
    "channel": {"quantizer": {"granularity": "channel"}},
    "no_renewal": {"renewal": {"enabled": False}},
    "leaky": {"decay": 0.5, "depth_preference": 1.0, "probe_every": 1},
    "priced": {"weight_price": 0.2, "spike_price": 5.0, "time_price": 2.0, "budget_share": 0.8},
}


def least_cost(model, space, metric="bit_budget"):
    return model.cost(metric, AllowedBits.make(model, space.choices, space.first_layer).smallest(model))


def budget_of(model, space, ratio=2.0, metric="bit_budget"):
    return Budget(metric, "given", ratio * least_cost(model, space, metric))


def run(network, model, splits, space, budget, seed=0, on_epoch=None, **settings):
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    budgets = budget if isinstance(budget, list) else [budget]
    session = TrainingSession(splits, space.training, on_epoch=on_epoch)
    problem = AllocationProblem(network, model, rules, session, space, Allocation(**settings), budgets, seed)
    (quantized,) = allocate_adaptively(problem)
    return quantized


def is_used_up(model, rules, plan, budget, share=1.0):
    """Whether no number of a layer may be its next larger one within the budget, or a share of it."""
    limit = share * budget.limit * (1 - FLOAT64)
    for name in rules.searched:
        layer = plan[name]
        for move in moves(layer.weight_bits, layer.spike_bits, rules.choices[name], +1):
            more = {"weight_bits": move.weight_bits, "spike_bits": move.spike_bits, "time_steps": len(move.spike_bits)}
            if model.cost(budget.metric, plan | {name: layer.model_copy(update=more)}) <= limit:
                return False
    return True


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_result_meets_its_budget_is_fixed_and_not_uniform(network, model, rules, splits, space, settings):
    budget = budget_of(model, space)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quantized = run(network, model, splits, space, budget, **settings)
    plans = quantized.layer_plans
    assert model.cost("bit_budget", plans) <= budget.limit
    assert is_used_up(model, rules, plans, budget, settings.get("budget_share", 1.0))
    assert not quantized.searched_layers
    first, *searched = plans.values()
    assert (first.weight_bits, first.spike_bits) == (8, (8,))
    assert len({(plan.weight_bits, plan.spike_bits) for plan in searched}) > 1
    for plan in searched:
        assert plan.granularity == settings.get("quantizer", {}).get("granularity", "layer")
        assert plan.decay == settings.get("decay", 1.0)
        assert plan.weight_bits in space.choices.weight_bits
        assert plan.time_steps in space.choices.time_steps
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value)


@pytest.mark.parametrize("metric", ["bit_budget_mac", "s_ace", "weight_memory", "energy"])
def test_a_budget_may_bind_any_metric(network, model, rules, splits, space, metric):
    budget = budget_of(model, space, 1.5, metric)
    quantized = run(network, model, splits, space, budget)
    assert model.cost(metric, quantized.layer_plans) <= budget.limit
    assert is_used_up(model, rules, quantized.layer_plans, budget)


@pytest.mark.parametrize("settings", [{}, {"estimator": "straight_through"}], ids=["curvature", "straight_through"])
def test_one_seed_gives_one_result(network, model, splits, space, settings):
    budget = budget_of(model, space)
    one, other, different = (run(network, model, splits, space, budget, seed, **settings) for seed in (7, 7, 8))
    assert one.layer_plans == other.layer_plans
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert not torch.equal(one.layers["0"].weight, different.layers["0"].weight)


def test_the_epochs_are_shared_between_search_and_fine_tuning(network, model, splits, space):
    records = []
    # From far away, so that there is something to come down from.
    settings = {"search_share": 0.75, "headroom": 100.0}
    run(network, model, splits, space, budget_of(model, space), on_epoch=records.append, **settings)
    assert [(record.phase, record.epoch, record.epochs) for record in records] == [
        ("search", 1, 3),
        ("search", 2, 3),
        ("search", 3, 3),
        ("fine-tune", 1, 1),
    ]
    for record in records[:3]:
        assert record.measures["bit_budget"] > 0
        assert record.measures["penalty_weight"] > 0
    assert records[2].measures["bit_budget"] < records[0].measures["bit_budget"]
    assert records[2].measures["changes"] > 0


def test_a_smallest_budget_gives_the_smallest_plan(network, model, splits, space):
    quantized = run(network, model, splits, space, budget_of(model, space, 1.0))
    assert {(plan.weight_bits, plan.spike_bits) for plan in list(quantized.layer_plans.values())[1:]} == {(1, (1,))}


def test_a_share_of_a_budget_that_is_itself_too_small_still_gives_a_plan(network, model, splits, space):
    budget = budget_of(model, space, 1.1)
    quantized = run(network, model, splits, space, budget, budget_share=0.6)
    assert budget.met_by(model, quantized.layer_plans)


def test_a_share_of_the_budget_is_aimed_at(network, model, rules, splits, space):
    budget = budget_of(model, space, 3.0)
    plans = run(network, model, splits, space, budget, budget_share=0.6).layer_plans
    assert model.cost("bit_budget", plans) <= 0.6 * budget.limit
    assert is_used_up(model, rules, plans, budget, 0.6)


def test_a_searchable_copy_starts_where_the_settings_say(network, model, rules, space):
    start = UniformBits(weight_bits=5, spike_bits=2, time_steps=3)
    quantized = make_learnable_copy(network, model, rules, space, Allocation(start=start))
    assert list(quantized.searched_layers) == ["3", "6", "10"]
    for layer in quantized.searched_layers.values():
        assert layer.latents.tolist() == [5, 3, 2, 2, 2, 2]
    assert quantized.layer_plans["0"].signed_input


@pytest.fixture(scope="module")
def digits(splits):
    """(network, layers, splits) of a narrow digits_cnn and a few images."""
    torch.manual_seed(0)
    options = {"input_shape": splits.input_shape, "classes": splits.classes}
    network = make_network("digits_cnn", {"width": 4}, **options)
    return network, trace(network, splits.train.tensors[0][:32])


@pytest.mark.parametrize(
    "settings", [{}, {"estimator": "straight_through", "regularizer": "means"}], ids=["own", "paper"]
)
def test_on_a_target_two_budgets_and_its_limits_are_met_together(digits, splits, space, settings):
    network, layers = digits
    # Of the target's memory, so little that it binds.
    small = {"weight_bytes": 1200, "working_bytes": 1800}
    target = Target.load("power_of_two")
    target = target.model_copy(update={"memory": target.memory.model_copy(update=small)})
    model = CostModel(layers, target=target)
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    budgets = parse_budgets(["3x", "energy=1.6x"], "latency", model, space.baseline)
    assert [budget.metric for budget in budgets] == ["latency", "energy", "weight_memory", "working_memory"]
    for budget in budgets:
        budget.check_feasible(model, rules)
    start = model.uniform(UniformBits(weight_bits=4, spike_bits=4, time_steps=2), space.first_layer)
    assert not any(budget.met_by(model, start) for budget in budgets)
    records = []
    quantized = run(network, model, splits, space, budgets, on_epoch=records.append, **settings)
    plans = quantized.layer_plans
    for budget in budgets:
        assert budget.met_by(model, plans), budget
    assert rules.contains(plans)
    assert len({(plan.weight_bits, plan.spike_bits) for plan in plans.values()}) > 2
    assert {budget.metric for budget in budgets} <= set(records[0].measures)


@pytest.mark.parametrize("metric", ["ns_ace", "synops"])
def test_a_budget_by_firing_rates_is_met_as_measured_on_validation(digits, splits, space, metric):
    network, layers = digits
    model = CostModel(layers)
    start = run_start(network, model, space)
    _, activity = evaluate_with_activity(start, splits.validation, 32)
    budget = Budget(metric, "given", 0.7 * model.cost(metric, start.layer_plans, activity))
    memory = Budget("weight_memory", "given", 0.8 * model.cost("weight_memory", start.layer_plans))
    quantized = run(network, model, splits, space, [budget, memory])
    _, activity = evaluate_with_activity(quantized, splits.validation, 32)
    assert budget.met_by(model, quantized.layer_plans, activity)
    assert memory.met_by(model, quantized.layer_plans)
    # It is used, too: for more than the smallest plan.
    least = AllowedBits.make(model, space.choices, space.first_layer).smallest(model)
    assert model.cost(metric, quantized.layer_plans, activity) > model.cost(metric, least, activity)


def run_start(network, model, space):
    """The searchable network before training, its steps set."""
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    return make_learnable_copy(network, model, rules, space, Allocation())


def test_a_search_starts_near_its_budget(network, model, rules, splits, space):
    def start(ratio, **settings):
        given = Allocation(**settings)
        own = model.cost("bit_budget", rules.nearest(model, given.start, granularity="layer"))
        budget = Budget("bit_budget", "given", own / ratio)
        session = TrainingSession(splits, space.training)
        problem = AllocationProblem(network, model, rules, session, space, given, [budget], seed=0)
        bits = search_start(problem, None)
        return bits, model.cost("bit_budget", problem.plan(bits)) / budget.limit

    given = Allocation().start
    assert start(1.0)[0] == start(1.5)[0] == given
    near, times = start(6.0)
    assert near != given
    assert 1.0 < times <= 1.5
    assert start(6.0, headroom=6.0)[0] == given
    nearer, times = start(6.0, headroom=1.0)
    assert times <= 1.0
    sixth = Budget("bit_budget", "", times_of(model, rules, given) / 6.0)
    assert [nearer] == uniform_plans(model, rules, [sixth], 1, weight_tolerance=Allocation().weight_tolerance)


def times_of(model, rules, bits):
    return model.cost("bit_budget", rules.nearest(model, bits, granularity="layer"))


def test_a_search_starts_where_it_is_told_to_where_no_uniform_plan_is_near(network, model, rules, splits, space):
    # The first layer alone costs more than twice this.
    tight = Budget("weight_memory", "given", 0.4 * least_cost(model, space, "weight_memory"))
    session = TrainingSession(splits, space.training)
    problem = AllocationProblem(network, model, rules, session, space, Allocation(), [tight], seed=0)
    assert search_start(problem, None) == Allocation().start
