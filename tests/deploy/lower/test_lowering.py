"""Every operation of the closed set, and what is outside of it."""

import pytest
import torch
from calibration import calibrate
from float_network import check_near
from packed_reader import run as run_by_hand
from torch import nn
from torch.nn import functional

from bitsearch import pack, read
from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.integer.operations import Relu
from bitsearch.deploy.lower import rules
from bitsearch.deploy.lower.float64_reference import Float64Reference
from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.layers import convert
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan


class Net(nn.Module):
    """Two convolutions with something between and behind them, on ``[N, 3, 8, 8]``."""

    def __init__(self, between, second=None, behind=None):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = second or nn.Conv2d(4, 4, 3)
        self.between, self.behind = between, behind or (lambda y, x: y)
        if isinstance(between, nn.Module):
            self.inner = between

    def forward(self, x):
        x = self.first(x)
        return self.behind(self.second(self.between(x)), x)


def prepared(network, shape=(3, 8, 8), **bits):
    torch.manual_seed(1)
    examples = torch.randn(4, *shape)
    names = [name for name, module in network.named_modules() if type(module) in QUANTIZABLE]
    setting = {"weight_bits": 4, "spike_bits": (3, 2, 4), "time_steps": 3, "decay": 0.7} | bits
    plan = {name: LayerPlan(signed_input=index < 2, **setting) for index, name in enumerate(names)}
    return calibrate(convert(network, plan), examples), examples


def check_equal(network, examples):
    """Replay and network agree on every spike and output; returns the lowered network."""
    lowered = lower(network, examples)
    replay = Replay(lowered.program, lowered.numbers)
    replayed, reference = {}, {}
    outputs = replay(
        examples, lambda name, quantity, t, integers: replayed.update({(name, quantity, t): integers.long()})
    )
    exact = Float64Reference(lowered)(
        examples, lambda name, quantity, t, integers: reference.update({(name, quantity, t): integers})
    )
    spikes = {key: integers for key, integers in replayed.items() if key[1] == "spikes"}
    assert spikes.keys() == reference.keys()
    for key, integers in spikes.items():
        assert torch.equal(integers, reference[key]), key
    varied = [integers.unique().numel() > 1 for integers in spikes.values()]
    assert sum(varied) > len(varied) / 2, "most spikes are constant: nothing was compared"
    assert torch.equal(torch.ldexp(outputs.double(), torch.tensor(-replay.analysis.values[-1].fraction)), exact)
    check_near(network, lowered, examples)
    return lowered


@pytest.mark.parametrize(
    "between",
    [
        nn.ReLU(),
        nn.ReLU(inplace=False),
        functional.relu,
        torch.relu,
        lambda x: x.relu(),
        InputCurrent(0.5),
        InputCurrent(1 / 3),
        InputCurrent(3.0, rectified=False),
        InputCurrent(0.999999),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 1, padding=1, dilation=1),
        nn.MaxPool2d(2, 1, dilation=2),
        lambda x: functional.max_pool2d(x, 2, stride=1),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AvgPool2d((2, 3), stride=1),
        lambda x: functional.avg_pool2d(x, 3, stride=1),
        nn.AdaptiveAvgPool2d(4),
        nn.Identity(),
        nn.Dropout(0.5),
        lambda x: functional.dropout(x, training=False),
        lambda x: x + x.relu(),
        lambda x: torch.add(x, x),
        lambda x: functional.max_pool2d(x, 3, 1, 1) + functional.avg_pool2d(x, 3, 1, 1),
    ],
)
def test_what_lies_between_layers_is_replayed_exactly(between):
    check_equal(*prepared(Net(between)))


@pytest.mark.parametrize(
    "second",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=2),
        nn.Conv2d(4, 6, 3, dilation=2),
        nn.Conv2d(4, 6, (3, 2), dilation=(1, 3), padding=(0, 2)),
        nn.Conv2d(4, 8, 3, groups=4, bias=False),
        nn.Conv2d(4, 8, 3, groups=2, dilation=2, padding="same"),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 6, (2, 3), dilation=(3, 1), padding=(0, 2), groups=2, bias=False),
        nn.ConvTranspose2d(4, 3, 1, stride=3, padding=4, output_padding=2),
        nn.Sequential(nn.ConvTranspose2d(4, 4, 2, stride=2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)),
        nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 6, 4, stride=3, padding=2, groups=2), nn.Conv1d(6, 2, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5)),
        nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 5, stride=2, padding=1), nn.MaxPool1d(2), nn.Conv1d(3, 2, 3)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 8), nn.AvgPool1d(2), nn.Linear(4, 3)),
    ],
)
@pytest.mark.parametrize(
    "bits", [{}, {"weight_bits": 1, "spike_bits": (1,), "time_steps": 1}, {"granularity": "channel"}]
)
def test_layers_of_every_shape_are_replayed_exactly(second, bits):
    check_equal(*prepared(Net(nn.Identity(), second), **bits))


