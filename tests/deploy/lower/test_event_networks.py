"""Networks with a time axis: frame by frame in the deployed arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from calibration import calibrate
from float_network import check_near
from framed_networks import FRAMES, check_equal, events, framed, prepared
from hypothesis import given
from hypothesis import strategies as st
from packed_reader import run as run_by_hand
from profiles import examples
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from bitsearch import pack, read, verify
from bitsearch.cost import CostModel, trace
from bitsearch.data import load_data
from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.integer.operations import AveragePool, RunLayer, SumFrames
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.deploy.integer.program import NetworkInput, Program
from bitsearch.deploy.lower.float64_reference import Float64Reference
from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan
from bitsearch.train.evaluate import evaluate

STEPS = {"conv1": 8, "conv2": 3, "conv3": 5, "conv4": 4, "classifier": 1}
"""Of digits_events_cnn: every frame, overlapping bins, equal bins, a single bin."""


@pytest.fixture(scope="module")
def splits():
    return load_data("digits_events", {"frames": FRAMES}, split_seed=0)


@pytest.fixture(scope="module")
def digits(splits):
    """(network in STEPS, what the cost model says of its memory, a batch of examples)."""
    torch.manual_seed(0)
    network = make_network("digits_events_cnn", {"width": 4}, input_shape=splits.input_shape, classes=10)
    examples = torch.stack([splits.train[index][0] for index in range(16)], 1)
    plan = {name: framed(steps, granularity="channel" if steps == 3 else "layer") for name, steps in STEPS.items()}
    memory = CostModel(trace(network, examples)).cost("weight_memory", plan)
    return calibrate(convert(network, plan), examples), memory, examples


def test_every_spike_of_the_whole_test_split_is_the_networks(digits, splits, tmp_path):
    network, memory, examples = digits
    assert pack(network, examples, tmp_path / "packed") == memory
    packed = read(tmp_path / "packed")
    assert packed.program.input.frames == FRAMES
    verification = verify(packed, network, examples, splits.split("test"), 64)
    assert verification.equal
    assert [len(layer.spikes) for layer in verification.layers] == list(STEPS.values())
    # Layers see 2×12×12, 4×12×12, 8×6×6, 8×6×6 and 16 currents a frame.
    inputs, labels = splits.test[:]
    count = len(labels)
    assert [layer.spikes[0] for layer in verification.layers] == [count * size for size in (288, 576, 288, 288, 16)]
    recordings = inputs.transpose(0, 1)
    assert verification.score == int((packed.replay()(recordings).argmax(-1) == labels).sum()) / count
    assert verification.float_score == evaluate(network, splits.split("test"), 64)
    check_near(network, lower(network, examples), recordings[:, :64])


def test_a_reader_written_from_the_description_gets_the_same_numbers(digits, tmp_path):
    network, _, examples = digits
    pack(network, examples, tmp_path / "packed")
    replay = read(tmp_path / "packed").replay()
    outputs, fraction = run_by_hand(tmp_path / "packed", examples[:, 0].flatten().tolist())
    assert replay(examples[:, :1]).tolist() == [outputs]
    assert fraction == replay.analysis.values[-1].fraction


def one_layer(frames, time_steps, *, step_fraction=0, input_fraction=0, steps=None, decay=1 << 16, bits=8):
    """A linear layer of one weight and unit scale behind which the frames are added up, and its numbers."""
    packed = PackedLayer(
        weight_shape=(1, 1),
        weight_bits=2,
        spike_bits=(bits,) * time_steps,
        signed=False,
        decay=decay,
        step_fraction=step_fraction,
        shift=0,
        fraction=0,
        frames=frames,
    )
    program = Program(
        input=NetworkInput(shape=(1,), fraction=input_fraction, largest=(1 << 26) - 1, frames=frames),
        layers={"a": packed},
        operations=(RunLayer(name="run", inputs=(0,), layer="a"), SumFrames(name="readout", inputs=(1,))),
    )
    numbers = LayerNumbers(
        np.ones((1, 1), dtype=np.int8),
        np.ones(1, dtype=np.int32),
        np.zeros(1, dtype=np.int32),
        np.array(steps or [1] * time_steps, dtype=np.int32),
    )
    return program, {"a": numbers}


def watched(program, numbers, x):
    """(membranes, codes by time step, outputs) for frames of one current."""
    membranes, codes = [], []

    def watch(name, quantity, t, integers):
        if quantity in ("membrane", "spikes"):
            (membranes if quantity == "membrane" else codes).append(int(integers))

    outputs = Replay(program, numbers)(torch.tensor(x, dtype=torch.float32).view(-1, 1, 1), watch)
    return membranes, codes, int(outputs)


def test_frames_are_binned_integrated_and_held_by_hand():
    # Bins of 3 frames and 2 time steps: {0, 1} and {1, 2}. Means 2 and 4½, of one bit finer unit: 4 and 9 halves.
    # Codes at steps of one: 2, then ⌊4½ + ½⌋ = 5. Frame f shows step ⌊2f/3⌋: 0, 0, 1; their sum is 2 + 2 + 5.
    assert watched(*one_layer(3, 2), [1, 3, 6]) == ([4, 9], [2, 5], 9)
    # Every frame on its own, in steps of 4: residuals 3 − 4 = −1 and 4 − 4 = 0. A counts n_t = 1, steps' common part 4.
    assert watched(*one_layer(3, 3, steps=[4] * 3), [3, 5, 6]) == ([3, 4, 6], [1, 1, 2], 4)
    # Without memory nothing is left: 3, 5 and 6.
    assert watched(*one_layer(3, 3, steps=[4] * 3, decay=0), [3, 5, 6]) == ([3, 5, 6], [1, 1, 2], 4)
    # Steps of different size have weights of their own: codes 1, 3 and 1 count 2, 1 and 3.
    assert watched(*one_layer(3, 3, steps=[2, 1, 3]), [2, 3, 3]) == ([2, 3, 3], [1, 3, 1], 8)


@examples(80)
@given(data=st.data(), frames=st.integers(1, 20), fraction=st.integers(0, 6))
def test_means_of_bins_are_those_of_exact_arithmetic(data, frames, fraction):
    time_steps = data.draw(st.integers(1, frames))
    x = data.draw(st.lists(st.integers(0, 300), min_size=frames, max_size=frames))
    program, numbers = one_layer(frames, time_steps, input_fraction=fraction, decay=0)
    membranes, _, _ = watched(program, numbers, x)
    windows = [range(t * frames // time_steps, -(-(t + 1) * frames // time_steps)) for t in range(time_steps)]
    finer = fraction + (max(map(len, windows)) - 1).bit_length()
    means = [Fraction(sum(x[f] for f in window), len(window)) for window in windows]
    assert membranes == [floor(mean * 2**finer + Fraction(1, 2)) for mean in means]


class Residual(nn.Module):
    """Spikingjelly's layers in multi-step mode, containers among them, with an addition and a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = layer.SeqToANNContainer(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.conv = layer.Conv2d(4, 4, 3, padding=1, bias=False, step_mode="m")
        self.norm = layer.BatchNorm2d(4, step_mode="m")
        self.pools = nn.Sequential(
            layer.MaxPool2d(2, step_mode="m"), layer.AvgPool2d(3, 1, padding=1, step_mode="m"), layer.Dropout(0.3)
        )
        self.head = nn.Sequential(layer.Flatten(step_mode="m"), layer.Linear(64, 5, step_mode="m"))

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.pools(torch.relu(self.norm(self.conv(x))) + x))


