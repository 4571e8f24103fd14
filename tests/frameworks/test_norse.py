"""Norse's neurons: what is said of them against running them, and what becomes of networks written with them."""

from importlib.metadata import version

import pytest
import torch
from parity import assert_equal_spikes, spikes_of_both
from torch import nn

import bitsearch
from bitsearch.cost.profile import profile
from bitsearch.frameworks.neurons import describe, is_multi_step, is_neuron, is_spiking
from bitsearch.frameworks.plain_layers import separated
from bitsearch.study.warm_start import start_network

norse = pytest.importorskip("norse.torch", reason="Norse is not installed; make frameworks runs these tests")

from norse.torch.functional.iaf import IAFParameters  # noqa: E402
from norse.torch.functional.lif import LIFParameters  # noqa: E402
from norse.torch.functional.lif_box import LIFBoxParameters  # noqa: E402

T = 8
# A quarter of the membrane, and half of the synaptic current, are lost in a step of a millisecond.
LEAK = {"tau_mem_inv": torch.tensor(250.0)}
SYNAPSE = {**LEAK, "tau_syn_inv": torch.tensor(500.0)}
ELSEWHERE = {"v_leak": torch.tensor(-2.0), "v_reset": torch.tensor(-2.0), "v_th": torch.tensor(0.0)}
NEURONS = {
    "LIFBoxCell": lambda: norse.LIFBoxCell(LIFBoxParameters(**LEAK)),
    "LIFBoxCell, its rest elsewhere": lambda: norse.LIFBoxCell(LIFBoxParameters(**LEAK, **ELSEWHERE)),
    "IAFCell": lambda: norse.IAFCell(IAFParameters(v_th=torch.tensor(2.0))),
    "LIFCell": lambda: norse.LIFCell(LIFParameters(**SYNAPSE)),
    "LIFCell, its rest elsewhere": lambda: norse.LIFCell(LIFParameters(**SYNAPSE, **ELSEWHERE)),
    "LIF": lambda: norse.LIF(LIFParameters(**SYNAPSE)),
}


def currents(scale=1):
    # Quarters: with these decays, sums and products of the first steps are exact in float32.
    return scale * torch.randint(-8, 32, (T, 500), generator=torch.Generator().manual_seed(0)) / 4


def called(neuron, x):
    """First results ``[T, ...]`` of a module that takes steps or sequences, and passes a state."""
    if is_multi_step(neuron):
        return neuron(x)[0]
    state, results = None, []
    for step in x:
        result, state = neuron(step, state)
        results.append(result)
    return torch.stack(results)


@pytest.mark.parametrize("kind", NEURONS)
def test_a_neuron_is_what_its_description_says(kind):
    neuron = NEURONS[kind]()
    description, x = describe(neuron), currents(1 if kind.startswith("IAF") else 2)
    assert description.irreplaceable is None
    assert (description.settings.reset, description.settings.strict) == ("zero", True)
    standing = nn.Identity()
    standing.step_mode = "m" if is_multi_step(neuron) else "s"
    interface = description.interface(neuron, standing)
    filtered = torch.stack([*interface(x)[0]]) if is_multi_step(neuron) else called(interface, x)
    membrane, spikes = torch.zeros(500, dtype=torch.float64), []
    for current in filtered.double() * description.gain:
        membrane = description.decay * membrane + current
        spikes.append((membrane > 1).double())
        membrane = membrane * (1 - spikes[-1])
    expected = called(neuron, x)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(expected.double(), torch.stack(spikes))


@pytest.mark.parametrize("method", ["super", "heaviside", "tanh", "triangle", "circ", "heavi_erfc"])
def test_every_method_fires_above_the_threshold(method):
    neuron = norse.IAFCell(IAFParameters(v_th=torch.tensor(2.0), method=method))
    assert called(neuron, torch.tensor([[1.75, 2.0, 2.25]])).tolist() == [[0, 0, 1]]


def test_a_synaptic_current_arrives_a_step_late_or_at_once():
    neuron = NEURONS["LIFCell"]()
    interface = describe(neuron).interface(neuron, nn.Identity())
    late = version("norse").startswith("1.0")
    expected = [0, 8, 4, 2] if late else [8, 4, 2, 5]
    assert called(interface, torch.tensor([[8.0], [0.0], [0.0], [4.0]])).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (lambda: norse.LIFRecurrent(2, 2, record_states=True), "its membrane is read"),
        (
            lambda: norse.LIFCell(LIFParameters(v_reset=torch.tensor(-1.0))),
            "it is reset to another membrane than it rests at",
        ),
        (lambda: norse.LIFCell(LIFParameters(v_th=torch.tensor(0.0))), "its threshold is not above its reset"),
        (
            lambda: norse.LIFCell(LIFParameters(tau_mem_inv=torch.tensor([1.0, 2.0]))),
            "its neurons have different decays",
        ),
        (
            lambda: norse.LIFCell(dt=0.1),
            "its membrane is multiplied by -9 a step; allowed: 0 to 1",
        ),
        (lambda: norse.LIF(record_states=True), "its membrane is read"),
    ],
)
def test_what_no_refined_neuron_does_is_told(neuron, reason):
    assert describe(neuron()).irreplaceable == reason


