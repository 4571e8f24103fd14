import itertools

import pytest

from bitsearch.allocate.loss_model import LevelCount
from bitsearch.allocate.methods.base import AllocationProblem
from bitsearch.allocate.methods.refine import allocate_by_refinement, exchanges
from bitsearch.allocate.methods.uniform import allocate_uniformly
from bitsearch.cost import Budget
from bitsearch.space import Allocation, Training
from bitsearch.train.evaluate import evaluate


@pytest.fixture
def problem(network, model, rules, splits, space):
    def make(**settings):
        settings = Allocation(**settings)
        start = model.cost("bit_budget", rules.nearest(model, settings.start, granularity="layer"))
        short = space.model_copy(update={"training": Training(epochs=2, batch_size=64)})
        return AllocationProblem(
            network, model, rules, splits, short, settings, [Budget("bit_budget", "given", 0.5 * start)], seed=0
        )

    return make


def test_the_end_is_never_worse_on_validation_than_the_uniform_start(problem, splits):
    given = problem(refine={"tries": 4})
    (start,), (end,) = allocate_uniformly(given), allocate_by_refinement(given)
    assert evaluate(end, splits.validation, 64) >= evaluate(start, splits.validation, 64)
    # What was kept was better, and what was not better was not kept.
    moved = end.layer_plans != start.layer_plans
    assert moved == (evaluate(end, splits.validation, 64) > evaluate(start, splits.validation, 64))


def test_exchanges_move_single_numbers_between_layers_best_first(problem, model, rules):
    given = problem()
    (start,) = allocate_uniformly(given)
    plan = start.layer_plans
    found = list(itertools.islice(exchanges(plan, given, LevelCount(), None), 12))
    assert found

    def loss(plan):
        layers = [plan[name] for name in rules.searched]
        return sum(
            LevelCount().weight_loss("", layer.weight_bits) + LevelCount().spike_loss("", layer.spike_bits)
            for layer in layers
        )

    losses = [loss(other) for other in found]
    assert losses == pytest.approx(sorted(losses))
    for other in found:
        assert given.budgets[0].met_by(model, other)
        assert rules.contains(other)
        assert 1 <= sum(plan[name] != other[name] for name in plan) <= 2
