import pytest

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.refine import allocate_by_refinement
from bitsearch.allocation.methods.uniform import allocate_uniformly
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.train.evaluate import evaluate
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


@pytest.fixture
def problem(network, model, rules, splits, space):
    def make(**settings):
        settings = Allocation(**settings)
        start = model.cost("bit_budget", rules.nearest(model, settings.start, granularity="layer"))
        short = space.model_copy(update={"training": Training(epochs=2, batch_size=64)})
        session = TrainingSession(splits, short.training)
        return AllocationProblem(
            network, model, rules, session, short, settings, [Budget("bit_budget", "given", 0.5 * start)], seed=0
        )

    return make


def test_the_end_is_never_worse_on_validation_than_the_uniform_start(problem, splits):
    given = problem(refine={"tries": 4})
    (start,), (end,) = allocate_uniformly(given), allocate_by_refinement(given)
    assert evaluate(end, splits.validation, 64) >= evaluate(start, splits.validation, 64)
    # What was kept was better, and what was not better was not kept.
    moved = end.layer_plans != start.layer_plans
    assert moved == (evaluate(end, splits.validation, 64) > evaluate(start, splits.validation, 64))
