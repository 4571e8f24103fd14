"""A network that repeats its input over steps of its own and has a layer behind their mean: every method runs."""

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


class MeanOfSteps(nn.Module):
    """Two linear layers run at every step, and the last one on the mean over them."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.first, self.second, self.scores = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = x.flatten(1).expand(self.steps, -1, -1)
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.scores(x.mean(0))


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_layer_behind_the_mean_over_time(method, steps, splits, space):
    torch.manual_seed(0)
    network = MeanOfSteps(steps)
    model = CostModel(trace(network, splits.train.tensors[0][:32]))
    names = [layer.name for layer in model.layers]
    assert names == ["first", "second", "scores"]
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    settings = Allocation(method=method)
    start = rules.nearest(model, settings.start, granularity="layer")
    budget = Budget("bit_budget", "0.8 of the start", 0.8 * model.cost("bit_budget", start))
    short = space.model_copy(update={"training": Training(epochs=2, batch_size=64), "allocation": settings})
    session = TrainingSession(splits, short.training)
    problem = AllocationProblem(copy.deepcopy(network), model, rules, session, short, settings, [budget], 0)
    *_, last = METHODS[method](problem)
    assert list(last.layer_plans) == names
    assert budget.met_by(model, last.layer_plans)
    assert last.eval()(splits.validation.tensors[0][:8]).shape == (8, 10)
