import pytest
import torch
from parity import assert_equal_spikes, spikes_of_both
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import bitsearch
from bitsearch.frameworks.neurons import describe, is_neuron, reset_states
from bitsearch.plan import NeuronSettings

NEURONS = {
    "IF": neuron.IFNode,
    "SimpleIF": neuron.SimpleIFNode,
    "LIF": lambda **options: neuron.LIFNode(tau=4.0, **options),
    "LIF, its input as it is": lambda **options: neuron.LIFNode(tau=4.0, decay_input=False, **options),
    "SimpleLIF": lambda **options: neuron.SimpleLIFNode(tau=4.0, decay_input=True, **options),
    "ParametricLIF": lambda **options: neuron.ParametricLIFNode(init_tau=2.0, **options),
}


def test_states_are_reset_in_every_module():
    network = nn.Sequential(nn.Linear(3, 3), neuron.IFNode(), nn.Sequential(neuron.LIFNode(), layer.Dropout(0.5)))
    first = network.eval()(torch.ones(2, 3))
    assert isinstance(network[1].v, torch.Tensor)
    reset_states(network)
    assert network[1].v == 0.0
    assert network[2][0].v == 0.0
    assert torch.equal(network(torch.ones(2, 3)), first)


def test_a_subclass_of_a_neuron_is_not_taken_for_it():
    class Special(neuron.LIFNode):
        pass

    assert is_neuron(neuron.LIFNode())
    assert not is_neuron(Special())
    assert not is_neuron(nn.ReLU())


# The library's SimpleLIF has no soft reset.
CASES = [(kind, v) for kind in NEURONS for v in (None, 0.0, -2.0) if (kind, v) != ("SimpleLIF", None)]


@pytest.mark.parametrize(("kind", "v_reset"), CASES)
def test_a_neuron_is_what_its_settings_say(kind, v_reset):
    # Powers of two above rest, so that the gain is exact.
    spiking = NEURONS[kind](v_threshold=2.0, v_reset=v_reset, step_mode="m")
    means = describe(spiking)
    if v_reset and kind.startswith("Simple"):
        assert means.irreplaceable == "its membrane starts at 0 and is reset to -2"
        return
    assert means.irreplaceable is None
    assert (means.settings.threshold, means.settings.strict, means.settings.largest) == ("full", False, 1)
    # Quarters: sums and products with these decays are exact for the first steps, so that some meet the threshold.
    currents = torch.randint(-8, 32, (5, 500), generator=torch.Generator().manual_seed(0)) / 4
    spikes, membrane = [], torch.zeros(500, dtype=torch.float64)
    for current in currents:
        membrane = means.decay * membrane + float(means.gain) * current.double()
        spikes.append((membrane >= 1).double())
        membrane = membrane * (1 - spikes[-1]) if means.settings.reset == "zero" else membrane - spikes[-1]
    assert torch.equal(spiking(currents).double(), torch.stack(spikes))


@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_a_neuron_fires_at_its_threshold(v_reset):
    for kind in ("IF", "SimpleIF"):
        assert NEURONS[kind](v_threshold=1.5, v_reset=v_reset)(torch.tensor([1.5])) == 1
    assert neuron.LIFNode(tau=2.0, v_threshold=1.5, v_reset=v_reset)(torch.tensor([3.0])) == 1


def test_a_neuron_of_several_levels_sends_the_nearest():
    spiking = neuron.ILIFNode(surrogate_function=surrogate.MultiLevelSpikeCount(4))
    assert describe(spiking).settings == NeuronSettings(largest=4)
    assert spiking(torch.tensor([0.4, 0.6, 1.6, 9.0])).tolist() == [0, 1, 2, 4]


def test_a_threshold_below_the_reset_has_no_refined_neuron():
    assert describe(neuron.IFNode(v_reset=2.0)).irreplaceable == "its threshold is not above 2, to which it is reset"


FRAMES = 4


class Contained(nn.Module):
    """A recurrent container between two layers, in a loop over frames or in multi-step mode."""

    def __init__(self, container, step_mode):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.recurrent, self.behind = layer.Linear(8, 16), container(), layer.Linear(16, 4)
        self.step_mode = step_mode
        functional.set_step_mode(self, step_mode)

    def once(self, x):
        return self.behind(self.recurrent(self.before(x)))

    def forward(self, x):
        return (self.once(x) if self.step_mode == "m" else torch.stack([self.once(frame) for frame in x])).mean(0)


def linear_container():
    return layer.LinearRecurrentContainer(neuron.IFNode(), 16, 16)


def elementwise_container(v_reset=0.0):
    lif = neuron.LIFNode(tau=3.0, v_reset=v_reset)
    return layer.ElementWiseRecurrentContainer(lif, lambda sent, x: x - 0.5 * sent)


