import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bitsearch import quantize

KINDS = {
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.1),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "state of its own": lambda groups: torch.optim.Adagrad(groups, lr=0.1),
}


class Search:
    """A search in which the weights stay as they are: only what moves the latents can differ."""

    def __init__(self, kind):
        torch.manual_seed(0)
        self.x, self.labels = torch.rand(32, 8), torch.arange(32) % 4
        body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
        self.network = quantize(body, self.x).train()
        groups = self.network.parameter_groups(0.0, bits_learning_rate=0.2)
        self.optimizer = KINDS[kind]([group for group in groups if "latents" in group])
        self.network.watch(self.optimizer)

    def train(self, steps):
        for _ in range(steps):
            loss = F.cross_entropy(self.network(self.x), self.labels) + self.network.penalty("2x", steps=20)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @property
    def latents(self):
        return torch.cat([layer.latents.detach() for layer in self.network.searched_layers.values()])


@pytest.mark.parametrize("kind", ["sgd", "momentum", "state of its own"])
def test_latents_move_as_by_adam_under_gradient_descent(kind):
    search, reference = Search(kind), Search("adam")
    search.train(20)
    reference.train(20)
    assert torch.equal(search.latents, reference.latents)
    assert search.network.layer_plans == reference.network.layer_plans
    assert search.network.changes > 0


def test_the_moments_are_saved_and_loaded_with_the_optimizer():
    search, again = Search("momentum"), Search("momentum")
    search.train(5)
    again.network.load_state_dict(search.network.state_dict())
    again.optimizer.load_state_dict(copy.deepcopy(search.optimizer.state_dict()))
    again.network._penalties = copy.copy(search.network._penalties)
    slope = torch.rand(())
    for one in (search, again):
        one.optimizer.zero_grad()
        for layer in one.network.searched_layers.values():
            layer.weight_latent.grad = slope.clone()
        one.optimizer.step()
    assert torch.equal(search.latents, again.latents)
    assert not torch.equal(search.latents, Search("momentum").latents)