def test_only_the_librarys_own_neurons_are_described():
    class Special(norse.LIFCell):
        pass

    assert is_neuron(norse.LIFCell())
    assert not is_neuron(Special())
    assert is_spiking(Special())
    assert is_spiking(norse.LSNNCell())
    assert not is_neuron(norse.LSNNCell())


class Steps(nn.Module):
    """States are passed from step to step."""

    def __init__(self, cell=norse.LIFBoxCell):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.lif1, self.b = nn.Linear(8, 16), cell(), nn.Linear(16, 16)
        self.lif2, self.c = cell(), nn.Linear(16, 4)

    def forward(self, x):
        one, two, logits = None, None, []
        for frame in x:
            spikes, one = self.lif1(self.a(frame), one)
            spikes, two = self.lif2(self.b(spikes), two)
            logits.append(self.c(spikes))
        return torch.stack(logits).mean(0)


class Sequence(Steps):
    """The same on sequences."""

    def __init__(self):
        super().__init__(norse.LIF)

    def forward(self, x):
        spikes, _ = self.lif1(self.a(x))
        spikes, _ = self.lif2(self.b(spikes))
        return self.c(spikes).mean(0)


def frames():
    return 30 * torch.rand(T, 5, 8, generator=torch.Generator().manual_seed(1))


def became(quantized):
    return {row.name: (row.became, row.why) for row in quantized.conversion}


@pytest.mark.parametrize("cell", [norse.LIFBoxCell, norse.IAFCell, norse.LIFCell])
def test_a_network_of_steps(cell):
    quantized = bitsearch.quantize(Steps(cell), frames(), time_axis=True)
    assert became(quantized)["lif1"][0] == "the refined neuron of b"
    assert became(quantized)["lif2"][0] == "the refined neuron of c"
    assert [plan.loop for plan in quantized.layer_plans.values()] == ["frames"] * 3
    assert quantized(frames()).shape == (5, 4)
    quantized(frames()).sum().backward()


def test_a_network_of_steps_and_of_sequences_are_one():
    start = bitsearch.UniformBits(weight_bits=8, spike_bits=4, time_steps=T)
    choices = bitsearch.Choices(time_steps=(T, T))
    logits = []
    for network in (Steps(norse.LIFCell), Sequence()):
        quantized = bitsearch.quantize(network, frames(), time_axis=True, start=start, choices=choices).eval()
        assert became(quantized)["lif1"][0] == "the refined neuron of b"
        quantized(frames())
        logits.append(quantized(frames()))
    assert torch.equal(*logits)


@pytest.mark.parametrize("cell", [norse.LIFBoxCell, norse.IAFCell, norse.LIFCell])
def test_every_spike_is_the_librarys_own(cell):
    network, x = Steps(cell), frames() / (20 if cell is norse.IAFCell else 1)
    with torch.no_grad():
        network.b.weight *= 4 if cell is norse.IAFCell else 20
    both = spikes_of_both(network, x, {"lif1": "b", "lif2": "c"}, excluded=["a"], time_steps=T, time_axis=True)
    assert_equal_spikes(both)


def test_every_spike_of_a_sequence_is_the_librarys_own():
    network = Sequence()
    with torch.no_grad():
        network.b.weight *= 20
    both = spikes_of_both(network, frames(), {"lif1": "b", "lif2": "c"}, excluded=["a"], time_steps=T, time_axis=True)
    assert_equal_spikes(both)


def test_states_that_are_forgotten_keep_the_neuron():
    class Forgetful(Steps):
        def forward(self, x):
            return torch.stack([self.c(self.lif1(self.a(frame))[0]) for frame in x]).mean(0)

    with pytest.warns(UserWarning, match="never called"):
        quantized = bitsearch.quantize(Forgetful(), frames(), time_axis=True)
    assert became(quantized)["lif1"] == ("left", "its membrane is changed between its calls")


def test_a_sequential_network_with_states():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = norse.SequentialState(nn.Linear(8, 16), norse.LIFCell(), nn.Linear(16, 4), norse.LICell())

        def forward(self, x):
            state, voltages = None, []
            for frame in x:
                voltage, state = self.net(frame, state)
                voltages.append(voltage)
            return torch.stack(voltages).mean(0)

    quantized = bitsearch.quantize(Wrapped(), frames(), time_axis=True)
    assert became(quantized)["net.1"][0] == "the refined neuron of net.2"
    assert quantized(frames()).shape == (5, 4)