RESET = "is reset to zero by a spike, fires at its threshold"


@pytest.mark.parametrize(
    ("container", "became"),
    [
        (linear_container, ("left", "recurrent.rc reads its spikes together with other values")),
        (
            elementwise_container,
            ("the refined neuron of behind", f"{RESET}; where it was, in front of what works on its spikes"),
        ),
    ],
    ids=["linear", "elementwise"],
)
def test_recurrent_containers_keep_their_memory(container, became):
    x = 3 * torch.rand(FRAMES, 5, 8, generator=torch.Generator().manual_seed(1))
    first = bitsearch.FirstLayer(weight_bits=8, spike_bits=8, time_steps=FRAMES)
    # As many levels as the network's own neurons have, where they give way.
    spike_bits = 8 if container is linear_container else 1
    bits = bitsearch.UniformBits(weight_bits=8, spike_bits=spike_bits, time_steps=FRAMES)

    def logits(network, frames):
        functional.reset_net(network)
        with torch.no_grad():
            return network(frames)

    results = []
    for step_mode in ("s", "m"):
        network = Contained(container, step_mode).eval()
        quantized = bitsearch.quantize(network, x, time_axis=True, start=bits, first_layer=first).eval()
        rows = {row.name: (row.became, row.why) for row in quantized.conversion}
        assert rows["recurrent.sub_module"] == became
        assert set(quantized.layers) == {name for name, (became, _) in rows.items() if became == "a quantized layer"}
        logits(quantized, x)
        results.append(logits(quantized, x))
        expected = logits(network, x)
        assert (results[-1] - expected).norm() < 0.02 * expected.norm()
        # It remembers: the same frames in another order are another input.
        assert (logits(quantized, x.flip(0)) - results[-1]).norm() > 0.05 * expected.norm()
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_every_spike_of_an_elementwise_recurrence_is_the_librarys_own(step_mode, v_reset):
    def made():
        return Contained(lambda: elementwise_container(v_reset), step_mode)

    x = 12 * torch.rand(FRAMES, 5, 8, generator=torch.Generator().manual_seed(1))
    both = spikes_of_both(
        made(), x, {"recurrent.sub_module": "behind"}, excluded=["before"], time_steps=FRAMES, time_axis=True
    )
    assert_equal_spikes(both)
    # What comes back matters: without it, other spikes.
    alone = made()
    alone.recurrent.element_wise_function = lambda sent, x: x
    assert not torch.equal(alone(x), made()(x))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_an_elementwise_recurrence_gets_spike_bits(step_mode):
    x = 6 * torch.rand(FRAMES, 5, 8, generator=torch.Generator().manual_seed(1))
    quantized = bitsearch.quantize(Contained(elementwise_container, step_mode), x, time_axis=True)
    plan = quantized.layer_plans["behind"]
    assert (plan.loop, plan.frames, plan.in_place, len(plan.spike_bits)) == ("frames", FRAMES, True, FRAMES)
    costs = quantized.model.layer_costs("s_ace", quantized.layer_plans)
    assert costs["behind"] == 16 * 4 * plan.weight_bits * sum(plan.spike_bits)
    quantized(x).square().sum().backward()
    assert quantized.network.behind.spike_log_step.grad.any()
    assert quantized.network.before.weight.grad.any()


def test_a_convolution_reads_the_steps_of_a_recurrence_at_once():
    class Convolutions(Contained):
        def __init__(self, container, step_mode):
            super().__init__(container, step_mode)
            self.before, self.behind = layer.Conv2d(1, 4, 3), layer.Conv2d(4, 2, 3)
            functional.set_step_mode(self, step_mode)

    x, results = 12 * torch.rand(FRAMES, 3, 1, 7, 7, generator=torch.Generator().manual_seed(1)), []
    for step_mode in ("s", "m"):
        torch.manual_seed(0)
        quantized = bitsearch.quantize(Convolutions(elementwise_container, step_mode), x, time_axis=True).eval()
        assert quantized.layer_plans["behind"].loop == "frames"
        quantized(x)
        results.append(quantized(x))
    assert results[0].shape == (3, 2, 3, 3)
    torch.testing.assert_close(*results)


@pytest.mark.filterwarnings("ignore:never called")
def test_a_neuron_that_stays_is_listed_without_its_parts():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), neuron.LIFNode()).double()
    quantized = bitsearch.quantize(network, 9 * torch.rand(5, 8, dtype=torch.float64))
    assert [(row.name, row.became) for row in quantized.conversion] == [("0", "a quantized layer"), ("1", "left")]
