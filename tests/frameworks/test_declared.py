"""Neurons of the user's own classes: declared in Python or in a search space, and listed where they are not."""

import pytest
import torch
from torch import nn

import bitsearch
from bitsearch.declared_neuron import DeclaredNeuron
from bitsearch.errors import InputError
from bitsearch.frameworks.declared import declare_neuron
from bitsearch.frameworks.neurons import describe, is_neuron, reset_states, states
from bitsearch.space import SearchSpace

T = 8


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Fire(nn.Module):
    """A part of a neuron, which sends spikes as well."""

    def forward(self, x):
        return Spike.apply(x)


class Kept(nn.Module):
    """Keeps its membrane."""

    def __init__(self, beta=0.5, theta=2.0, learned=False):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(beta)) if learned else beta
        self.theta, self.fire = theta, Fire()
        self.v = None

    def forward(self, x):
        self.v = x if self.v is None else self.beta * self.v + x
        spikes = self.fire(self.v - self.theta)
        self.v = self.v - self.theta * spikes
        return spikes


class Passed(nn.Module):
    """Passes its membrane."""

    def forward(self, x, v=0.0):
        v = 0.75 * v + 0.25 * x
        spikes = Spike.apply(v - 1)
        return spikes, v * (1 - spikes)


class Late(nn.Module):
    """Keeps its membrane, and the spike that is to be subtracted."""

    def __init__(self):
        super().__init__()
        self.v = self.sent = 0.0

    def forward(self, x):
        self.v = 0.5 * self.v + x - self.sent
        self.sent = Spike.apply(self.v - 1)
        return self.sent


class OverTime(nn.Module):
    """Takes a sequence."""

    tau = 4.0

    def forward(self, x):
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) / self.tau
            spikes.append(Spike.apply(v - 1))
            v = v - spikes[-1]
        return torch.stack(spikes)


DECLARED = {
    Kept: DeclaredNeuron(decay="beta", threshold="theta", states={"v": "None"}),
    Passed: DeclaredNeuron(decay=0.75, input_decays=True, reset="zero", returns="spikes, membrane"),
    Late: DeclaredNeuron(decay=0.5, reset="delayed", states={"v": 0.0, "sent": 0.0}),
    OverTime: DeclaredNeuron(tau="tau", input_decays=True, sequences=True),
}


@pytest.fixture(autouse=True)
def _forget():
    from bitsearch.frameworks import declared

    # The view of the keys is the table's own.
    before = dict(declared._DECLARED)
    yield
    declared._DECLARED.clear()
    declared._DECLARED.update(before)


def sent(neuron, x):
    if isinstance(neuron, OverTime):
        return neuron(x)
    if isinstance(neuron, Kept | Late):
        return torch.stack([neuron(current) for current in x])
    v, spikes = 0.0, []
    for current in x:
        spike, v = neuron(current, v)
        spikes.append(spike)
    return torch.stack(spikes)


@pytest.mark.parametrize("kind", DECLARED)
def test_a_neuron_is_what_was_declared(kind):
    declare_neuron(kind, DECLARED[kind])
    # Quarters: with these decays, sums and products of the first steps are exact in float32.
    x = torch.randint(-8, 32, (T, 500), generator=torch.Generator().manual_seed(0)) / 4
    neuron = kind()
    description = describe(neuron)
    membrane, spikes = torch.zeros(500, dtype=torch.float64), []
    for current in x.double() * description.gain:
        membrane = membrane + current
        spikes.append((membrane >= 1).double())
        left = {
            "subtract": description.decay * (membrane - spikes[-1]),
            "zero": description.decay * membrane * (1 - spikes[-1]),
            "delayed": description.decay * membrane - spikes[-1],
        }
        membrane = left[description.settings.reset]
    expected = sent(neuron, x)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(expected.double(), torch.stack(spikes))


def test_states_are_what_they_start_as():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.v, self.count = None, 0.0
            self.register_buffer("trace", torch.ones(3))

    declare_neuron(Two, DeclaredNeuron(states={"v": "None", "count": 0.0, "trace": 1.0}))
    module = Two()
    module.v, module.count, module.trace = torch.rand(3), 7.0, torch.rand(4)
    assert len(states(module)) == 2
    reset_states(nn.Sequential(module))
    assert (module.v, module.count, module.trace.tolist()) == (None, 0.0, [1.0] * 4)