@pytest.mark.parametrize(
    ("frames", "time_steps"), [(5, 5), (5, 3), (5, 2), (6, 2), (6, 1), (1, 1)], ids=lambda number: str(number)
)
@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_multi_step_layers_are_replayed_exactly(frames, time_steps, decay):
    torch.manual_seed(1)
    examples = events(frames, 4, 2, 8, 8)
    lowered = check_equal(prepared(Residual(), examples, time_steps, decay=decay), examples)
    assert {packed.frames for packed in lowered.program.layers.values()} == {frames}


@pytest.mark.parametrize("time_steps", [100, 70])
def test_there_may_be_any_number_of_frames(time_steps, tmp_path):
    torch.manual_seed(1)
    examples = events(100, 3, 6)
    network = prepared(nn.Sequential(layer.Linear(6, 5, step_mode="m"), nn.ReLU()), examples, time_steps)
    check_equal(network, examples)
    pack(network, examples, tmp_path / "packed")
    assert read(tmp_path / "packed").program.input.frames == 100


class Joined(Residual):
    """Its own operations name the axes of ``[F, N, C, H, W]``."""

    def __init__(self, join, flatten):
        super().__init__()
        self.join, self.flatten = join, flatten
        self.head = layer.Linear(128, 5, step_mode="m")

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.flatten(self.pools(self.join([x, torch.relu(self.norm(self.conv(x)))]))))


