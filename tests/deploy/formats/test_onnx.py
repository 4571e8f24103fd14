import json
import sys

import numpy as np
import onnx
import pytest
import torch
from boundaries import MARGIN, boundary_distance
from calibration import calibrate
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import rounding
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.data import Splits
from bitsearch.deploy.formats.onnx import check_onnx, export_onnx
from bitsearch.errors import InputError
from bitsearch.layers import convert, quantized_layers
from bitsearch.plan import LayerPlan, NeuronSettings
from bitsearch.train.predict import predict

LOGITS = 2 * rounding(128)
"""Of the largest logit: equal spikes are added up, by 64 weights at most, whose terms come to twice as much at most."""
WIDTHS = {
    "conv1": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True),
    "conv2": LayerPlan(weight_bits=1, spike_bits=(1, 8), time_steps=2, decay=0.7),
    "conv3": LayerPlan(weight_bits=4, spike_bits=(4, 2, 3), time_steps=3, granularity="channel"),
    "conv4": LayerPlan(weight_bits=5, spike_bits=(5,), time_steps=1),
    "classifier": LayerPlan(weight_bits=2, spike_bits=(6, 7), time_steps=2),
}


def samples(inputs):
    """All of them, event data included, labelled 0."""
    part = TensorDataset(inputs, torch.zeros(len(inputs), dtype=torch.long))
    frames = inputs.shape[1] if inputs.dim() == 5 else None
    return Splits(part, part, part, input_shape=tuple(inputs.shape[1:]), classes=10, frames=frames).test


@pytest.fixture(scope="module")
def every_width(quantized, examples, make_plan, tmp_path_factory):
    """(network, ONNX file) of digits_cnn with every width of 1 to 8 bits somewhere."""
    network, _ = quantized(plan=WIDTHS)
    file = tmp_path_factory.mktemp("onnx") / "network.onnx"
    export_onnx(network, examples, file, make_plan(WIDTHS))
    return network, file


def test_a_file_predicts_what_its_network_does_in_batches_of_any_size(every_width):
    network, file = every_width
    inputs = 2 * torch.randn(80, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    inputs = inputs[boundary_distance(network, inputs) > MARGIN]
    assert len(inputs) > 2 * 17
    agreement = check_onnx(file, network, samples(inputs), batch_size=17)
    assert (agreement.samples, agreement.agreeing) == (len(inputs), len(inputs))
    assert agreement.difference < LOGITS


def test_weights_are_the_quantized_ones_in_the_narrowest_type_of_onnx(every_width):
    network, file = every_width
    model = onnx.load(file)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    names = set()
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in initializers:
            continue
        levels, scale = initializers[node.input[0]], onnx.numpy_helper.to_array(initializers[node.input[1]])
        name = node.input[0].split(".")[1]
        small = WIDTHS[name].weight_bits <= 4
        assert levels.data_type == (onnx.TensorProto.INT4 if small else onnx.TensorProto.INT8)
        codes = onnx.numpy_helper.to_array(levels).astype(np.float32)
        values = codes * (scale.reshape(-1, 1, 1, 1) if scale.ndim else scale)
        assert np.array_equal(values, quantized_layers(network)[name].quantized_weight().detach().numpy())
        names.add(name)
    assert names == set(WIDTHS)


def test_a_convolution_runs_once_whatever_its_time_steps(every_width):
    kinds = [node.op_type for node in onnx.load(every_width[1]).graph.node]
    assert kinds.count("Conv") == 4
    # One quantizer a time step.
    assert kinds.count("QuantizeLinear") == 1 + 2 + 3 + 1 + 2


def test_a_file_says_its_plan_and_nothing_of_the_machine_it_was_made_on(every_width):
    model = onnx.load(every_width[1])
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["bitsearch.plan"])["layers"]["conv3"]["spike_bits"] == [4, 2, 3]
    assert json.loads(properties["bitsearch.layers.conv2"])["weight_bits"] == 1
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert str(sys.prefix).encode() not in every_width[1].read_bytes()


def test_a_file_of_another_network_does_not_pass_the_check(every_width, quantized):
    foreign, _ = quantized(weight_bits=4, spike_bits=2, time_steps=1)
    with torch.no_grad():
        foreign.classifier.bias.neg_()
        foreign.conv1.weight.neg_()
    inputs = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(8))
    agreement = check_onnx(every_width[1], foreign, samples(inputs))
    assert agreement.agreeing < 40
    assert agreement.difference > LOGITS


