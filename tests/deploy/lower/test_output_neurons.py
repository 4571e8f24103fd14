"""Neurons behind the last layer, and static inputs that a network repeats: SpikingJelly's usual ends."""

import pytest
import torch
from calibration import calibrate
from framed_networks import check_equal, events, framed, prepared
from packed_reader import run as run_by_hand
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch import pack, read, verify
from bitsearch.data import Splits
from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.integer.operations import Fire
from bitsearch.deploy.integer.program import NetworkInput, Program
from bitsearch.deploy.integer.ranges import analyse_ranges
from bitsearch.deploy.lower.lowering import lower
from bitsearch.deploy.lower.output_neurons import OutputNeuron
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import describe, reset_states
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan

FRAMES = 5
NEURONS = {
    "IF": lambda **options: neuron.IFNode(**options),
    "SimpleIF": lambda **options: neuron.SimpleIFNode(**options),
    "LIF": lambda **options: neuron.LIFNode(tau=3.0, **options),
    "LIF, whole input": lambda **options: neuron.LIFNode(tau=1.25, decay_input=False, **options),
    "PLIF": lambda **options: neuron.ParametricLIFNode(init_tau=2.5, **options),
}


def ending_in(*behind):
    torch.manual_seed(1)
    network = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(),
        layer.AdaptiveAvgPool2d(1),
        layer.Flatten(),
        layer.Linear(4, 5),
        *behind,
    )
    functional.set_step_mode(network, "m")
    return network


def samples(inputs):
    """Of ``[N, ...]``, event data included, labelled 0."""
    part = TensorDataset(inputs, torch.zeros(len(inputs), dtype=torch.long))
    frames = inputs.shape[1] if inputs.dim() == 5 else None
    return Splits(part, part, part, input_shape=tuple(inputs.shape[1:]), classes=5, frames=frames).test


def program_of(threshold, decay=1 << 16, *, hard=False, frames=4):
    """A neuron alone."""
    fire = Fire(name="fire", inputs=(0,), threshold=threshold, decay=decay, hard=hard)
    network_input = NetworkInput(shape=(1,), fraction=0, largest=100, frames=frames)
    return Program.model_construct(input=network_input, layers={}, operations=(fire,))


def spikes(program, currents):
    observations = []
    Replay(program, {})(
        torch.tensor(currents).float().view(-1, 1, 1),
        lambda *observation: observations.append((observation[1], int(observation[3]))),
    )
    membranes = [value for quantity, value in observations if quantity == "membrane"]
    return membranes, [value for quantity, value in observations if quantity == "spikes"]


def test_a_neuron_fires_at_its_threshold_and_is_reset_by_hand():
    # A tie fires. Softly reset, 7 − 5 = 2 is left; negative currents stay.
    assert spikes(program_of(5), [5, 7, 3, -4]) == ([5, 7, 5, -4], [1, 1, 1, 0])
    assert spikes(program_of(5, hard=True), [5, 7, 3, 2]) == ([5, 7, 3, 5], [1, 1, 0, 1])
    # Half of 3 is 1½, rounded upward to 2; half of −3 is −1½, upward to −1.
    assert spikes(program_of(9, 1 << 15), [3, -5, 0, 9]) == ([3, -3, -1, 9], [0, 0, 0, 1])


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("decay", [1 << 16, 3 << 14, 0])
@pytest.mark.parametrize("extreme", [[100] * 4, [-100] * 4, [100, -100, 100, -100]])
def test_membranes_stay_within_their_bounds(hard, decay, extreme):
    for threshold in (1, 30, 1000):
        program = program_of(threshold, decay, hard=hard)
        bound = analyse_ranges(program, {}).operations[0].widths.membrane
        membranes, _ = spikes(program, extreme)
        assert max(map(abs, membranes)) <= bound


def test_membranes_of_more_than_50_bits_are_refused():
    with pytest.raises(InputError, match="fire: integers of 52 bits"):
        analyse_ranges(
            program_of(1, decay=(1 << 16) - 1).model_copy(
                update={"input": NetworkInput(shape=(1,), fraction=0, largest=(1 << 31) - 1, frames=64)}
            ),
            {},
        )


@pytest.mark.parametrize(
    ("kind", "v_reset"), [(kind, v) for kind in NEURONS for v in (None, 0.0, -0.2) if (kind, v) != ("SimpleIF", -0.2)]
)
def test_fire_is_spikingjellys_neuron_but_for_rounding(kind, v_reset):
    torch.manual_seed(3)
    currents = 2 * torch.randn(40, 500, 1, dtype=torch.float64)
    module = NEURONS[kind](v_threshold=0.7, v_reset=v_reset, step_mode="m")
    fire = OutputNeuron(module, 40).operation("neuron", "fire", 0, 20)
    given = NetworkInput(shape=(1,), fraction=20, largest=(1 << 26) - 1, frames=40)
    program = Program.model_construct(input=given, layers={}, operations=(fire,))
    module.double().step_mode = "s"
    rest = v_reset or 0.0
    fired, left = [], [torch.full((500, 1), rest, dtype=torch.float64)]
    for current in currents:
        fired.append(module(current))
        left.append(module.v.detach())
    expected = torch.stack(fired)
    assert expected.unique().tolist() == [0, 1]
    membranes = describe(module).decay * (torch.stack(left[:-1]) - rest) + describe(module).charge * currents
    # In 40 steps a membrane is off by at most 40 roundings of a current, of what decays and of what is reset, and by
    # what rounding the decay to 2^-16 makes of it; the threshold by one more. Who is further from it at every step
    # fires the same.
    off = 40 * (describe(module).charge * 2.0**-19 + 2.0**-17 * membranes.abs().max()) + 2.0**-21
    clear = ((membranes - (0.7 - rest)).abs() > off).all(0)
    assert clear.sum() > 250
    found = Replay(program, {})(currents).unflatten(0, (40, -1))
    assert torch.equal(found[:, clear].double(), expected[:, clear])


