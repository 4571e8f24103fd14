import pytest
import torch
from spikingjelly.activation_based import neuron
from tolerances import FLOAT64
from torch import nn

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.sensitivity import score
from bitsearch.allocation.signals.hessian import hessian_traces
from bitsearch.allocation.solvers.integer_program import solve
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.train.session import TrainingSession


def exact_traces(network, x, labels):
    """By torch's own Hessian: of the weights of the second layer, and of its input."""
    first, relu, second = network
    hidden = relu(first(x)).detach()

    def by_weight(weight):
        return nn.functional.cross_entropy(nn.functional.linear(hidden, weight, second.bias), labels)

    def by_input(hidden):
        return nn.functional.cross_entropy(second(hidden), labels)

    found = [
        torch.autograd.functional.hessian(by_weight, second.weight),
        torch.autograd.functional.hessian(by_input, hidden),
    ]
    return [float(h.reshape(t.numel(), t.numel()).trace()) for h, t in zip(found, (second.weight, hidden), strict=True)]


def test_traces_agree_with_the_whole_hessian():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    x, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    generator = torch.Generator().manual_seed(0)
    estimates = torch.tensor([hessian_traces(network, ["2"], x, labels, generator)["2"] for _ in range(250)])
    exact = torch.tensor(exact_traces(network, x, labels))
    spread = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - exact).abs() < 4 * spread + FLOAT64).all()
    assert (exact > 0).all()


def test_layers_with_one_weight_get_equal_parts_of_its_trace():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    network[2].weight = network[0].weight
    x, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])

    def loss(weight):
        hidden = torch.tanh(nn.functional.linear(x, weight, network[0].bias))
        return nn.functional.cross_entropy(nn.functional.linear(hidden, weight, network[2].bias), labels)

    exact = float(torch.autograd.functional.hessian(loss, network[0].weight.detach()).reshape(9, 9).trace())
    generator = torch.Generator().manual_seed(0)
    traces = [hessian_traces(network, ["0", "2"], x, labels, generator) for _ in range(100)]
    estimates = torch.tensor([[entry["0"][0], entry["2"][0]] for entry in traces]).sum(1)
    assert abs(float(estimates.mean()) - exact) < 4 * float(estimates.std()) / len(estimates) ** 0.5


def test_spiking_neurons_are_refused_with_the_way_out():
    network = nn.Sequential(nn.Linear(3, 4), neuron.IFNode(), nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"spiking neurons.* set allocation\.sensitivity\.metric = \"fisher\""):
        hessian_traces(network, ["0"], torch.randn(2, 3), torch.tensor([0, 1]), torch.Generator())


@pytest.fixture
def problem(network, model, rules, splits, space):
    def make(**settings):
        session = TrainingSession(splits, space.training)
        return AllocationProblem(network, model, rules, session, space, Allocation(**settings), [], seed=0)

    return make


@pytest.mark.parametrize("metric", ["fisher", "hessian"])
def test_one_scoring_serves_several_budgets_and_more_budget_never_loses(problem, model, rules, metric):
    given = problem(sensitivity={"metric": metric})
    loss = score(given)
    start = given.plan(given.settings.start)
    top = model.cost("bit_budget", start)
    found = [
        solve(start, model, [Budget("bit_budget", "given", share * top)], rules, loss) for share in (0.4, 0.7, 1.0)
    ]
    losses = [solution.loss for solution in found]
    assert all(solution.optimal for solution in found)
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_the_two_sensitivities_differ(problem):
    fisher, hessian = (score(problem(sensitivity={"metric": name})) for name in ("fisher", "hessian"))
    assert fisher.weight_loss("3", 1) != hessian.weight_loss("3", 1)
    # Fewer bits, more error.
    for loss in (fisher, hessian):
        assert loss.weight_loss("3", 1) > loss.weight_loss("3", 4) > 0
        assert loss.spike_loss("3", (1,)) > loss.spike_loss("3", (4,)) > 0
