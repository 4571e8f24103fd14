"""sinabs' neurons: what is said of them against running them, and what becomes of networks written with them."""

import math

import pytest
import torch
from parity import assert_equal_spikes, spikes_of_both
from torch import nn

import bitsearch
from bitsearch.frameworks.neurons import describe, is_neuron, is_spiking, reset_states, states

layers = pytest.importorskip("sinabs.layers", reason="sinabs is not installed; make frameworks runs these tests")

from sinabs.activation import MaxSpike, MembraneReset, MembraneSubtract, SingleSpike  # noqa: E402

T = 8
# A half of the membrane is lost in a step.
TAU = 1 / math.log(2)


def iaf(**options):
    return layers.IAFSqueeze(num_timesteps=1, **options)


def lif(**options):
    return layers.LIFSqueeze(tau_mem=TAU, num_timesteps=1, **options)


NEURONS = {
    "IAF": lambda: iaf(spike_threshold=torch.tensor(2.0)),
    "IAF, one spike": lambda: iaf(spike_fn=SingleSpike),
    "IAF, three spikes": lambda: iaf(spike_fn=MaxSpike(3)),
    "IAF, reset to zero": lambda: iaf(reset_fn=MembraneReset()),
    "LIF": lambda: lif(),
    "LIF, its input as it is": lambda: lif(norm_input=False, spike_threshold=torch.tensor(2.0)),
    "LIF, reset to zero": lambda: lif(reset_fn=MembraneReset(), spike_fn=SingleSpike),
}
MOST = {"IAF, one spike": 1, "IAF, three spikes": 3, "LIF, reset to zero": 1}


def currents():
    # Quarters: with these decays, sums and products of the first steps are exact in float32.
    return torch.randint(-8, 32, (T, 500), generator=torch.Generator().manual_seed(0)) / 4


@pytest.mark.parametrize("kind", NEURONS)
def test_a_neuron_is_what_its_description_says(kind):
    neuron, x = NEURONS[kind](), currents()
    description = describe(neuron)
    assert description.irreplaceable is None
    membrane, spikes = torch.zeros(500, dtype=torch.float64), []
    for current in x.double() * description.gain:
        membrane = description.decay * membrane + current
        spikes.append(membrane.floor().clamp(0, MOST.get(kind, math.inf)))
        soft = membrane - spikes[-1]
        membrane = membrane * (spikes[-1] == 0) if description.settings.reset == "zero" else soft
    expected = torch.stack([neuron(current) for current in x])
    assert 0.05 < (expected > 0).double().mean() < 0.95
    assert torch.equal(expected.double(), torch.stack(spikes))


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (lambda: layers.IAFRecurrent(nn.Linear(2, 2)), "it reads its own spikes over time at once"),
        (lambda: lif(tau_syn=2.0), "its synaptic current is a second state, which no refined neuron has"),
        (lambda: iaf(min_v_mem=-1.0), "its membrane has a lower bound"),
        (lambda: iaf(spike_fn=None), "its spike_fn sends something else than spikes at multiples of the threshold"),
        (
            lambda: iaf(reset_fn=MembraneSubtract(0.5)),
            "its reset_fn takes something else from the membrane than its spikes, or all of it",
        ),
        (lambda: iaf(spike_threshold=torch.tensor(0.0)), "its threshold is not above zero"),
    ],
)
def test_what_no_refined_neuron_does_is_told(neuron, reason):
    assert describe(neuron()).irreplaceable == reason


def test_only_the_librarys_own_neurons_are_described():
    class Special(layers.IAF):
        pass

    assert is_neuron(layers.IAF())
    assert not is_neuron(Special())
    assert is_spiking(Special())
    assert not is_spiking(layers.ExpLeak(tau_mem=2.0))
    assert describe(lif()).learns_decay
    assert not describe(iaf()).learns_decay


def test_states_are_reset():
    neuron = iaf()
    neuron(torch.full((2, 3), 0.75))
    assert states(neuron)[0].any()
    reset_states(neuron)
    assert not states(neuron)[0].any()