RECURRENT = {"LIFRecurrentCell": norse.LIFRecurrentCell, "LIFRecurrent": norse.LIFRecurrent}


class Recurrent(nn.Module):
    """A neuron with weights of its own, for what comes in and for its own spikes."""

    def __init__(self, kind="LIFRecurrentCell", **options):
        super().__init__()
        torch.manual_seed(0)
        p = LIFParameters(**{**SYNAPSE, **options.pop("p", {})})
        self.a, self.lif, self.c = nn.Linear(8, 12), RECURRENT[kind](12, 16, p, **options), nn.Linear(16, 4)

    def forward(self, x):
        if is_multi_step(self.lif):
            return self.c(self.lif(self.a(x))[0]).mean(0)
        state, logits = None, []
        for frame in x:
            spikes, state = self.lif(self.a(frame), state)
            logits.append(self.c(spikes))
        return torch.stack(logits).mean(0)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("options", [{}, {"autapses": True}, {"p": ELSEWHERE}], ids=str)
def test_a_recurrent_neuron_is_layers_and_a_neuron(kind, options):
    network, x = Recurrent(kind, **options), frames()
    apart = separated(network)
    assert [name for name, _ in apart.lif.named_children()] == ["input", "recurrent", "neuron"]
    assert apart.lif.recurrent.weight is network.lif.recurrent_weights
    entered = network.a(x[0] if kind.endswith("Cell") else x)
    (spikes, state), (expected, expected_state) = apart.lif(entered), network.lif(entered)
    assert 0 < expected.mean() < 1
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(tuple(state), tuple(expected_state))
    torch.testing.assert_close(apart(x), network(x))
    assert isinstance(separated(Steps()).lif1, norse.LIFBoxCell)


@pytest.mark.parametrize("kind", RECURRENT)
def test_the_weights_of_a_recurrent_neuron_get_bits(kind):
    network, x = Recurrent(kind), frames()
    quantized = bitsearch.quantize(network, x, time_axis=True)
    rows, plans = became(quantized), quantized.layer_plans
    assert list(plans) == ["a", "lif.input", "lif.recurrent", "c"]
    assert rows["lif.neuron"][0] == "the refined neuron of lif.recurrent, c"
    assert plans["lif.recurrent"].neurons == plans["c"].neurons == ("lif.neuron",)
    assert (plans["lif.recurrent"].loop, plans["lif.recurrent"].frames) == ("frames", T)
    costs = quantized.model.layer_costs("s_ace", plans)
    assert quantized.model.staying == {}
    bits = plans["lif.recurrent"]
    assert costs["lif.recurrent"] == 16 * 16 * bits.weight_bits * sum(bits.spike_bits)
    table = profile(network, quantized.model, plans).set_index("layer")
    assert table.loc["lif.input", "shape"] == "16×12"
    # Without autapses, the copies' weights on them stay zero as well.
    for each in (quantized, quantized.copy()):
        each.train()(x).square().sum().backward()
        gradient = each.network.lif.recurrent.weight.grad
        assert gradient.any()
        assert not gradient.diagonal().any()
    assert torch.equal(quantized.copy().eval()(x), quantized.eval()(x))
    started = start_network(network, quantized.network.state_dict())
    assert torch.equal(started.lif.recurrent.weight, network.lif.recurrent_weights)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("autapses", [False, True])
def test_every_spike_of_a_recurrent_neuron_is_the_librarys_own(kind, autapses):
    network, x = Recurrent(kind, autapses=autapses), frames() / 4
    with torch.no_grad():
        network.lif.recurrent_weights *= 2
    both = spikes_of_both(network, x, {"lif": "c"}, excluded=["a", "lif.input"], time_steps=T, time_axis=True)
    assert_equal_spikes({"lif": (both["lif"][0].reshape(T, 5, 16), both["lif"][1])})
    # What comes back matters: without it, other spikes.
    apart = separated(Recurrent(kind, autapses=autapses))
    with torch.no_grad():
        apart.lif.recurrent.weight.zero_()
    assert not torch.equal(apart(x), Recurrent(kind, autapses=autapses)(x))


def test_steps_and_sequences_of_a_recurrent_neuron_are_one():
    logits = []
    for kind in RECURRENT:
        quantized = bitsearch.quantize(Recurrent(kind), frames(), time_axis=True).eval()
        quantized(frames())
        logits.append(quantized(frames()))
    assert torch.equal(*logits)


def test_a_recurrent_neuron_with_a_hook_keeps_its_weights():
    network = Recurrent()
    network.lif.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="kept at 32 bits: lif"):
        rows = became(bitsearch.quantize(network, frames(), time_axis=True))
    assert rows["lif"] == ("left", "its weights are its own, which something else than the network reads")