@pytest.mark.parametrize(
    ("declaration", "reason"),
    [
        (DeclaredNeuron(decay="beta"), "its membrane is multiplied by 1.5 a step; allowed: 0 to 1"),
        (DeclaredNeuron(threshold="beta_off"), "its threshold is not above zero"),
        (DeclaredNeuron(decay=0.0, reset="delayed"), "its late reset is all that its membrane holds"),
        (DeclaredNeuron(decay="betas"), "its neurons have different decays"),
    ],
)
def test_what_no_refined_neuron_does_is_told(declaration, reason):
    module = Kept(1.5)
    module.beta_off, module.betas = -1.0, torch.tensor([0.5, 0.6])
    declare_neuron(Kept, declaration)
    assert describe(module).irreplaceable == reason


def test_a_declaration_that_does_not_fit_is_told():
    declare_neuron(Kept, DeclaredNeuron(decay="leak"))
    with pytest.raises(InputError, match="neuron class Kept was declared with 'leak', but its modules have no such"):
        describe(Kept())
    with pytest.raises(InputError, match="is no class of torch modules"):
        declare_neuron(Kept(), DeclaredNeuron())
    with pytest.raises(ValueError, match="decay and tau were both given"):
        DeclaredNeuron(decay=0.5, tau=2.0)


class Network(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.one, self.b, self.two, self.c = (
            nn.Linear(8, 16),
            kind(),
            nn.Linear(16, 16),
            kind(),
            nn.Linear(16, 4),
        )


class Stepping(Network):
    def forward(self, x):
        if isinstance(self.one, Kept):
            self.one.v = self.two.v = None
        return torch.stack([self.c(self.two(self.b(self.one(self.a(frame))))) for frame in x]).mean(0)


class Passing(Network):
    def forward(self, x):
        logits, v, w = [], torch.zeros(()), torch.zeros(())
        for frame in x:
            spikes, v = self.one(self.a(frame), v)
            spikes, w = self.two(self.b(spikes), w)
            logits.append(self.c(spikes))
        return torch.stack(logits).mean(0)


class Whole(Network):
    def forward(self, x):
        return self.c(self.two(self.b(self.one(self.a(x))))).mean(0)


NETWORKS = {Kept: Stepping, Late: Stepping, Passed: Passing, OverTime: Whole}


def frames():
    return 12 * torch.rand(T, 5, 8, generator=torch.Generator().manual_seed(1))


def became(quantized):
    return {row.name: (row.became, row.why) for row in quantized.conversion}


@pytest.mark.parametrize("kind", NETWORKS)
def test_declared_neurons_give_way(kind):
    network = NETWORKS[kind](kind)
    quantized = bitsearch.quantize(network, frames(), time_axis=True, neurons={kind: DECLARED[kind]})
    rows, plans = became(quantized), quantized.layer_plans
    assert (rows["one"][0], rows["two"][0]) == ("the refined neuron of b", "the refined neuron of c")
    assert "one.fire" not in rows
    assert plans["b"].decay == describe(network.one).decay
    assert plans["b"].loop == (None if kind is OverTime else "frames")
    quantized(frames()).sum().backward()


def test_undeclared_neurons_are_listed_by_name():
    rows = became(bitsearch.quantize(Stepping(Kept), frames(), time_axis=True))
    words = "sends zeros and ones; if it is a spiking neuron, declare its class"
    assert rows["one"] == ("left", words)
    assert "one.fire" not in rows


@pytest.mark.parametrize("module", [nn.Hardtanh, nn.Dropout, nn.Sigmoid, nn.Identity])
def test_other_modules_are_not(module):
    assert "one" not in became(bitsearch.quantize(Whole(module), frames(), time_axis=True))


def test_a_learned_decay_is_known():
    declare_neuron(Kept, DECLARED[Kept])
    assert describe(Kept(learned=True)).learns_decay
    assert not describe(Kept()).learns_decay
    assert is_neuron(Kept())


SPACE = """
schema_version = 1
name = "mine"
network = "mynets:Net"
data = "digits"

[neurons."mynets:Lif"]
decay = "beta"
threshold = 1.5
reset = "zero"
strict = true
states = { v = "None" }
"""


def test_a_space_declares_neurons():
    space = SearchSpace.from_toml(SPACE)
    assert space.neurons == {
        "mynets:Lif": DeclaredNeuron(decay="beta", threshold=1.5, reset="zero", strict=True, states={"v": "None"})
    }
    assert SearchSpace.model_validate(space.model_dump()) == space


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"mynets:Lif"', '"Lif"', "neurons.Lif"),
        ("threshold = 1.5", "threshold = -1.5", "threshold"),
        ('reset = "zero"', 'reset = "soft"', "reset"),
        ("strict = true", "strikt = true", "strikt"),
    ],
)
def test_a_wrong_declaration_names_its_key(before, after, words):
    with pytest.raises(InputError, match=words):
        SearchSpace.from_toml(SPACE.replace(before, after))