class Steps(nn.Module):
    """Neurons that keep their membranes, called once a frame."""

    def __init__(self, kind=iaf):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.one, self.b = nn.Linear(8, 16), kind(), nn.Linear(16, 16)
        self.two, self.c = kind(), nn.Linear(16, 4)

    def forward(self, x):
        return torch.stack([self.c(self.two(self.b(self.one(self.a(frame))))) for frame in x]).mean(0)


class Folded(nn.Module):
    """The usual form: sequences ``[N, T, ...]`` folded into the batch, in front of convolutions and pooling."""

    def __init__(self, kind=layers.IAFSqueeze, **options):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            *(nn.Conv2d(2, 4, 3), kind(**options), nn.AvgPool2d(2)),
            *(nn.Conv2d(4, 8, 2), kind(**options), nn.Flatten(), nn.Linear(32, 4)),
        )

    def forward(self, x):
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)


class Whole(nn.Module):
    """Linear layers on sequences ``[N, T, ...]``."""

    def __init__(self, kind=layers.IAF, **options):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.one, self.b = nn.Linear(8, 16), kind(**options), nn.Linear(16, 16)
        self.two, self.c = kind(**options), nn.Linear(16, 4)

    def forward(self, x):
        return self.c(self.two(self.b(self.one(self.a(x))))).mean(1)


def became(quantized):
    return {row.name: (row.became, row.why) for row in quantized.conversion}


@pytest.mark.parametrize("kind", [iaf, lif])
def test_a_network_of_steps(kind):
    x = 12 * torch.rand(T, 5, 8, generator=torch.Generator().manual_seed(1))
    quantized = bitsearch.quantize(Steps(kind), x, time_axis=True)
    assert became(quantized)["one"][0] == "the refined neuron of b"
    assert became(quantized)["two"][0] == "the refined neuron of c"
    assert quantized(x).shape == (5, 4)