@pytest.mark.parametrize(
    ("kind", "v_reset"), [("IF", 0.0), ("IF", None), ("SimpleIF", None), ("LIF", 0.0), ("PLIF", None)]
)
def test_firing_of_every_neuron_is_replayed_exactly(kind, v_reset, tmp_path):
    examples = events(FRAMES, 6, 2, 8, 8)
    network = prepared(ending_in(NEURONS[kind](v_threshold=0.05, v_reset=v_reset)), examples)
    check_equal(network, examples)
    pack(network, examples, tmp_path / "packed")
    packed = read(tmp_path / "packed")
    by_hand, fraction = run_by_hand(tmp_path / "packed", examples[:, 0].flatten().tolist())
    assert (packed.replay()(examples[:, :1]).tolist(), fraction) == ([by_hand], 0)


def test_verification_counts_the_read_outs_spikes(tmp_path):
    examples = events(FRAMES, 6, 2, 8, 8)
    network = prepared(ending_in(neuron.IFNode(v_threshold=0.3)), examples)
    pack(network, examples, tmp_path / "packed")
    packed = read(tmp_path / "packed")
    data = samples(examples.transpose(0, 1))
    verification = verify(packed, network, examples, data, 4)
    assert verification.equal
    assert [(run.name, run.spikes) for run in verification.layers][-1] == ("_6", [30] * FRAMES)
    assert packed.widths["_6"].accumulator is None
    assert verification.layers[-1].membrane_bits <= packed.widths["_6"].membrane
    # Where the file's threshold is another, its spikes are.
    (position,) = (index for index, operation in enumerate(packed.program.operations) if operation.name == "_6")
    operations = list(packed.program.operations)
    operations[position] = operations[position].model_copy(update={"threshold": 2 * operations[position].threshold})
    changed = packed.program.model_copy(update={"operations": tuple(operations)})
    verification = verify(type(packed)(changed, packed.numbers, packed.widths, None), network, examples, data, 4)
    assert [run.name for run in verification.layers if not run.equal] == ["_6"]
    assert not verification.outputs_equal


class StaticImage(nn.Module):
    """As SpikingJelly's tutorials have it: an image, shown at every step."""

    def __init__(self, show, encoder=None):
        super().__init__()
        self.show, self.encoder = show, encoder or nn.Identity()
        self.spiking = ending_in(neuron.IFNode(v_threshold=0.3))

    def forward(self, x):
        return self.spiking(self.show(self.encoder(x))).mean(0)


@pytest.mark.parametrize(
    "show",
    [
        lambda x: x.unsqueeze(0).repeat(FRAMES, 1, 1, 1, 1),
        lambda x: torch.unsqueeze(x, dim=0).expand((FRAMES, -1, -1, -1, -1)),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_a_static_image_shown_at_every_step_is_replayed_exactly(show, encoded, tmp_path):
    torch.manual_seed(2)
    images = torch.rand(6, 2, 8, 8)
    network = StaticImage(show, nn.Conv2d(2, 2, 1) if encoded else None)
    plan = {"spiking.0": framed(1, frames=FRAMES), "spiking.5": framed(4, frames=FRAMES)}
    if encoded:
        plan["encoder"] = LayerPlan(weight_bits=4, spike_bits=(3, 4), time_steps=2)
    network = calibrate(convert(network, plan), images)
    lowered = check_equal(network, images)
    assert (lowered.program.input.axes, lowered.program.input.frames) == (("N", 2, 8, 8), FRAMES)
    pack(network, images, tmp_path / "packed")
    packed = read(tmp_path / "packed")
    by_hand, _ = run_by_hand(tmp_path / "packed", images[0].flatten().tolist())
    assert packed.replay()(images[:1]).tolist() == [by_hand]
    assert verify(packed, network, images, samples(images), 4).equal


def test_a_single_step_fires_once():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(6, 8), neuron.IFNode(), nn.Linear(8, 5), neuron.IFNode(v_threshold=0.1))
    plan = {name: LayerPlan(weight_bits=4, spike_bits=(3, 2), time_steps=2) for name in ("0", "2")}
    x = torch.rand(20, 6)
    network = convert(network, plan)
    network.train()
    network(x)
    reset_states(network)
    lowered = check_equal(network.eval(), x)
    assert Replay(lowered.program, lowered.numbers)(x).unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("make_neuron", "message"),
    [
        (lambda: neuron.ILIFNode(step_mode="m"), "6 (ILIFNode) cannot be deployed: no quantized layer reads it"),
        (lambda: neuron.KLIFNode(step_mode="m"), "6 (KLIFNode) cannot be deployed: no quantized layer reads it"),
        (lambda: neuron.IFNode(v_threshold=0.2, v_reset=0.3), "6 (IFNode) fires -0.1 above its reset"),
        (lambda: neuron.SimpleIFNode(v_reset=-0.2), "6 (SimpleIFNode) starts at 0 and resets to -0.2"),
        (lambda: neuron.IFNode(v_threshold=1e30), "6 (IFNode) fires 1e+30 above its reset"),
        (lambda: neuron.IFNode(), "6 (IFNode) sees all 5 frames as one step; give it step_mode='m'"),
    ],
)
def test_what_fire_does_not_stand_for_is_refused_by_name(make_neuron, message):
    examples = events(FRAMES, 6, 2, 8, 8)
    network = ending_in(make_neuron())
    if "step_mode='m'" in message:
        network[6].step_mode = "s"
    network = prepared(network, examples)
    with pytest.raises(InputError) as refused:
        lower(network, examples)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
