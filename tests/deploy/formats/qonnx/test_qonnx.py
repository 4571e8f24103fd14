"""QONNX with quantizers: true widths, and in QONNX's executor the numbers of the integer replay."""

import pytest
import torch
from calibration import calibrate
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch import pack, read
from bitsearch.data import Splits
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.spikingjelly import LAYERS
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, NeuronSettings

pytest.importorskip("qonnx", reason="qonnx is not installed: pip install 'bitsearch[qonnx]'")

import onnx

from bitsearch.deploy.formats import FORMATS, ConsumerRequest
from bitsearch.deploy.formats.qonnx.check import compare, executed
from bitsearch.deploy.formats.qonnx.quantized import quantized_model

pytestmark = [pytest.mark.filterwarnings("ignore:kept at 32 bits"), pytest.mark.filterwarnings("ignore:never called")]
FRAMES = 4
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


def bits_of(model, kind="Quant"):
    """By node, the bits of a quantizer."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.name: int(constants[node.input[3]]) for node in model.graph.node if node.op_type == kind}


def test_weights_and_spikes_have_their_true_widths(quantized, examples, make_plan, tmp_path):
    network, _ = quantized(plan=WIDTHS)
    pack(network, examples, tmp_path / "packed", make_plan(WIDTHS))
    packed = read(tmp_path / "packed")
    model = quantized_model(packed)
    bits = bits_of(model)
    for name, plan in WIDTHS.items():
        # The spikes of every time step, then the weights, of which one bit has another node.
        named = sorted((int(node.split("_")[0][1:]), width) for node, width in bits.items() if f"_{name}_" in node)
        expected = [*plan.spike_bits, *[plan.weight_bits] * (plan.weight_bits > 1)]
        assert [width for _, width in named] == expected, name
    # The pooling is one, too.
    assert [node.op_type for node in model.graph.node].count("Conv") == 5
    assert len([node for node in model.graph.node if node.op_type == "BipolarQuant"]) == 1
    inputs = 2 * torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    request = ConsumerRequest("qonnx", packed, network, make_plan(WIDTHS), examples, samples(inputs), 11)
    result = FORMATS["qonnx"].consume(request)
    assert result.equal
    assert result.lines[0].startswith(
        "QONNX: 20 of 20 samples are predicted as by the integer replay; outputs differ by"
    )
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert LayerPlan.model_validate_json(properties["bitsearch.layers.conv3"]) == WIDTHS["conv3"]


def convolutional(*behind, node=None):
    modules = (
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        node or neuron.IFNode(v_reset=None),
        layer.AvgPool2d(2),
        layer.Conv2d(4, 4, 2, groups=2, stride=2, bias=False),
        layer.Flatten(),
        layer.Linear(4, 3, bias=False),
    )
    return nn.Sequential(*modules, *behind)


NETWORKS = {
    "static": (convolutional, None, {}),
    "signed": (convolutional, None, {"signed_input": True, "spike_bits": (3, 1)}),
    "whole steps": (convolutional, None, {"neuron": NeuronSettings(threshold="full")}),
    "strict": (convolutional, None, {"neuron": NeuronSettings(threshold="full", strict=True, reset="zero")}),
    "narrow": (convolutional, None, {"membrane_bits": 9, "spike_granularity": "layer", "decay": 0.75}),
    "frames": (convolutional, FRAMES, {"spike_bits": (3, 1), "time_steps": 2}),
    "uneven frames": (convolutional, FRAMES, {"spike_bits": (3, 1, 2), "time_steps": 3}),
    "narrow frames": (convolutional, FRAMES, {"membrane_bits": 9, "spike_granularity": "layer"}),
    "read out": (lambda: convolutional(neuron.IFNode(v_threshold=0.25, v_reset=None)), FRAMES, {}),
    "hard read out": (lambda: convolutional(neuron.LIFNode(tau=2.0, v_threshold=0.25)), FRAMES, {}),
    "upward": (
        lambda: nn.Sequential(
            layer.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
            layer.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False),
            layer.MaxPool2d(2),
            nn.ReLU(),
            layer.Flatten(),
            layer.Linear(8, 3, bias=False),
        ),
        None,
        {},
    ),
}
"""By name, (network, frames, what its layers are given): all in powers of two, which float32 computes exactly."""


@pytest.mark.parametrize("name", NETWORKS)
def test_in_powers_of_two_every_output_is_the_replays(name, tmp_path):
    make, frames, changes = NETWORKS[name]
    torch.manual_seed(3)
    network = make()
    with torch.no_grad():
        for parameter in network.parameters():
            # So that neurons fire.
            parameter.mul_(4)
    functional.set_step_mode(network, "s" if frames is None else "m")
    shape = (24, 2, 4, 4) if frames is None else (frames, 24, 2, 4, 4)
    x = torch.randint(0, 16, shape, generator=torch.Generator().manual_seed(0)) / 8
    steps = 2 if frames is None else frames
    bits = {
        "weight_bits": 3,
        "spike_bits": (3,) * steps,
        "time_steps": steps,
        "decay": 1.0,
        "step_sizes": "power_of_two",
    }
    kinds = (*QUANTIZABLE, *LAYERS, *LAYERS.values())
    names = [path for path, module in network.named_modules() if type(module) in kinds]
    plan = {path: LayerPlan(frames=frames, **(bits | changes)) for path in names}
    network = calibrate(convert(network, plan), x)
    pack(network, x, tmp_path / "packed")
    packed = read(tmp_path / "packed")
    part = samples(x if frames is None else x.transpose(0, 1))
    agreement = compare(packed, executed(quantized_model(packed)), part, batch_size=24)
    assert (agreement.samples, agreement.equal) == (24, 24)
    assert len(packed.replay()(x).unique(dim=0)) > 2