@pytest.mark.parametrize(
    "behind",
    [
        lambda y, x: torch.cat([functional.relu(y), y, y], dim=1),
        lambda y, x: y.view(y.size(0), -1),
        lambda y, x: y.reshape(y.shape[0], 2, -1),
        lambda y, x: torch.flatten(y, 1),
        lambda y, x: functional.adaptive_avg_pool2d(x, 1) + functional.adaptive_avg_pool2d(y, 1),
    ],
)
def test_joins_and_shapes_are_replayed_exactly(behind):
    check_equal(*prepared(Net(nn.ReLU(), behind=behind)))


@pytest.mark.parametrize(
    "network",
    [
        Net(nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(4, 8, (3, 2), groups=2, padding=1, dilation=(1, 2))),
        Net(lambda x: functional.max_pool2d(x, 3, 1, 1) + functional.avg_pool2d(x, (3, 5), 1, (1, 2))),
        Net(nn.ReLU(), behind=lambda y, x: torch.cat([functional.relu(y), functional.adaptive_avg_pool2d(y, 6)], 1)),
        Net(nn.Identity(), nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 5, stride=2, padding=1), nn.MaxPool1d(2))),
    ],
)
def test_a_reader_written_from_the_description_gets_the_same_numbers(network, tmp_path):
    network, examples = prepared(network)
    pack(network, examples, tmp_path / "packed")
    replay = read(tmp_path / "packed").replay()
    outputs, fraction = run_by_hand(tmp_path / "packed", examples[0].flatten().tolist())
    assert replay(examples[:1]).flatten().tolist() == outputs
    assert fraction == replay.analysis.values[-1].fraction


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(0.5, (1, 0, 1)), (4.0, (1, 0, -2)), (1.5, (3, 2, -1)), (1 / 3, (43691, 16, 1)), (0.9999999, (1, 0, 0))],
)
def test_gains_are_a_multiplier_and_a_shift(gain, expected):
    lowered = check_equal(*prepared(Net(InputCurrent(gain, rectified=False))))
    (scale,) = (operation for operation in lowered.program.operations if operation.op == "scale")
    assert (scale.multiplier, scale.shift, scale.finer) == expected
    assert scale.multiplier * 2.0 ** -(scale.shift + scale.finer) == pytest.approx(gain, rel=2**-16)


def test_gains_beyond_32_bits_are_refused():
    network, examples = prepared(Net(InputCurrent(1.0, rectified=False)))
    network.between = network.inner = InputCurrent(1e-12, rectified=False)
    with pytest.raises(InputError, match="multiplies its input by 1e-12; deployed gains are"):
        lower(network, examples)


def test_a_layer_that_runs_twice_is_stored_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(torch.relu(self.conv(x)))

    lowered = check_equal(*prepared(Twice()))
    assert list(lowered.program.layers) == ["conv"]
    assert [operation.name for _, operation in lowered.program.runs()] == ["conv", "conv_1"]


class SharedByNorms(nn.Module):
    """One convolution in front of two batch norms, the second of which is ``factor`` times the first."""

    def __init__(self, factor):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second, self.factor = nn.BatchNorm2d(3), nn.BatchNorm2d(3), factor

    def forward(self, x):
        return self.second(self.conv(torch.relu(self.first(self.conv(x)))))

    def scale(self):
        first, second = self.first.state_dict(), self.second
        second.load_state_dict(first)
        with torch.no_grad():
            second.weight *= self.factor
            second.bias *= self.factor


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.25, -1.0])
def test_a_shared_layer_has_one_batch_norm_however_the_second_is_scaled(factor):
    network, examples = prepared(SharedByNorms(factor))
    network.scale()
    if factor == 1:
        check_equal(network, examples)
        return
    with pytest.raises(InputError, match="layer 'conv' runs several times with different batch norms"):
        lower(network, examples)


