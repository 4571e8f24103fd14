from dataclasses import replace

import pytest

from bitsearch.cost import Budget, SpikeStatistics, parse_budgets
from bitsearch.score import Accuracy, MeasuredScore, Score
from bitsearch.study.plan_study import plan_study
from bitsearch.study.study import BASELINE, SEARCHED
from bitsearch.train.task import load_task


@pytest.fixture(scope="module")
def task(tiny_space):
    return load_task(tiny_space, device="cpu")


def with_search(task, **changes):
    space = task.space
    return replace(task, space=space.model_copy(update={"search": space.search.model_copy(update=changes)}))


def budgets_of(task, request):
    return parse_budgets(request, "bit_budget", task.model, task.space.baseline)


def test_the_axis_ends_at_what_full_precision_has(task):
    plan = plan_study(task, budgets_of(task, "4x"), "bit_budget", 4, None)
    front = plan.up_to(Accuracy(validation=0.95), 0.01).front
    assert (front.least, front.most, front.error) == (0.1, 0.95, 0.01)
    # Of other scores nothing is known of guessing; errors are ranked the other way round.
    error = MeasuredScore(score=Score(name="error", share=False, direction="down"), validation=2.0)
    front = plan.up_to(error, 0.25).front
    assert (front.least, front.most, front.error) == (-4.0, -2.0, 0.25)


def test_half_of_the_trials_are_at_the_budget(task):
    task = with_search(task, uniform_trials=8, front_epochs=100)
    plan = plan_study(task, budgets_of(task, "4x"), "bit_budget", 12, None)
    assert (plan.searched, plan.front.trials) == (12, 6)
    assert len(plan.uniform) + plan.front.uniform_trials == plan.baselines <= 8
    along = [plan.aim(SEARCHED, attempt) for attempt in range(12)]
    assert [index for is_along, index in along if is_along] == list(range(6))
    assert [index for is_along, index in along if not is_along] == list(range(6))
    assert along[0] == (False, 0)
    uniform = [plan.aim(BASELINE, attempt) for attempt in range(plan.baselines)]
    assert [index for is_along, index in uniform if not is_along] == list(range(len(plan.uniform)))


def test_trials_along_the_front_are_no_more_where_each_takes_as_long_as_any(task):
    task = with_search(task, front_epochs=1)
    assert plan_study(task, budgets_of(task, "4x"), "bit_budget", 12, None).searched > 12
    plan = plan_study(task, budgets_of(task, "4x"), "bit_budget", 12, None, shortens=False)
    assert (plan.searched, plan.front.trials) == (12, 6)


def test_the_axis_reaches_from_the_cheapest_plan_to_the_baseline(task):
    model = task.model
    axis = plan_study(task, budgets_of(task, "4x"), "bit_budget", 4, None).front
    assert axis.low == model.cost("bit_budget", task.rules.smallest(model))
    assert axis.limit == model.cost("bit_budget", model.uniform(task.space.baseline, None)) / 4
    assert axis.low < axis.limit < axis.high <= model.cost("bit_budget", model.uniform(task.space.baseline, None))
    costs = [candidate.cost for candidate in axis.uniform]
    assert costs == sorted(costs)
    assert axis.low <= costs[0] <= costs[-1] <= axis.high


def test_an_axis_without_a_budget_is_searched_along_its_whole_length(task):
    limit = 0.6 * task.model.cost("weight_memory", task.model.uniform(task.space.baseline, None))
    plan = plan_study(task, [Budget("weight_memory", "60 %", limit)], "s_ace", 6, None)
    assert plan.front.limit is None
    assert (plan.searched, plan.front.trials, len(plan.uniform)) == (6, 3, 0)
    # Every candidate is within the budget on the other metric.
    for candidate in plan.front.uniform:
        bits = task.rules.nearest(task.model, candidate.bits, granularity="layer")
        assert task.model.cost("weight_memory", bits) <= limit
        assert task.model.cost("s_ace", bits) == pytest.approx(candidate.cost)


def test_short_trials_along_the_front_take_the_time_of_the_others(task):
    training = task.space.training.model_copy(update={"epochs": 18})
    task = with_search(task, front_epochs=4)
    task = replace(task, space=task.space.model_copy(update={"training": training}))
    plan = plan_study(task, budgets_of(task, "4x"), "bit_budget", 12, None)
    assert (plan.searched, plan.front.trials) == (6 + 6 * 4, 6 * 4)
    aims = [plan.aim(SEARCHED, attempt)[0] for attempt in range(plan.searched)]
    assert aims == 6 * [False, True, True, True, True]


def test_no_front_where_none_is_asked_for(task):
    for changes in ({"front_share": 0.0}, {"methods": ("adaptive", "random"), "parameters": {}}):
        plan = plan_study(with_search(task, **changes), budgets_of(task, "4x"), "bit_budget", 4, None)
        assert plan.front is None


def test_one_trial_is_at_the_budget_where_nothing_varies(task):
    plan = plan_study(with_search(task, parameters={}), budgets_of(task, "4x"), "bit_budget", 5, None)
    assert plan.front.trials == 4
    plan = plan_study(with_search(task, parameters={}, front_share=0), budgets_of(task, "4x"), "bit_budget", 5, None)
    assert plan.searched == 1


def test_a_method_that_draws_another_plan_at_every_attempt_varies(task):
    allocation = task.space.allocation.model_copy(update={"method": "random"})
    task = with_search(task, parameters={}, front_share=0)
    task = replace(task, space=task.space.model_copy(update={"allocation": allocation}))
    assert plan_study(task, budgets_of(task, "4x"), "bit_budget", 5, None).searched == 5


def test_a_hardware_limit_on_the_axis_ends_it(task):
    limit = 0.5 * task.model.cost("weight_memory", task.model.uniform(task.space.baseline, None))
    budgets = [*budgets_of(task, "memory=1000000"), Budget("weight_memory", "target", limit, of_target=True)]
    axis = plan_study(task, budgets, "weight_memory", 4, None).front
    assert axis.high == axis.limit == limit


def test_no_uniform_plan_is_trained_twice_where_there_are_few(task):
    task = with_search(task, uniform_trials=1000, front_share=0.9)
    plan = plan_study(task, budgets_of(task, "2x"), "bit_budget", 4, None)
    untried = [candidate.bits for candidate in plan.front.uniform if candidate.bits not in plan.uniform]
    assert plan.uniform
    assert plan.front.uniform_trials == len(untried) < len(plan.front.uniform)


def test_an_axis_on_which_plans_cost_nothing_is_no_front(task):
    names = [layer.name for layer in (*task.model.layers, *task.model.unquantized)]
    silent = SpikeStatistics(dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0))
    plan = plan_study(task, budgets_of(task, "4x"), "synops", 4, silent)
    assert plan.front is None
    assert plan.uniform
