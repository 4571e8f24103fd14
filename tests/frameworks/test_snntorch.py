"""snnTorch's neurons: what is said of them against running them, and what becomes of networks written with them."""

import pytest
import torch
from parity import assert_equal_spikes, spikes_of_both
from torch import nn

import bitsearch
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import describe, is_multi_step, is_neuron, is_spiking, reset_states, states
from bitsearch.layers import convert

snntorch = pytest.importorskip("snntorch")
utils = pytest.importorskip("snntorch.utils")

T = 6
NEURONS = {
    "Leaky, reset to zero": lambda: snntorch.Leaky(0.5, threshold=2.0, reset_mechanism="zero"),
    "Leaky, reset to zero at once": lambda: snntorch.Leaky(
        0.5, threshold=2.0, reset_mechanism="zero", reset_delay=False
    ),
    "Leaky, reset late": lambda: snntorch.Leaky(0.5, threshold=2.0),
    "Leaky without leak": lambda: snntorch.Leaky(1.0, threshold=2.0),
    "Leaky, decay beyond one": lambda: snntorch.Leaky(1.5, threshold=2.0),
    "Leaky, thresholds": lambda: snntorch.Leaky(0.5, threshold=torch.tensor([1.0, 2.0, 4.0, 8.0] * 125)),
    "Leaky, learned": lambda: snntorch.Leaky(torch.full((500,), 0.5), learn_beta=True, learn_threshold=True),
    "Lapicque": lambda: snntorch.Lapicque(R=2.0, C=1.0, time_step=1.0, threshold=2.0),
}


def currents(most=8):
    # Quarters: sums and products with these decays are exact in float32, so that some meet the threshold.
    return torch.randint(-8, 4 * most, (T, 500), generator=torch.Generator().manual_seed(0)) / 4


def sent(neuron, x):
    """Spikes ``[T, ...]`` of a neuron that is called step by step."""
    membrane, spikes = neuron.reset_mem(), []
    for current in x:
        spike, membrane = neuron(current, membrane)
        spikes.append(spike)
    return torch.stack(spikes)


def recurrence(description, x):
    """The same of the refined neuron with one bit and a step of one, in float64."""
    membrane, spikes = torch.zeros_like(x[0], dtype=torch.float64), []
    decay, settings = description.decay, description.settings
    assert settings.threshold == "full"
    for current in x.double() * description.gain:
        membrane = membrane + current
        spikes.append((membrane > 1 if settings.strict else membrane >= 1).double())
        if settings.reset == "zero":
            membrane = decay * membrane * (1 - spikes[-1])
        elif settings.reset == "delayed":
            membrane = decay * membrane - spikes[-1]
        else:
            membrane = decay * (membrane - spikes[-1])
    return torch.stack(spikes)


@pytest.mark.parametrize("kind", NEURONS)
def test_a_neuron_is_what_its_description_says(kind):
    neuron, x = NEURONS[kind](), currents()
    description = describe(neuron)
    assert description.irreplaceable is None
    assert description.settings.strict
    spikes = sent(neuron, x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(spikes.double(), recurrence(description, x))


def test_a_reset_at_once_is_soft_while_no_membrane_is_above_two_thresholds():
    neuron = snntorch.Leaky(0.5, threshold=2.0, reset_delay=False)
    description = describe(neuron)
    assert description.settings.reset == "subtract"
    small = currents(2).clamp_max(1.5)
    assert torch.equal(sent(neuron, small).double(), recurrence(description, small))
    # Above, the library compares what is left with the threshold once more, and waits a step.
    assert sent(neuron, torch.tensor([[5.0], [1.0]])).flatten().tolist() == [1, 0]
    assert recurrence(description, torch.tensor([[5.0], [1.0]])).flatten().tolist() == [1, 1]


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_learned_decay_is_known(reset):
    assert describe(snntorch.Leaky(0.5, learn_beta=True, reset_mechanism=reset)).learns_decay
    assert not describe(snntorch.Leaky(0.5, reset_mechanism=reset)).learns_decay


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (lambda: snntorch.Synaptic(0.5, 0.5), "its synaptic current is a second state, which no refined neuron has"),
        (lambda: snntorch.Alpha(0.6, 0.5), "its synaptic current is a second state, which no refined neuron has"),
        (lambda: snntorch.Leaky(0.5, reset_mechanism="none"), "its spikes do not reset it"),
        (lambda: snntorch.Leaky(0.0), "its late reset is all that its membrane holds"),
        (
            lambda: snntorch.Lapicque(0.5, reset_mechanism="zero"),
            "its reset to zero comes a step late, and takes that step's input too",
        ),
        (
            lambda: snntorch.RLeaky(0.5, linear_features=2, reset_mechanism="zero"),
            "its reset to zero comes a step late, and takes that step's input too",
        ),
        (
            lambda: snntorch.RLeaky(0.5, linear_features=2, reset_mechanism="zero", reset_delay=False),
            "its reset to zero runs its recurrent layer twice a step",
        ),
        (lambda: snntorch.Leaky(0.5, state_quant=lambda x: x), "its membrane is quantized"),
        (lambda: snntorch.Leaky(0.5, graded_spikes_factor=2.0), "its spikes are graded"),
        (lambda: snntorch.Leaky(0.5, learn_graded_spikes_factor=True), "its spikes are graded"),
        (lambda: snntorch.Leaky(torch.tensor([0.5, 0.6])), "its neurons have different decays"),
        (lambda: snntorch.Leaky(0.5, threshold=0.0), "its threshold is not above zero, to which it is reset"),
        (lambda: snntorch.Leaky(0.5, spike_grad=torch.sigmoid), "its spike_grad sends something else than spikes"),
    ],
)
def test_what_no_refined_neuron_does_is_told(neuron, reason):
    assert describe(neuron()).irreplaceable == reason


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_inhibition_stays():
    assert describe(snntorch.Leaky(0.5, inhibition=True)).irreplaceable == "its neurons inhibit each other"


