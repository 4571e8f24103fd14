import pytest

from bitsearch.allocation.budget_control import tightened_limit
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.ramp import allocate_by_ramp
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


@pytest.mark.parametrize("estimator", ["curvature", "straight_through"])
def test_every_step_leaves_a_plan_within_its_budget(network, model, rules, splits, space, estimator):
    settings = Allocation(ramp={"steps": 3}, estimator=estimator)
    start = model.cost("bit_budget", rules.nearest(model, settings.start, granularity="layer"))
    budget = Budget("bit_budget", "given", 0.4 * start)
    short = space.model_copy(update={"training": Training(epochs=3, batch_size=64)})
    records = []
    session = TrainingSession(splits, short.training, on_epoch=records.append)
    problem = AllocationProblem(network, model, rules, session, short, settings, [budget], seed=0)
    found = list(allocate_by_ramp(problem))
    assert len(found) == 3
    costs = [model.cost("bit_budget", left.layer_plans) for left in found]
    for number, (left, cost) in enumerate(zip(found, costs, strict=True), start=1):
        assert cost <= tightened_limit(start, budget.limit, number / 3)
        assert not left.searched_layers
        assert rules.contains(left.layer_plans)
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == 3
    # One training of twice a trial's epochs, not three.
    assert [record.phase for record in records] == ["search", "fine-tune"] * 3