@pytest.mark.parametrize(
    ("kind", "bits"),
    [
        (lambda: iaf(spike_fn=SingleSpike), 1),
        (iaf, 8),
        (lambda: iaf(spike_fn=MaxSpike(3)), 2),
        (lambda: iaf(reset_fn=MembraneReset()), 8),
        (lambda: layers.LIFSqueeze(tau_mem=3.0, num_timesteps=1, spike_fn=SingleSpike, norm_input=False), 1),
        (lambda: lif(norm_input=False), 8),
    ],
)
def test_every_spike_is_the_librarys_own(kind, bits):
    network, x = Steps(kind), 6 * torch.rand(T, 5, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.b.weight *= 4
    both = spikes_of_both(
        network,
        x,
        {"one": "b", "two": "c"},
        excluded=["a"],
        time_steps=T,
        spike_bits=bits,
        time_axis=True,
    )
    assert_equal_spikes(both)


def sequences(*shape):
    return 8 * torch.rand(5, T, *shape, generator=torch.Generator().manual_seed(1))


SEQUENCES = {
    "folded": (
        lambda **options: Folded(num_timesteps=T, **options),
        (2, 8, 8),
        {"net.1": "net.3", "net.4": "net.6"},
        "net.0",
    ),
    "folded, for one batch size": (
        lambda **options: Folded(batch_size=5, **options),
        (2, 8, 8),
        {"net.1": "net.3", "net.4": "net.6"},
        "net.0",
    ),
    "whole": (Whole, (8,), {"one": "b", "two": "c"}, "a"),
    "whole, with a leak": (
        lambda **options: Whole(layers.LIF, tau_mem=3.0, norm_input=False, **options),
        (8,),
        {"one": "b", "two": "c"},
        "a",
    ),
}


of_one_size = pytest.mark.filterwarnings("ignore:the network does not run with")


@of_one_size
@pytest.mark.parametrize("form", SEQUENCES)
def test_neurons_that_take_whole_sequences_give_way(form):
    make, shape, readers, first = SEQUENCES[form]
    quantized = bitsearch.quantize(make(), sequences(*shape))
    rows, plans = became(quantized), quantized.layer_plans
    for neuron, reader in readers.items():
        assert rows[neuron] == (
            f"the refined neuron of {reader}",
            "subtracts its spikes, fires at its threshold; where it was, step by step",
        )
        plan = plans[reader]
        assert (plan.loop, plan.frames, plan.time_steps, plan.in_place) == ("frames", T, T, True)
    assert (plans[first].loop, plans[first].frames) == (None, None)
    quantized.train()(sequences(*shape)).sum().backward()
    assert all(layer.weight.grad.any() for layer in quantized.layers.values())


@of_one_size
@pytest.mark.parametrize("form", SEQUENCES)
@pytest.mark.parametrize(("options", "bits"), [({}, 8), ({"spike_fn": SingleSpike}, 1), ({"spike_fn": MaxSpike(3)}, 2)])
def test_every_spike_of_a_sequence_is_the_librarys_own(form, options, bits):
    make, shape, readers, first = SEQUENCES[form]
    network, x = make(**options), sequences(*shape)
    library, converted = [], []
    start = bitsearch.UniformBits(weight_bits=8, spike_bits=bits, time_steps=T)
    choices = bitsearch.Choices(weight_bits=(8, 8), spike_bits=(bits, bits), time_steps=(T, T))
    quantized = bitsearch.quantize(network, x, start=start, choices=choices, exclude=[first]).eval()
    with torch.no_grad():
        quantized(x)
        for name, layer in quantized.layers.items():
            weight = layer.quantized_weight()
            layer.weight.copy_(weight)
            network.get_submodule(name).weight.copy_(weight)
        for name in readers:
            for net, sent in ((network, library), (quantized.network, converted)):
                net.get_submodule(name).register_forward_hook(lambda _, inputs, output, sent=sent: sent.append(output))
        reset_states(network)
        expected = network.eval()(x)
        torch.testing.assert_close(quantized(x), expected, rtol=1e-4, atol=1e-4)
        # Membranes do not go on in the next pass.
        torch.testing.assert_close(quantized(x), expected, rtol=1e-4, atol=1e-4)
    assert len(library) == len(readers)
    for one, other in zip(library, converted, strict=False):
        assert 0.02 < (one > 0).double().mean() < 0.98
        assert torch.equal(one, other)


def test_sequences_cost_what_a_loop_over_their_frames_costs():
    class Steps(Whole):
        def __init__(self):
            super().__init__(layers.IAFSqueeze, num_timesteps=1)

        def forward(self, x):
            logits = [self.c(self.two(self.b(self.one(self.a(frame))))) for frame in x.transpose(0, 1)]
            return torch.stack(logits, 1).mean(1)

    x = sequences(8)
    whole, steps = bitsearch.quantize(Whole(), x), bitsearch.quantize(Steps(), x)
    bits = bitsearch.UniformBits(weight_bits=4, spike_bits=2, time_steps=T)
    for metric in ("s_ace", "weight_memory", "working_memory"):
        of_whole, of_steps = (each.model.layer_costs(metric, each.model.uniform(bits, None)) for each in (whole, steps))
        assert of_whole["b"] == of_steps["b"], metric
        assert of_whole["c"] == of_steps["c"], metric
    # By hand: 16 × 16 weights of 4 bits, 2 bits a spike, at every step.
    assert whole.model.layer_costs("s_ace", whole.model.uniform(bits, None))["b"] == 16 * 16 * 4 * 2 * T


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (lambda n, x: n.c(n.two(n.a(x)).mean(1)), "c reads its spikes over time at once"),
        (lambda n, x: n.c(n.two(n.a(x))).mean(1) + n.c(n.two(n.a(x))).mean(1), "it takes several sequences in turn"),
        (lambda n, x: n.c(n.one(n.a(x)) + n.two(n.b(n.a(x)))).mean(1), "c reads its spikes together with those of one"),
        (lambda n, x: n.two(n.a(x)).mean(1), "the network returns its spikes"),
    ],
)
@pytest.mark.filterwarnings("ignore:never called")
def test_where_no_step_by_step_neuron_can_stand_it_stays(forward, why):
    class Net(Whole):
        def forward(self, x):
            return forward(self, x)

    network, x = Net(), sequences(8)
    quantized = bitsearch.quantize(
        network, x, start=bitsearch.UniformBits(weight_bits=8, spike_bits=8, time_steps=1)
    ).eval()
    assert became(quantized)["two"] == ("left", why)
    reset_states(network)
    expected = network.eval()(x)
    reset_states(quantized)
    quantized(x)
    reset_states(quantized)
    assert (quantized(x) - expected).norm() < 0.1 * expected.norm()