def test_a_reset_to_zero_that_comes_late_takes_the_input_too():
    # What it is refused for: no spike in the second step, whatever comes in.
    neuron = snntorch.Lapicque(R=2.0, C=1.0, time_step=1.0, reset_mechanism="zero")
    assert sent(neuron, torch.tensor([[2.0], [9.0], [2.0]])).flatten().tolist() == [1, 0, 1]


def test_only_the_librarys_own_neurons_are_described():
    class Special(snntorch.Leaky):
        pass

    assert is_neuron(snntorch.Leaky(0.5))
    assert not is_multi_step(snntorch.Leaky(0.5))
    assert not is_neuron(Special(0.5))
    assert is_spiking(Special(0.5))
    assert is_spiking(snntorch.SLSTM(2, 2))
    assert not is_neuron(snntorch.SLSTM(2, 2))


def test_states_are_reset():
    network = nn.Sequential(nn.Linear(3, 3), snntorch.RLeaky(0.5, linear_features=3, init_hidden=True))
    x = torch.full((2, 3), 4.0)
    first = network(x)
    assert states(network[1])[0].any()
    reset_states(network)
    assert not states(network[1])[0].any()
    assert not network[1].spk.any()
    assert torch.equal(network(x), first)


class Passed(nn.Module):
    """Membranes are passed from step to step; the last ones may be what is returned."""

    def __init__(self, read_out="spikes", **options):
        super().__init__()
        torch.manual_seed(0)
        self.read_out = read_out
        options = {"beta": 0.5, "reset_mechanism": "zero"} | options
        self.fc1, self.lif1 = nn.Linear(8, 16), snntorch.Leaky(**options)
        self.fc2, self.lif2 = nn.Linear(16, 16), snntorch.Leaky(**options)
        self.fc3, self.lif3 = nn.Linear(16, 4), snntorch.Leaky(**options)

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.reset_mem(), self.lif2.init_leaky(), self.lif3.reset_mem()
        spikes, membranes = [], []
        for frame in x:
            spk1, mem1 = self.lif1(self.fc1(frame), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk3, mem3 = self.lif3(self.fc3(spk2), mem3)
            spikes.append(spk3)
            membranes.append(mem3)
        return torch.stack(spikes if self.read_out == "spikes" else membranes).mean(0)


class Hidden(nn.Module):
    """Neurons that keep their membranes, in one sequence of modules, on an image that every step sees."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)

        def lif(**options):
            return snntorch.Leaky(0.5, init_hidden=True, reset_mechanism="zero", **options)

        self.net = nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), lif()),
            *(nn.Conv2d(4, 8, 3), nn.MaxPool2d(2), lif()),
            *(nn.Flatten(), nn.Linear(32, 4), lif(output=True)),
        )
        with torch.no_grad():
            for layer in (3, 7):
                self.net[layer].weight *= 4

    def forward(self, x):
        utils.reset(self.net)
        return torch.stack([self.net(x)[0] for _ in range(T)]).sum(0)


class Recurrent(nn.Module):
    def __init__(self, *, delay=True):
        super().__init__()
        torch.manual_seed(0)
        self.fc1 = nn.Linear(8, 16)
        self.lif1 = snntorch.RLeaky(0.5, linear_features=16, reset_delay=delay)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x):
        (spikes, membrane), logits = self.lif1.init_rleaky(), []
        for frame in x:
            spikes, membrane = self.lif1(self.fc1(frame), spikes, membrane)
            logits.append(self.fc2(spikes))
        return torch.stack(logits).mean(0)


def frames():
    return 3 * torch.rand(T, 5, 8, generator=torch.Generator().manual_seed(1))


def became(quantized):
    return {row.name: (row.became, row.why) for row in quantized.conversion}


def test_a_network_that_passes_its_membranes():
    quantized = bitsearch.quantize(Passed(), frames(), time_axis=True)
    rows, plans = became(quantized), quantized.layer_plans
    assert rows["lif1"][0] == "the refined neuron of fc2"
    assert rows["lif2"][0] == "the refined neuron of fc3"
    assert rows["lif3"] == ("left", "the network returns its spikes")
    assert [(plan.loop, plan.frames, plan.decay) for plan in plans.values()][1:] == [("frames", T, 0.5)] * 2
    assert plans["fc3"].neurons == ("lif2",)
    assert quantized(frames()).shape == (5, 4)


def test_a_plan_of_another_neuron_is_refused():
    plans = bitsearch.quantize(Passed(), frames(), time_axis=True).layer_plans
    with pytest.raises(InputError, match="replaces neuron 'lif1', but as it is now"):
        convert(Passed(reset_mechanism="none"), plans)


def test_a_learned_decay_may_fall_from_one():
    assert describe(snntorch.Leaky(1.0)).settings.reset == "subtract"
    assert describe(snntorch.Leaky(1.0, learn_beta=True)).settings.reset == "delayed"


def test_a_membrane_that_is_read_keeps_its_neuron():
    rows = became(bitsearch.quantize(Passed("membranes"), frames(), time_axis=True))
    assert rows["lif3"] == ("left", "its membrane is read")
    assert rows["lif2"][0] == "the refined neuron of fc3"


def test_a_network_that_keeps_its_membranes_computes_a_static_layer_once():
    x = 2 * torch.rand(5, 1, 14, 14)
    quantized = bitsearch.quantize(Hidden(), x)
    rows, plans = became(quantized), quantized.layer_plans
    assert rows["net.2"][0] == "the refined neuron of net.3"
    assert rows["net.5"][0] == "the refined neuron of net.7"
    assert rows["net.8"] == ("left", "the network returns its spikes")
    assert [(plan.loop, plan.frames) for plan in plans.values()] == [("same", None), ("frames", T), ("frames", T)]


def test_a_neuron_that_stays_starts_every_pass_anew():
    x = 9 * torch.rand(5, 1, 14, 14)
    quantized = bitsearch.quantize(Hidden(), x).eval()
    first = quantized(x)
    assert first.any()
    assert torch.equal(quantized(x), first)


def test_the_layer_inside_of_a_recurrent_neuron_gets_bits():
    quantized = bitsearch.quantize(Recurrent(), frames(), time_axis=True)
    rows, plans = became(quantized), quantized.layer_plans
    assert rows["lif1"][0] == "the refined neuron of lif1.recurrent, fc2"
    assert plans["lif1.recurrent"].neurons == plans["fc2"].neurons == ("lif1",)
    assert (plans["lif1.recurrent"].loop, plans["lif1.recurrent"].frames) == ("frames", T)
    quantized(frames()).sum().backward()
    assert quantized.network.lif1.recurrent.weight.grad.any()
    copied = quantized.copy().eval()
    assert torch.equal(copied(frames()), quantized.eval()(frames()))


class OneToOne(Recurrent):
    """Every neuron reads its own spikes alone, times one number or one of its own."""

    def __init__(self, *, factor=-0.5, delay=True, hidden=False):
        super().__init__()
        self.hidden = hidden
        self.lif1 = snntorch.RLeaky(0.5, V=factor, all_to_all=False, reset_delay=delay, init_hidden=hidden)

    def forward(self, x):
        if not self.hidden:
            return super().forward(x)
        return torch.stack([self.fc2(self.lif1(self.fc1(frame))) for frame in x]).mean(0)


def test_one_to_one_recurrence_fires_where_it_stands():
    quantized = bitsearch.quantize(OneToOne(), frames(), time_axis=True)
    became_neuron, why = became(quantized)["lif1"]
    assert became_neuron == "the refined neuron of fc2"
    assert why.endswith("where it was, in front of what works on its spikes")
    assert quantized.layer_plans["fc2"].in_place
    quantized(frames()).sum().backward()
    assert quantized.network.lif1.recurrent.V.grad.abs() > 0
    copied = quantized.copy().eval()
    assert torch.equal(copied(frames()), quantized.eval()(frames()))


@pytest.mark.parametrize("factor", [-0.5, 1.0, torch.linspace(-1, 1, 16)], ids=["below zero", "one", "a neuron's own"])
@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_every_spike_of_one_to_one_recurrence_is_the_librarys_own(factor, delay, hidden):
    network = OneToOne(factor=factor, delay=delay, hidden=hidden)
    both = spikes_of_both(network, frames() / 2, {"lif1": "fc2"}, excluded=["fc1"], time_steps=T, time_axis=True)
    assert_equal_spikes(both)
    # What comes back matters: without it, other spikes.
    network = OneToOne(factor=0.0, delay=delay, hidden=hidden)
    alone = spikes_of_both(network, frames() / 2, {"lif1": "fc2"}, excluded=["fc1"], time_steps=T, time_axis=True)
    assert not torch.equal(alone["lif1"][0], both["lif1"][0])


class Between(Passed):
    """What happens to a membrane between two calls."""

    def __init__(self, change, **options):
        super().__init__(**options)
        self.change = change

    def forward(self, x):
        mem, logits = None, []
        for frame in x:
            spikes, mem = self.lif1(self.fc1(frame), mem)
            mem = self.change(mem)
            logits.append(self.fc3(spikes))
        return torch.stack(logits).mean(0)


CHANGED = "its membrane is changed between its calls"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda mem: mem, None),
        (lambda mem: mem.detach(), None),
        (lambda mem: mem.clone(), None),
        (lambda mem: mem / 2, CHANGED),
        (lambda mem: torch.zeros_like(mem), CHANGED),
        (lambda mem: mem.flip(1), CHANGED),
    ],
)
@pytest.mark.filterwarnings("ignore:never called")
def test_a_membrane_has_to_go_from_call_to_call(change, why):
    rows = became(bitsearch.quantize(Between(change), frames(), time_axis=True))
    assert rows["lif1"] == (("left", why) if why else ("the refined neuron of fc3", rows["lif1"][1]))


@pytest.mark.filterwarnings("ignore:never called")
def test_one_neuron_at_several_places_stays():
    class Shared(Passed):
        def forward(self, x):
            mem1, mem2, logits = None, torch.zeros(0), []
            for frame in x:
                spikes, mem1 = self.lif1(self.fc1(frame), mem1)
                spikes, mem2 = self.lif1(self.fc2(spikes), mem2)
                logits.append(self.fc3(spikes))
            return torch.stack(logits).mean(0)

    rows = became(bitsearch.quantize(Shared(), frames(), time_axis=True))
    assert rows["lif1"] == ("left", "it has several membranes in turn; give each place a neuron of its own")


@pytest.mark.filterwarnings("ignore:never called")
def test_a_membrane_has_to_start_at_rest():
    class Started(Passed):
        def forward(self, x):
            spikes, _ = self.lif1(self.fc1(x), torch.rand(x.shape[0], 16))
            return self.fc3(spikes)

    rows = became(bitsearch.quantize(Started(), frames()[0]))
    assert rows["lif1"] == ("left", "its membrane starts elsewhere than at rest")


@pytest.mark.filterwarnings("ignore:never called")
def test_a_kept_membrane_that_is_reset_on_the_way_keeps_its_neuron():
    class Resetting(Passed):
        def forward(self, x):
            logits = []
            for frame in x:
                self.lif1.reset_mem()
                logits.append(self.fc3(self.lif1(self.fc1(frame))))
            return torch.stack(logits).mean(0)

    rows = became(bitsearch.quantize(Resetting(init_hidden=True), frames(), time_axis=True))
    assert rows["lif1"] == ("left", CHANGED)


@pytest.mark.filterwarnings("ignore:never called")
def test_a_membrane_that_is_read_from_the_neuron_itself():
    class Reading(Passed):
        def forward(self, x):
            logits = []
            for frame in x:
                spikes = self.lif1(self.fc1(frame))
                logits.append(self.fc3(spikes) + self.lif1.mem[:, :4])
            return torch.stack(logits).mean(0)

    rows = became(bitsearch.quantize(Reading(init_hidden=True), frames(), time_axis=True))
    assert rows["lif1"] == ("left", "its membrane is read")


@pytest.mark.filterwarnings("ignore:never called")
def test_a_neuron_that_is_refused_is_named_and_its_reader_remembers_nothing():
    class Two(Passed):
        def __init__(self):
            super().__init__()
            self.lif1 = snntorch.Synaptic(0.5, 0.5, init_hidden=True)

        def forward(self, x):
            logits = []
            for frame in x:
                spikes = self.lif1(self.fc1(frame))
                logits.append(self.fc3(spikes))
            return torch.stack(logits).mean(0)

    quantized = bitsearch.quantize(Two(), frames(), time_axis=True)
    quantized(frames()).sum().backward()
    assert torch.equal(quantized.copy().eval()(frames()), quantized.eval()(frames()))
    assert became(quantized)["lif1"] == (
        "left",
        "its synaptic current is a second state, which no refined neuron has",
    )
    plan = quantized.layer_plans["fc3"]
    assert (plan.loop, plan.frames, plan.decay, plan.signed_input) == ("frames", T, 0.0, False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.9},
        {"beta": 1.0},
        {"reset_mechanism": "zero"},
        {"reset_mechanism": "zero", "reset_delay": False},
        {"threshold": 0.5},
        {"threshold": torch.linspace(0.5, 1.5, 16)},
        {"learn_beta": True, "learn_threshold": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("hidden", [False, True])
def test_every_spike_is_the_librarys_own(options, hidden):
    class Chain(Passed):
        def forward(self, x):
            mem1, mem2, logits = None, None, []
            for frame in x:
                if hidden:
                    spk2 = self.lif2(self.fc2(self.lif1(self.fc1(frame))))
                else:
                    spk1, mem1 = self.lif1(self.fc1(frame), mem1)
                    spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                logits.append(self.fc3(spk2))
            return torch.stack(logits).mean(0)

    network = Chain(**{"reset_mechanism": "subtract"} | options, init_hidden=hidden)
    with torch.no_grad():
        network.fc2.weight *= 4
    both = spikes_of_both(
        network, frames(), {"lif1": "fc2", "lif2": "fc3"}, excluded=["fc1"], time_steps=T, time_axis=True
    )
    assert_equal_spikes(both)


def test_every_spike_of_lapicque_is_the_librarys_own():
    network = Passed()
    network.lif1, network.lif2 = (snntorch.Lapicque(R=2.0, C=1.5, time_step=1.0) for _ in range(2))
    network.lif2.init_leaky = network.lif2.reset_mem
    with torch.no_grad():
        network.fc2.weight *= 4
    both = spikes_of_both(
        network, 2 * frames(), {"lif1": "fc2", "lif2": "fc3"}, excluded=["fc1"], time_steps=T, time_axis=True
    )
    assert_equal_spikes(both)


def test_every_spike_of_a_recurrent_neuron_is_the_librarys_own():
    for delay in (False, True):
        network = Recurrent(delay=delay)
        both = spikes_of_both(network, frames() / 2, {"lif1": "fc2"}, excluded=["fc1"], time_steps=T, time_axis=True)
        assert_equal_spikes(both)


def test_every_spike_of_a_network_of_images_is_the_librarys_own():
    network, x = Hidden(), 9 * torch.rand(5, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    both = spikes_of_both(network, x, {"net.2": "net.3", "net.5": "net.7"}, excluded=["net.0"], time_steps=T)
    assert_equal_spikes(both)


class PooledSpikes(nn.Module):
    """Pooling behind the neurons."""

    def __init__(self, pool, *, hidden):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.pool = hidden, pool(2)
        self.conv1, self.lif1 = nn.Conv2d(1, 4, 3), snntorch.Leaky(0.9, init_hidden=hidden)
        self.conv2, self.lif2 = nn.Conv2d(4, 8, 3), snntorch.Leaky(0.9, init_hidden=hidden)
        self.fc = nn.Linear(32, 4)
        with torch.no_grad():
            self.conv2.weight *= 4

    def forward(self, x):
        mem1 = mem2 = None
        logits = []
        for _ in range(T):
            if self.hidden:
                spk2 = self.lif2(self.conv2(self.pool(self.lif1(self.conv1(x)))))
            else:
                spk1, mem1 = self.lif1(self.conv1(x), mem1)
                spk2, mem2 = self.lif2(self.conv2(self.pool(spk1)), mem2)
            logits.append(self.fc(self.pool(spk2).flatten(1)))
        return torch.stack(logits).mean(0)


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize("hidden", [False, True])
def test_every_spike_in_front_of_pooling_is_the_librarys_own(pool, hidden):
    x = 6 * torch.rand(5, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    network = PooledSpikes(pool, hidden=hidden)
    both = spikes_of_both(network, x, {"lif1": "conv2", "lif2": "fc"}, excluded=["conv1"], time_steps=T)
    assert both["lif1"][1].shape == (T, 5, 4, 12, 12)
    assert_equal_spikes(both)
