"""QONNX with thresholds: whole neurons in integers, every output that of the packed file, bit for bit."""

import os
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from calibration import calibrate
from hypothesis import assume, given
from profiles import examples
from random_programs import packed_programs, program_inputs
from spikingjelly.activation_based import layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch import pack, read
from bitsearch.data import Splits
from bitsearch.deploy.formats import FORMATS, ConsumerRequest, ExportRequest
from bitsearch.deploy.formats.qonnx.levels import Levels, first_reaching, weighted_levels
from bitsearch.deploy.integer.operations import RunNeuron
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan

pytest.importorskip("qonnx", reason="qonnx is not installed: pip install 'bitsearch[qonnx]'")

import onnx

from bitsearch.deploy.formats.qonnx.check import executed
from bitsearch.deploy.formats.qonnx.thresholds import threshold_model

EXAMPLES = int(os.environ.get("BITSEARCH_EXAMPLES", "0"))


def outputs_of(packed, x):
    """(the graph's outputs, the replay's), the former in the unit of the latter."""
    fraction = packed.analysis.values[-1].fraction
    return torch.ldexp(executed(threshold_model(packed))(x), torch.tensor(fraction)), packed.replay()(x).double()


@pytest.mark.exhaustive
@examples(EXAMPLES or 6)
@given(packed_programs(longest=3, framed=False))
def test_any_program_that_thresholds_hold_is_computed_exactly(packed):
    assume(packed is not None)
    x = program_inputs(packed, 6)
    try:
        outputs, expected = outputs_of(packed, x)
    except InputError as error:
        # ONNX Runtime has not every transposed convolution.
        reasons = ("cannot be expressed in thresholds: ", "thresholds for its", "ConvTranspose")
        assert any(reason in str(error) for reason in reasons)  # noqa: PT017
        assume(False)
    assert torch.equal(outputs, expected)


def images(count, seed=0):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def packed_digits(tmp_path, make_plan, classifier="gap", **bits):
    """(packed file, network, plan) of digits_cnn, whose batch norms have turned some channels."""
    torch.manual_seed(0)
    network = make_network("digits_cnn", {"width": 4, "classifier": classifier}, input_shape=(1, 8, 8), classes=10)
    with torch.no_grad():
        for parameter in (network.norm1.weight, network.norm3.weight):
            parameter[::2] *= -1
            parameter[1] = 0
        for norm in (network.norm1, network.norm2, network.norm3, network.norm4):
            norm.bias += 0.5
    setting = {"weight_bits": 3, "spike_bits": (2, 2), "time_steps": 2, "decay": 0.75, "spike_granularity": "layer"}
    names = ("conv1", "conv2", "conv3", "conv4", "classifier")
    plan = {name: LayerPlan(**(setting | {"signed_input": name == "conv1"} | bits)) for name in names}
    network = calibrate(convert(network, plan), images(24))
    pack(network, images(24), tmp_path / "packed", make_plan(plan))
    return read(tmp_path / "packed"), network, make_plan(plan)


def samples(inputs):
    part = TensorDataset(inputs, torch.zeros(len(inputs), dtype=torch.long))
    return Splits(part, part, part, input_shape=tuple(inputs.shape[1:]), classes=10)


def test_neurons_are_one_node_or_two_between_integer_convolutions(tmp_path, make_plan):
    packed, network, plan = packed_digits(tmp_path, make_plan)
    model = threshold_model(packed)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Conv"] == 5
    # Two where more current leaves fewer spikes behind, as it may with a decay.
    assert 5 <= kinds["MultiThreshold"] <= 10
    assert kinds["MultiThreshold"] - kinds["Sub"] == 5
    before_the_last = [node.op_type for node in model.graph.node][: -len(kinds)]
    assert set(before_the_last) <= {"Conv", "MultiThreshold", "Sub", "Cast", "Mul", "Add"}
    types = {
        annotation.tensor_name: annotation.quant_parameter_tensor_names[0].value
        for annotation in model.graph.quantization_annotation
    }
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert types[node.input[1]] == "INT3"
            assert types[node.output[0]] == "INT32"
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MultiThreshold":
            thresholds = constants[node.input[1]]
            assert (thresholds[:, 1:] >= thresholds[:, :-1]).all()
    request = ConsumerRequest("qonnx-thresholds", packed, network, plan, images(4), samples(images(40, 1)).test, 17)
    result = FORMATS["qonnx"].consume(request)
    assert result.equal
    assert result.lines[0].startswith(
        "QONNX: 40 of 40 samples are predicted as by the integer replay; outputs differ by"
    )
    assert len(packed.replay()(images(40, 1)).unique(dim=0)) > 20


