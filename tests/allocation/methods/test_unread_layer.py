"""A layer that no output depends on, such as a second head: every method runs, and gives it the fewest bits."""

import copy

import pytest
import torch
from torch import nn

from bitsearch.allocation.methods import METHODS
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import AllowedBits, Budget, CostModel, trace
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


class TwoHeads(nn.Module):
    """Its second head runs, and nothing reads it."""

    def __init__(self):
        super().__init__()
        self.body, self.scores, self.boxes = nn.Linear(64, 16), nn.Linear(16, 10), nn.Linear(16, 4)

    def forward(self, x):
        x = torch.relu(self.body(x.flatten(1)))
        self.boxes(x)
        return self.scores(x)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return TwoHeads()


@pytest.fixture(scope="module")
def problem(network, splits, space):
    model = CostModel(trace(network, splits.train.tensors[0][:32]))
    rules = AllowedBits.make(model, space.choices, space.first_layer)

    def make(method):
        settings = Allocation(method=method)
        start = rules.nearest(model, settings.start, granularity="layer")
        budget = Budget("bit_budget", "0.8 of the start", 0.8 * model.cost("bit_budget", start))
        short = space.model_copy(update={"training": Training(epochs=2, batch_size=64), "allocation": settings})
        session = TrainingSession(splits, short.training)
        return AllocationProblem(copy.deepcopy(network), model, rules, session, short, settings, [budget], 0)

    return make


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_what_learns_gives_the_layer_the_fewest_bits(problem, method):
    problem = problem(method)
    *_, last = METHODS[method](problem)
    assert all(budget.met_by(problem.model, last.layer_plans) for budget in problem.budgets)
    plan, fewest = last.layer_plans["boxes"], problem.rules.smallest(problem.model)["boxes"]
    if method in ("adaptive", "ramp", "sensitivity"):
        assert (plan.weight_bits, plan.spike_bits) == (fewest.weight_bits, fewest.spike_bits)
    if method == "local_binary":
        assert plan.weight_bits == 1
