"""Cost metrics of the user's own: computed like the others, and refused where nothing could rely on them."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from bitsearch.choices import Choices, FirstLayer
from bitsearch.cost import METRICS, AllowedBits, Budget, CostModel, trace
from bitsearch.cost.budget import check_metric
from bitsearch.cost.declared import check_declared_metric, declare_metrics
from bitsearch.declared_metric import DeclaredMetric
from bitsearch.errors import InputError
from bitsearch.plan import UniformBits
from bitsearch.registry import find_factory

COSTS = {
    "area": lambda geometry, bits: geometry.macs * bits.weights * bits.spikes + 3 * geometry.weights,
    "constant": lambda geometry, bits: geometry.weights,
    "busy": lambda geometry, bits: geometry.firing_rates * geometry.macs * bits.time_steps,
    "shared": lambda geometry, bits: geometry.macs / geometry.macs.sum() * bits.weights,
    "falling": lambda geometry, bits: geometry.macs / bits.weights,
    "negative": lambda geometry, bits: bits.weights - 4.0,
    "total": lambda geometry, bits: (geometry.macs * bits.weights).sum(),
    "cut": lambda geometry, bits: np.asarray(bits.weights.detach() if torch.is_tensor(bits.weights) else bits.weights),
    "detached": lambda geometry, bits: (
        bits.spikes * (bits.weights.detach() if torch.is_tensor(bits.weights) else bits.weights)
    ),
    "clamped": lambda geometry, bits: bits.weights.clip(3, 5),
    "rated": lambda geometry, bits: geometry.firing_rates * bits.weights,
    "tensors": lambda geometry, bits: torch.as_tensor(bits.weights),
    "complex": lambda geometry, bits: bits.weights * 1j,
    "nothing": lambda geometry, bits: None,
    "other_length": lambda geometry, bits: bits.weights[..., :2],
    "endless": lambda geometry, bits: 10**400,
    "zero": lambda geometry, bits: 0 * bits.weights,
    "column": lambda geometry, bits: bits.weights[..., None],
    "offset": lambda geometry, bits: bits.weights - 1.0,
    "other": lambda geometry, bits: bits.weights * (2 if torch.is_tensor(bits.weights) else 1),
    "broken": lambda geometry, bits: geometry.mac * bits.weights,
}


@pytest.fixture
def declared(monkeypatch):
    """Declares a function of COSTS under its name; forgotten afterwards."""
    module = ModuleType("mycosts")
    vars(module).update(COSTS)
    monkeypatch.setitem(sys.modules, "mycosts", module)
    before = dict(METRICS)

    def declare(name, **fields):
        metric = DeclaredMetric(function=f"mycosts:{name}", unit="um2", description="A cost.", **fields)
        declare_metrics({f"own_{name}": metric})
        return f"own_{name}"

    yield declare
    METRICS.clear()
    METRICS.update(before)


@pytest.fixture(scope="module")
def layers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    return trace(network, torch.rand(4, 6))


def model_of(layers, *names):
    model = CostModel(layers, declared=names)
    return model, AllowedBits.make(model, Choices(), FirstLayer(weight_bits=1, spike_bits=1))


BITS = UniformBits(weight_bits=3, spike_bits=2, time_steps=2)


def test_it_is_the_sum_over_the_layers_with_its_gradient(declared, layers):
    name = declared("area")
    model, rules = model_of(layers, name)
    check_declared_metric(name, model, rules)
    plan = model.uniform(BITS, None)
    macs = [30, 20, 12]
    assert model.costs(plan)[name] == sum(count * 3 * 2 + 3 * count for count in macs)
    assert model.layer_costs(name, plan) == {"0": 270.0, "2": 180.0, "4": 108.0}
    weights, spikes, steps = (torch.full((3,), value, requires_grad=True) for value in (3.0, 2.0, 2.0))
    cost = model.cost_tensor(name, weights, spikes, steps)
    assert float(cost.detach()) == model.cost(name, plan)
    cost.backward()
    assert weights.grad.tolist() == [2.0 * count for count in macs]
    assert METRICS[name].unit == "um2"
    assert METRICS[name].additive


def test_a_peak_is_that_of_the_dearest_layer(declared, layers):
    name = declared("area", peak=True)
    model, _ = model_of(layers, name)
    assert model.cost(name, model.uniform(BITS, None)) == 270.0


def test_it_is_a_budget(declared, layers):
    name = declared("area")
    model, rules = model_of(layers, name)
    budget = Budget.parse(f"{name}=4x", "bit_budget", model, UniformBits(weight_bits=8, spike_bits=4, time_steps=1))
    assert budget.limit == (62 * 8 * 4 + 3 * 62) / 4
    budget.check_feasible(model, rules)
    with pytest.raises(InputError, match="is infeasible: the smallest feasible value is"):
        Budget.parse(f"{name}=1", "bit_budget", model, BITS).check_feasible(model, rules)
    assert Budget.parse(f"{name}=500", "bit_budget", model, BITS).limit == 500


def test_a_budget_on_nothing_and_on_what_is_not_counted_here_is_refused(declared, layers):
    zero, area = declared("zero"), declared("area")
    model, _ = model_of(layers, zero)
    with pytest.raises(InputError, match=f"{zero} of the baseline is 0, and nothing costs less; give a number"):
        Budget.parse(f"{zero}=2x", "bit_budget", model, BITS)
    for request in (f"{area}=2x", f"{area}=100"):
        with pytest.raises(InputError, match=f"{area} is a search space's own function, which is not run here"):
            Budget.parse(request, "bit_budget", model, BITS)


def test_it_is_a_cost_of_networks_whose_space_declares_it_alone(declared, layers):
    name = declared("area")
    assert name not in CostModel(layers).costs(CostModel(layers).uniform(BITS, None))


def test_a_cost_that_no_bit_matters_to_and_one_of_firing_rates(declared, layers):
    constant, busy = declared("constant"), declared("busy", firing_rates=True)
    model, rules = model_of(layers, constant, busy)
    for name in (constant, busy):
        check_declared_metric(name, model, rules)
    assert model.needs_activity(busy)
    costs = model.costs(model.uniform(BITS, None))
    assert costs[constant] == 62
    assert busy not in costs


def test_a_cost_that_is_zero_at_one_bit_and_one_that_stays_at_first_and_at_last(declared, layers):
    names = declared("offset"), declared("clamped")
    model, rules = model_of(layers, *names)
    for name in names:
        check_declared_metric(name, model, rules)
    assert model.cost(names[0], model.uniform(BITS, None)) == 3 * (3 - 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared", "gives layer '0' .* among the others and .* alone; it has to be a function of each layer by itself"),
        ("falling", "falls in layer '0' when weight_bits rises"),
        ("negative", "a cost is a finite number, and not below zero"),
        ("total", "it has to be a function of each layer by itself"),
        ("cut", "returns ndarray for Tensors; return one cost a layer|failed at"),
        ("detached", "has no gradient in weight_bits, with which it changes"),
        ("rated", "returns nan for a layer; .* if it reads firing rates, set firing_rates = true"),
        ("tensors", "returns Tensor for ndarrays; return one cost a layer"),
        ("nothing", "returns NoneType for ndarrays; return one cost a layer"),
        ("other_length", "returns what is no cost a layer"),
        ("endless", "returns what is no cost a layer: .*OverflowError"),
        ("complex", "returns complex128 for bits of float64; return the same"),
        ("column", r"returns shape \[3, 3\] for bits of shape \[3\]; return one cost a layer"),
        ("other", "gives other numbers for tensors than for arrays"),
        ("broken", "failed at .*has no attribute 'mac'"),
        ("missing", "mycosts has no callable 'missing'"),
    ],
)
def test_what_nothing_could_rely_on_is_refused_in_one_line(name, message, declared, layers):
    own = declared(name)
    model, rules = model_of(layers, own)
    with pytest.raises(InputError, match=message) as refused:
        check_declared_metric(own, model, rules)
    assert "\n" not in str(refused.value)


def test_a_name_of_bitsearchs_own_is_refused(declared):
    with pytest.raises(InputError, match="bitsearch has a metric of that name"):
        declare_metrics({"memory": DeclaredMetric(function="mycosts:area", description="x")})


def test_networks_of_two_spaces_keep_their_own_metrics_of_one_name(declared, layers):
    name = declared("area")
    first, _ = model_of(layers, name)
    declare_metrics({name: DeclaredMetric(function="mycosts:constant", unit="gates", description="x", peak=True)})
    second, _ = model_of(layers, name)
    plan = first.uniform(BITS, None)
    # 62 MACs and weights of 3·2 bits, and 3 a weight; the other is the 30 weights of the largest layer.
    for model, expected in ((first, 62 * 6 + 3 * 62), (second, 30), (first, 62 * 6 + 3 * 62)):
        assert model.cost(name, plan) == model.costs(plan)[name] == expected
        limit = Budget.parse(f"{name}=1x", "bit_budget", model, BITS)
        assert limit.limit == expected
        assert limit.met_by(model, plan)
    assert (first.metric(name).unit, second.metric(name).unit) == ("um2", "gates")


def test_what_another_space_declares_is_no_cost_of_a_network(declared, layers):
    name = declared("area")
    model, _ = model_of(layers)
    with pytest.raises(InputError, match=f"{name} is a search space's own function, which is not run here"):
        model.cost(name, model.uniform(BITS, None))
    with pytest.raises(InputError, match="'own_arae' is not a cost metric") as refused:
        check_metric("own_arae", model.target)
    assert name not in str(refused.value)
    with pytest.raises(InputError, match=f"did you mean '{name}'"):
        check_metric("own_arae", model.target, [name])


def test_its_function_is_looked_up_once(declared, layers, monkeypatch):
    """A solver asks for thousands of costs, and an import searches the path each time."""
    found = []

    def find(name, table, kind):
        found.append(name)
        return find_factory(name, table, kind)

    monkeypatch.setattr("bitsearch.cost.declared.find_factory", find)
    name = declared("area")
    model, rules = model_of(layers, name)
    check_declared_metric(name, model, rules)
    for bits in range(1, 9):
        model.cost(name, model.uniform(UniformBits(weight_bits=bits, spike_bits=2, time_steps=1), None))
    assert found == ["mycosts:area"]


def test_a_function_that_changed_is_the_new_one_once_it_is_declared_again(declared, layers, monkeypatch):
    name = declared("area")
    model, _ = model_of(layers, name)
    plan = model.uniform(BITS, None)
    assert model.cost(name, plan) == 62 * 6 + 3 * 62
    monkeypatch.setattr(sys.modules["mycosts"], "area", COSTS["constant"])
    declared("area")
    again, _ = model_of(layers, name)
    assert again.cost(name, plan) == 62