class Spiking(nn.Module):
    """Neurons whose spikes are pooled, and added up."""

    def __init__(self, pool):
        super().__init__()
        self.conv1, self.conv2 = layer.Conv2d(2, 4, 3, padding=1), layer.Conv2d(2, 4, 1)
        self.left, self.right, self.pool = neuron.IFNode(), neuron.LIFNode(decay_input=False), pool
        self.conv3, self.flatten, self.classifier = layer.Conv2d(4, 4, 2), layer.Flatten(), layer.Linear(16, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        spikes = self.pool(self.left(self.conv1(x))) + self.pool(self.right(self.conv2(x)))
        return self.classifier(self.flatten(self.conv3(spikes)))


@pytest.mark.parametrize("pool", [layer.MaxPool2d(2), layer.AvgPool2d(2)], ids=["max", "average"])
@pytest.mark.parametrize("spike_bits", [(2, 1, 3), (1,) * 5], ids=len)
def test_spikes_are_pooled_and_added_up(spike_bits, pool, make_plan, tmp_path):
    bits = {"weight_bits": 3, "spike_bits": spike_bits, "time_steps": len(spike_bits), "frames": 5, "decay": 0.5}
    placed = {"neurons": ("left", "right"), "pooled": True, "in_place": True}
    layers = {name: LayerPlan(**bits, neurons=()) for name in ("conv1", "conv2", "classifier")}
    layers["conv3"] = LayerPlan(**bits, **placed)
    torch.manual_seed(0)
    network = convert(Spiking(pool), layers)
    recordings = torch.rand(20, 5, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        predict(network, recordings.transpose(0, 1))
    export_onnx(network, recordings[:6].transpose(0, 1), tmp_path / "events.onnx", make_plan(layers))
    recordings = recordings[boundary_distance(network.eval(), recordings.transpose(0, 1)) > MARGIN]
    assert len(recordings) >= 15
    agreement = check_onnx(tmp_path / "events.onnx", network, samples(recordings), batch_size=7)
    assert (agreement.samples, agreement.agreeing) == (len(recordings), len(recordings))
    assert agreement.difference < LOGITS


class Shortcut(nn.Module):
    """A convolution around which its input goes; its forward pass takes frames."""

    def __init__(self):
        super().__init__()
        self.conv1 = layer.Conv2d(2, 4, 3, padding=1)
        self.conv2 = layer.Conv2d(4, 4, 3, padding=1)
        self.pool = layer.AdaptiveAvgPool2d(1)
        self.flatten = layer.Flatten()
        self.classifier = layer.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        return self.classifier(self.flatten(self.pool(x + self.conv2(x))))


@pytest.mark.parametrize("first", [(1,) * 5, (4,)], ids=len)
def test_frames_of_events_are_pooled_held_and_averaged(first, make_plan, tmp_path):
    layers = {
        "conv1": LayerPlan(weight_bits=3, spike_bits=first, time_steps=len(first), frames=5, signed_input=True),
        "conv2": LayerPlan(weight_bits=3, spike_bits=(2, 1, 3), time_steps=3, frames=5, decay=0.5),
        "classifier": LayerPlan(weight_bits=6, spike_bits=(4,), time_steps=1, frames=5),
    }
    torch.manual_seed(0)
    network = Shortcut()
    functional.set_step_mode(network, "m")
    network = convert(network, layers)
    recordings = torch.randn(20, 5, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        predict(network, recordings.transpose(0, 1))
    export_onnx(network, recordings[:6].transpose(0, 1), tmp_path / "events.onnx", make_plan(layers))
    recordings = recordings[boundary_distance(network.eval(), recordings.transpose(0, 1)) > MARGIN]
    assert len(recordings) >= 15
    agreement = check_onnx(tmp_path / "events.onnx", network, samples(recordings), batch_size=7)
    assert (agreement.samples, agreement.agreeing) == (len(recordings), len(recordings))
    assert agreement.difference < LOGITS


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_transposed_convolutions_are_exported(groups, granularity, make_plan, tmp_path):
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=groups)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), up, nn.Flatten(), nn.Linear(6 * 64, 10))
    layers = {
        "0": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True),
        "2": LayerPlan(weight_bits=3, spike_bits=(2, 3), time_steps=2, granularity=granularity),
        "4": LayerPlan(weight_bits=5, spike_bits=(6,), time_steps=1, signed_input=True),
    }
    network = convert(network, layers).eval()
    inputs = torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network(inputs)
    export_onnx(network, inputs[:6], tmp_path / "up.onnx", make_plan(layers))
    inputs = inputs[boundary_distance(network, inputs) > MARGIN]
    assert len(inputs) >= 15
    agreement = check_onnx(tmp_path / "up.onnx", network, samples(inputs), batch_size=7)
    assert (agreement.samples, agreement.agreeing) == (len(inputs), len(inputs))
    assert agreement.difference < 2 * rounding(6 * 64)