@pytest.mark.parametrize(
    ("join", "flatten"),
    [
        (lambda parts: torch.cat(parts, 2), lambda x: x.flatten(2)),
        (lambda parts: torch.cat(parts, 2), layer.Flatten(step_mode="m")),
        (lambda parts: torch.cat(parts, dim=2), lambda x: torch.flatten(x, start_dim=2)),
        (lambda parts: torch.concat(parts, 2), lambda x: torch.flatten(x, 2, 4)),
        (lambda parts: torch.concatenate(parts, dim=-3), nn.Flatten(2)),
        (lambda parts: torch.cat(parts, -3), layer.Flatten(step_mode="m")),
    ],
)
def test_axes_behind_the_time_axis_are_named_as_in_the_networks_own_forward_pass(join, flatten):
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    lowered = check_equal(prepared(Joined(join, flatten), examples), examples)
    assert [operation.op for operation in lowered.program.operations].count("concatenate") == 1


class Doubled(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


def test_axes_inside_of_a_container_are_those_of_a_single_step():
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    network = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), Doubled(), nn.Flatten()),
        layer.Linear(512, 5, step_mode="m"),
    )
    check_equal(prepared(network, examples), examples)


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("vggsnn", {"width": 2}, (4, 2, 16, 16)),
        ("shd_mlp", {"width": 12}, (7, 30)),
    ],
)
def test_shipped_event_networks_are_replayed_exactly(name, options, shape):
    torch.manual_seed(1)
    examples = events(shape[0], 3, *shape[1:])
    check_equal(prepared(make_network(name, options, input_shape=shape, classes=5), examples, 2), examples)


def test_layers_whose_plan_has_no_frames_see_every_frame_as_a_static_input():
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    plan = {
        "stem.0": framed(2, frames=4),
        "conv": LayerPlan(weight_bits=3, spike_bits=(2, 3), time_steps=2),
        "head.1": framed(4, frames=4, signed_input=True),
    }
    check_equal(calibrate(convert(Residual(), plan), examples), examples)