class Averaged(nn.Module):
    """Convolutions and a mean over all pixels in front of the classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    def forward(self, x):
        x = self.conv(x)
        return self.fc(functional.adaptive_avg_pool2d(self.second(x) + x, 1).flatten(1))


@pytest.mark.parametrize(
    ("size", "setting"),
    [
        (34, {"spike_bits": (3,), "time_steps": 1, "decay": 0.5}),
        (34, {"decay": 0.5}),
        (66, {"decay": 0.9}),
        (130, {"decay": 1.0}),
    ],
)
def test_means_over_many_pixels_are_replayed_exactly(size, setting):
    lowered = check_equal(*prepared(Averaged(), (3, size, size), **setting))
    widths = lowered.analysis.operations[-1].widths
    assert widths.membrane < 2**50
    if setting["decay"] == 0.5 and len(lowered.program.layers["fc"].spike_bits) == 1:
        # No residual is multiplied: nothing was made coarser.
        assert lowered.program.input.largest == 2**26 - 1


def test_a_mean_that_no_integer_holds_is_refused_with_the_way_out():
    class Enlarged(Averaged):
        def forward(self, x):
            x = self.conv(x)
            x = functional.avg_pool2d(functional.avg_pool2d(x, 63, 1, 31), 63, 1, 31)
            return self.fc(functional.adaptive_avg_pool2d(self.second(x) + x, 1).flatten(1))

    network, examples = prepared(Enlarged(), (3, 66, 66))
    with pytest.raises(
        InputError, match=r"integers of \d+ bits; at most 51, even with currents of 16 .*; average over"
    ):
        lower(network, examples)


def test_residual_networks_are_replayed_exactly():
    torch.manual_seed(0)
    network = make_network("resnet20", {"width": 2}, input_shape=(3, 8, 8), classes=10)
    check_equal(*prepared(network, decay=1.0))


def test_a_line_of_the_table_is_all_that_lowers_a_module(monkeypatch):
    network, examples = prepared(Net(nn.Threshold(0.0, 0.0)))
    with pytest.raises(InputError, match=r"deployed networks hold .*, ReLU, max pooling, .*, concatenation, dropout"):
        lower(network, examples)
    monkeypatch.setitem(rules._BY_TARGET, nn.Threshold, rules.Rule(Relu, "", (nn.Threshold,)))
    lowered = check_equal(network, examples)
    assert [operation.op for operation in lowered.program.operations] == ["layer", "relu", "layer"]


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


class Parameterized(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 4, 1), nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.conv(x) * self.scale


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Net(nn.Sigmoid()), "between (Sigmoid)|inner (Sigmoid)"),
        (Net(lambda x: x * 2), "mul"),
        (Net(lambda x: x + 1), "add adds something else"),
        (Net(lambda x: torch.add(x, x, alpha=2)), "add adds something else"),
        (Net(lambda x: x.mean((2, 3), keepdim=True).expand_as(x)), "mean"),
        (Net(lambda x: functional.dropout(x)), "dropout"),
        (Net(nn.MaxPool2d(3, ceil_mode=True)), "ceil_mode"),
        (Net(nn.AvgPool2d(3, padding=1, count_include_pad=False)), "count_include_pad"),
        (Net(nn.AdaptiveAvgPool2d(3)), "all of one size"),
        (Net(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))), "(BatchNorm2d)"),
        (Net(nn.BatchNorm2d(4, track_running_stats=False)), "running statistics"),
        (Net(nn.ReLU(inplace=True), behind=lambda y, x: y.flatten(1)), ""),
        (Net(nn.Identity(), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")), "pads with 'circular'"),
        (Net(nn.Identity(), nn.Conv2d(4, 4, 2, padding="same")), "one side more"),
        (Net(lambda x: x, behind=lambda y, x: (y, x)), "returns something else"),
        (Net(lambda x: x, behind=lambda y, x: torch.cat([x, x], 2)), "axis 2"),
        (Branching(), "cannot be traced"),
        (Parameterized(), "scale"),
    ],
)
def test_what_is_outside_of_the_closed_set_is_refused_by_name(network, message):
    network, examples = prepared(network)
    if not message:
        check_equal(network, examples)
        return
    with pytest.raises(InputError) as refused:
        lower(network, examples)
    assert any(part in str(refused.value) for part in message.split("|")), str(refused.value)


def test_a_tensor_changed_in_place_that_others_read_is_refused():
    network, examples = prepared(Net(nn.Identity(), behind=lambda y, x: functional.relu(x, inplace=True) + x))
    with pytest.raises(InputError, match="in place"):
        lower(network, examples)


class Overwriting(nn.Module):
    """A ReLU on a view, which writes over what another layer reads."""

    def __init__(self, view):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.view = view

    def forward(self, x):
        x = self.first(x)
        y = functional.relu(self.view(x), inplace=True)
        return self.second(x).flatten(1) + y


@pytest.mark.parametrize(
    "view", [nn.Flatten(), lambda x: x.flatten(2).flatten(1), nn.Sequential(nn.Flatten(), nn.Dropout())]
)
def test_a_view_changed_in_place_whose_base_others_read_is_refused(view):
    network, examples = prepared(Overwriting(view))
    with pytest.raises(InputError, match="changes a tensor in place that others read"):
        lower(network, examples)


@pytest.mark.filterwarnings("ignore:nothing above zero has come to layer third")
@pytest.mark.parametrize("tied", [False, True])
def test_layers_that_never_run_are_refused(tied):
    network = Net(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    network.third = nn.Conv2d(4, 4, 3)
    if tied:
        # The weight has its step from the layer that runs.
        network.third.weight = network.second.weight
    network, examples = prepared(network)
    with pytest.raises(InputError, match="'third' never runs" if tied else "'third' is not trained"):
        lower(network, examples)


def test_numbers_that_are_not_finite_are_refused():
    network, examples = prepared(Net(nn.BatchNorm2d(4)))
    network.between.running_mean[1] = float("nan")
    with pytest.raises(InputError, match="'first' has weights, steps or batch norm statistics that are not finite"):
        lower(network, examples)