class Repeating(nn.Module):
    """Makes its own time axis of a static input, as long as the input has features."""

    def __init__(self):
        super().__init__()
        self.first, self.dropout = layer.Linear(4, 16), layer.Dropout(0.5)
        self.second = layer.Linear(16, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = torch.relu(self.first(x.unsqueeze(0).repeat(4, 1, 1)))
        return self.second(self.dropout(x)).mean(0)


class Readers(nn.Module):
    """A tensor that three layers read, and whose limits differ."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(16, 3)
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.second(x) + self.third(x) - self.last(x)


class Residual(nn.Module):
    """A block with a convolutional shortcut."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4)
        self.second, self.third = nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.Conv2d(6, 6, 3, padding=1)
        self.shortcut, self.classifier = nn.Conv2d(4, 6, 1, stride=2), nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x.view(-1, 1, 4, 4))))
        x = torch.relu(self.third(torch.relu(self.second(x))) + self.shortcut(x))
        return self.classifier(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def layer_plan(*spike_bits, **setting):
    return LayerPlan(weight_bits=4, spike_bits=spike_bits, time_steps=len(spike_bits), **setting)


REPEATING = {"first": layer_plan(4, 3, 4, 4, frames=4, signed_input=True), "second": layer_plan(2, 3, frames=4)}
READERS = {
    "first": layer_plan(6, signed_input=True),
    "second": layer_plan(1),
    "third": layer_plan(8, 2),
    "last": layer_plan(3),
}
RESIDUAL = {
    "first": layer_plan(8, signed_input=True),
    "second": layer_plan(2, 3, 1),
    "third": layer_plan(4),
    "shortcut": layer_plan(3, 3, decay=0.5),
    "classifier": layer_plan(5),
}


@pytest.mark.parametrize(("make", "plan"), [(Repeating, REPEATING), (Readers, READERS), (Residual, RESIDUAL)])
def test_any_number_of_samples_gets_the_logits_of_the_network(make, plan, make_plan, tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(40, 16 if make is Residual else 4, generator=torch.Generator().manual_seed(2))
    network = calibrate(convert(make(), plan), inputs)
    # As many samples as frames and features.
    export_onnx(network, inputs[:4], tmp_path / "network.onnx", make_plan(plan))
    inputs = inputs[boundary_distance(network, inputs) > MARGIN]
    assert len(inputs) > 30
    for batch_size in (7, len(inputs)):
        agreement = check_onnx(tmp_path / "network.onnx", network, samples(inputs), batch_size)
        assert (agreement.samples, agreement.agreeing) == (len(inputs), len(inputs))
        assert agreement.difference < LOGITS


@pytest.mark.parametrize(
    ("reset", "threshold", "strict"), [("subtract", "full", False), ("zero", "full", True), ("zero", "half", False)]
)
def test_a_networks_own_neurons_are_exported(reset, threshold, strict, make_plan, tmp_path):
    settings = NeuronSettings(reset=reset, threshold=threshold, strict=strict, largest=2)
    torch.manual_seed(0)
    plan = {
        "first": layer_plan(8, signed_input=True),
        "second": layer_plan(2, 3, 1, neuron=settings),
        "third": layer_plan(4, neuron=settings),
        "shortcut": layer_plan(3, 3, decay=0.5, neuron=settings),
        "classifier": layer_plan(5),
    }
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    network = calibrate(convert(Residual(), plan), x)
    export_onnx(network, x[:4], tmp_path / "network.onnx", make_plan(plan))
    x = x[boundary_distance(network, x) > MARGIN]
    assert len(x) > 32
    agreement = check_onnx(tmp_path / "network.onnx", network, samples(x))
    assert (agreement.samples, agreement.agreeing) == (len(x), len(x))
    assert agreement.difference < LOGITS


def test_what_checker_and_runtime_say_is_one_line(every_width, make_plan, examples, tmp_path, monkeypatch):
    network, file = every_width
    with pytest.raises(InputError, match=r"ONNX Runtime cannot run .* on a batch: ") as caught:
        check_onnx(file, network, samples(torch.randn(4, 1, 8, 9)))
    assert "\n" not in str(caught.value)

    def refuse(*_, **__):
        raise onnx.checker.ValidationError("no such operator\nin a node")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(InputError, match=r"cannot be exported to ONNX: its checker says no such operator$"):
        export_onnx(network, examples, tmp_path / "no.onnx", make_plan(WIDTHS))
    assert list(tmp_path.iterdir()) == []


class Undecided(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else -self.linear(x)


def test_a_network_that_cannot_be_traced_is_refused_in_one_line(make_plan, tmp_path):
    layers = {"linear": LayerPlan(weight_bits=3, spike_bits=(2,), time_steps=1)}
    network = convert(Undecided(), layers)
    with torch.no_grad():
        network(torch.rand(6, 4))
    with pytest.raises(InputError, match="cannot be exported to ONNX") as caught:
        export_onnx(network, torch.rand(6, 4), tmp_path / "no.onnx", make_plan(layers))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_neuron_that_reads_the_network_out_is_refused_by_name(make_plan, tmp_path):
    layers = {"0": LayerPlan(weight_bits=3, spike_bits=(2,), time_steps=1)}
    network = convert(nn.Sequential(nn.Linear(4, 2), neuron.IFNode()), layers)
    with torch.no_grad():
        network(torch.rand(6, 4))
    with pytest.raises(InputError, match="layer '1' cannot be exported to ONNX: it is IFNode") as caught:
        export_onnx(network, torch.rand(6, 4), tmp_path / "no.onnx", make_plan(layers))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_untrained_networks_are_refused(make_plan, tmp_path):
    fresh = convert(nn.Sequential(nn.Linear(4, 2)), {"0": WIDTHS["conv4"]})
    with pytest.raises(InputError, match="layer '0' is not trained"):
        export_onnx(fresh, torch.rand(6, 4), tmp_path / "no.onnx", make_plan(WIDTHS))