class Changed(Residual):
    """With something behind its head."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (neuron.ILIFNode(step_mode="m"), r"change (ILIFNode) cannot be deployed: no quantized layer reads it, and"),
        (lambda x: x.mean(0, keepdim=True), "mean (mean)"),
        (lambda x: x.mean(0) + x.mean(0), "mean (mean)"),
        (lambda x: x.mean(1), "mean (mean)"),
        (lambda x: x.flip(0), "flip (flip)"),
        (
            lambda x: x.unsqueeze(-1).flatten(2).flatten(0, 1).unflatten(0, (4, 3)),
            "unflatten cannot be run on frames that are part of the batch",
        ),
        (lambda x: torch.cat([x, x], 1), "something else when its frames are part of the batch"),
        (lambda x: x.unsqueeze(-1).permute(0, 1, 3, 2), "permute cannot be run on frames"),
    ],
)
def test_what_does_not_treat_every_frame_alone_is_refused_in_one_line(change, message):
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    network = prepared(Changed(change), examples)
    with pytest.raises(InputError) as refused:
        lower(network, examples)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "read_out", [lambda x: x.mean(0), lambda x: x.sum(dim=0), lambda x: torch.mean(x, 0), lambda x: torch.sum(x, dim=0)]
)
def test_a_mean_or_sum_over_the_frames_at_the_end_is_the_programs_own(read_out):
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    network = prepared(Residual(), examples)
    outputs = Replay(*program_of(network, examples))(examples)
    averaging = prepared(Changed(read_out), examples)
    averaging.load_state_dict(network.state_dict())
    assert torch.equal(Replay(*program_of(averaging, examples))(examples), outputs)
    lowered = lower(averaging, examples)
    exact = Float64Reference(lowered)(examples)
    assert torch.equal(torch.ldexp(outputs.double(), torch.tensor(-lowered.analysis.values[-1].fraction)), exact)


@pytest.mark.parametrize(("voters", "last"), [(10, neuron.LIFNode), (4, nn.Identity), (5, nn.ReLU)])
def test_votes_are_means_over_groups_of_neurons(voters, last):
    torch.manual_seed(0)
    network = nn.Sequential(
        layer.Linear(8, 16), neuron.LIFNode(), layer.Linear(16, 40), last(), layer.VotingLayer(voters)
    )
    functional.set_step_mode(network, "m")
    examples = events(4, 32, 8)
    lowered = check_equal(prepared(network, examples), examples)
    (pool,) = [operation for operation in lowered.program.operations if isinstance(operation, AveragePool)]
    assert (pool.kernel, pool.stride) == ((voters,), (voters,))


def program_of(network, examples):
    lowered = lower(network, examples)
    return lowered.program, lowered.numbers


@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 1.0), (3.0, 0.7), (1.25, 0.3)])
def test_neurons_with_thresholds_and_input_decay_are_replayed_exactly(tau, threshold, tmp_path):
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    network = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.LIFNode(tau=tau, v_threshold=threshold, v_reset=None),
        layer.AdaptiveAvgPool2d(1),
        layer.Flatten(),
        neuron.ParametricLIFNode(init_tau=tau, v_threshold=threshold, v_reset=None),
        layer.Linear(4, 5),
    )
    for module in network:
        module.step_mode = "m"
    network = prepared(network, examples)
    lowered = check_equal(network, examples)
    assert [operation.op for operation in lowered.program.operations].count("scale") == 2
    pack(network, examples, tmp_path / "packed")
    outputs, fraction = run_by_hand(tmp_path / "packed", examples[:, 0].flatten().tolist())
    replay = read(tmp_path / "packed").replay()
    assert replay(examples[:, :1]).tolist() == [outputs]
    assert fraction == replay.analysis.values[-1].fraction


def test_inputs_without_the_plans_frames_are_refused(digits, tmp_path):
    network, _, examples = digits
    with pytest.raises(InputError, match=r"takes \(8, 'N', ...\)"):
        lower(network, examples[:7])
    pack(network, examples, tmp_path / "packed")
    with pytest.raises(InputError, match=r"takes \(8, 'N', 2, 12, 12\)"):
        read(tmp_path / "packed").replay()(examples[:7])


def test_layers_that_disagree_on_the_time_axis_are_refused():
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    network = prepared(Residual(), examples)
    network.conv.frames = 2
    with pytest.raises(InputError, match=r"'conv' has inputs of 2 frames, layer '.*' of 4"):
        lower(network, examples)


def test_a_time_axis_that_the_plan_does_not_know_is_refused():
    torch.manual_seed(1)
    examples = events(4, 3, 2, 8, 8)
    plan = {name: LayerPlan(weight_bits=2, spike_bits=(2,), time_steps=1) for name in ("stem.0", "conv", "head.1")}
    with pytest.raises(InputError, match=r"shape \(4, 3, 2, 8, 8\) for a plan of inputs with a single frame"):
        lower(calibrate(convert(Residual(), plan), examples), examples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": {"frames": None}}, "the input none"),
        ({"layers": {"a": {"frames": 2}}}, "has 2 frames, the input 3"),
        ({"layers": {"a": {"frames": 1}}}, "2 time steps for an input of 1 frames"),
        ({"operations": ()}, "at least 1"),
        ({"drop": 1}, "ends with sum_frames"),
    ],
)
def test_programs_whose_time_axes_do_not_fit_are_refused(changes, message):
    program, _ = one_layer(3, 2)
    content = program.model_dump(mode="json")
    content["input"] |= changes.get("input", {})
    content["layers"]["a"] |= changes.get("layers", {}).get("a", {})
    content["operations"] = content["operations"][: 2 - changes.get("drop", 0)] if "operations" not in changes else []
    with pytest.raises(InputError) as refused:
        Program.from_json(Program.model_construct(**content).model_dump_json(warnings=False), "file")
    assert message in str(refused.value)