def test_an_exact_graph_with_another_output_is_no_equal_one(tmp_path, make_plan, monkeypatch):
    packed, network, plan = packed_digits(tmp_path, make_plan)
    monkeypatch.setattr(
        "bitsearch.deploy.formats.qonnx.check.executed",
        lambda model: lambda x: executed(model)(x) * (1 + 2**-50),
    )
    request = ConsumerRequest("qonnx-thresholds", packed, network, plan, images(4), samples(images(4, 1)).test, 4)
    assert not FORMATS["qonnx"].consume(request).equal


def test_spikes_that_are_pooled_stay_whole_numbers(tmp_path):
    torch.manual_seed(0)
    modules = (
        layer.Conv2d(1, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(v_threshold=0.5),
        layer.AvgPool2d(2),
        layer.Conv2d(4, 3, 3),
        layer.Flatten(),
        layer.Linear(12, 10),
    )
    bits = {"weight_bits": 3, "spike_bits": (2, 3), "time_steps": 2, "spike_granularity": "layer"}
    plan = {
        "0": LayerPlan(signed_input=True, **bits),
        "4": LayerPlan(**bits, neurons=("2",), pooled=True, in_place=True),
        "6": LayerPlan(signed_input=True, **bits),
    }
    network = calibrate(convert(nn.Sequential(*modules), plan), images(24))
    pack(network, images(24), tmp_path / "packed")
    packed = read(tmp_path / "packed")
    assert any(isinstance(operation, RunNeuron) for operation in packed.program.operations)
    outputs, expected = outputs_of(packed, images(30, 1))
    assert torch.equal(outputs, expected)
    assert len(expected.unique(dim=0)) > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classifier": "linear"},
            "'classifier' cannot be expressed in thresholds: its neurons read an average of round",
        ),
        (
            {"spike_granularity": None, "weight_bits": 8, "spike_bits": (6, 7)},
            "'conv1' cannot be expressed in thresholds: its sums take .*--share-steps",
        ),
    ],
)
def test_what_thresholds_cannot_hold_is_refused_by_its_layer(changes, message, tmp_path, make_plan):
    packed, *_ = packed_digits(tmp_path, make_plan, **changes)
    with pytest.raises(InputError, match=message):
        threshold_model(packed)


def test_frames_are_refused(tmp_path, make_plan):
    packed, *_ = packed_digits(tmp_path, make_plan)
    network_input = packed.program.input.model_copy(update={"frames": 4})
    program = packed.program.model_copy(update={"input": network_input})
    with pytest.raises(InputError, match="'conv1' cannot be expressed in thresholds: its membrane adds up currents"):
        threshold_model(SimpleNamespace(program=program))


def test_shared_steps_make_free_ones_fit(tmp_path, make_plan):
    changes = {"spike_granularity": None, "weight_bits": 8, "spike_bits": (6, 7)}
    _, network, plan = packed_digits(tmp_path, make_plan, **changes)
    task = SimpleNamespace(
        examples=images(6),
        splits=samples(images(9)),
        model=SimpleNamespace(target=None),
        space=SimpleNamespace(training=SimpleNamespace(at_once=8)),
        learning_task=SimpleNamespace(score=SimpleNamespace(name="accuracy")),
    )
    scores = iter((0.5, 0.25))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitsearch.deploy.formats.shared_steps.evaluate", lambda *_, **__: next(scores))
        request = ExportRequest(network, plan, task, tmp_path / "net.onnx", share_steps=True, thresholds=True)
        result = FORMATS["qonnx"].export(request)
    assert result.equal
    assert result.lines[0] == "test accuracy 0.5000, with shared steps 0.2500"
    assert "run by QONNX: 9 of 9 samples" in result.lines[1]
    assert onnx.load(tmp_path / "net.onnx").graph.input[0].name == "global_in"


def test_levels_and_thresholds_by_hand():
    # 0 up to 3, 2 up to 7, 1 from there on.
    levels = Levels(0, torch.tensor([4, 8]), torch.tensor([2, -1]))
    assert (levels.rising.tolist(), levels.falling.tolist(), levels.range) == ([4, 4], [8], (0, 2))
    both = weighted_levels([levels, Levels(-1, torch.tensor([4, 9]), torch.tensor([-2, 1]))], [1, 1])
    assert (both.base, both.currents.tolist(), both.jumps.tolist()) == (-1, [8, 9], [-1, 1])
    goals = torch.tensor([-10, 0, 1, 7, 16, 17])
    reached = first_reaching(lambda x: x // 3, goals, torch.full_like(goals, -9), torch.full_like(goals, 50))
    assert reached.tolist() == [-9, 0, 3, 21, 48, 51]
