"""Step sizes in powers of two are exponents in a packed file, and shifts in all that runs it."""

import re
from fractions import Fraction

import pytest
import torch
from c_compiler import needs_compiler
from c_networks import check_c
from packed_reader import read as read_by_hand
from packed_reader import run as run_by_hand
from safetensors.torch import load_file
from torch import nn

from bitsearch import pack, read, verify
from bitsearch.deploy.formats.c.source import sources
from bitsearch.deploy.formats.onnx import export_onnx
from bitsearch.deploy.lower.fixed_point import lower_layer
from bitsearch.errors import InputError
from bitsearch.layers import convert, quantized_layers
from bitsearch.plan import LayerPlan


def network(norm=False, granularity="layer", time_steps=2):
    """Two quantized layers, batch norm behind the first if ``norm``."""
    torch.manual_seed(0)
    between = [nn.BatchNorm2d(4)] if norm else []
    float_network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), *between, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    )
    with torch.no_grad():
        # Channels of other sizes.
        float_network[0].weight[0] *= 4
        float_network[-1].weight[0] *= 4
    names = ("0", "5" if norm else "4")
    options = {"granularity": granularity, "step_sizes": "power_of_two", "weight_bits": 4}
    plan = {
        names[0]: LayerPlan(spike_bits=(6,), time_steps=1, signed_input=True, **options),
        names[1]: LayerPlan(spike_bits=(3,) * time_steps, time_steps=time_steps, decay=0.75, **options),
    }
    quantized = convert(float_network, plan).train()
    for _ in range(3):
        quantized(x(32))
    return quantized.eval()


def x(count, seed=0):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def packed(quantized, path):
    pack(quantized, x(16), path)
    return read(path)


def logits(file, inputs):
    return torch.ldexp(file.replay()(inputs).double(), torch.tensor(-file.analysis.values[-1].fraction))


def test_the_file_holds_the_exponents_of_the_networks_own_sizes(tmp_path):
    quantized = network(granularity="channel")
    packed(quantized, tmp_path / "packed")
    program, tensors, metadata = read_by_hand(tmp_path / "packed")
    assert metadata["bitsearch.format"] == "7"
    for name, layer in quantized_layers(quantized).items():
        setting = program["layers"][name]
        assert {part for part in tensors if part.startswith(f"{name}.")} == {
            f"{name}.{part}" for part in ("weight", "bias", "spike_exponent", "multiplier_exponent")
        }
        exponents = tensors[f"{name}.spike_exponent"]
        sizes = [Fraction(2) ** (exponent - setting["step_fraction"]) for exponent in exponents]
        assert sizes == [Fraction(step) for step in layer.spike_step.tolist()]
        # One level of a weight and the unit of the spikes, over the time steps that are averaged.
        unit = Fraction(2) ** (min(exponents) - setting["step_fraction"]) / len(exponents)
        scales = [
            Fraction(2) ** (exponent - setting["shift"] - setting["fraction"])
            for exponent in tensors[f"{name}.multiplier_exponent"]
        ]
        assert scales == [Fraction(step) * unit for step in layer.weight_step.flatten().tolist()]


@pytest.mark.parametrize("time_steps", [1, 2, 3])
@pytest.mark.parametrize("norm", [False, True])
def test_what_stays_a_multiplier_is_batch_norms_scale_and_a_mean_over_three(norm, time_steps, tmp_path):
    quantized = network(norm, time_steps=time_steps)
    file = packed(quantized, tmp_path / "packed")
    first, last = file.program.layers.values()
    assert (first.step_sizes, last.step_sizes) == ("power_of_two", "power_of_two")
    assert first.scale == (None if norm else "power_of_two")
    assert last.scale == (None if time_steps == 3 else "power_of_two")


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("norm", [False, True])
def test_replay_network_and_the_reader_of_the_page_agree(norm, granularity, tmp_path):
    quantized = network(norm, granularity)
    file = packed(quantized, tmp_path / "packed")
    samples = torch.utils.data.TensorDataset(x(40, 1), torch.arange(40) % 3)
    assert verify(file, quantized, x(16), samples).equal
    outputs, _ = run_by_hand(tmp_path / "packed", x(1, 2).flatten().tolist())
    assert file.replay()(x(1, 2)).tolist() == [outputs]
    # The same bytes as of any sizes: an exponent takes the place of a number.
    free = network(norm, granularity)
    for layer in quantized_layers(free).values():
        layer.step_sizes = None
    pack(free, x(16), tmp_path / "free")
    assert pack(quantized, x(16), tmp_path / "packed") == sum(
        tensor.nbytes for tensor in load_file(tmp_path / "free").values()
    )


@pytest.mark.parametrize("time_steps", [1, 2, 3, 4])
def test_parts_of_a_step_of_the_input_count_at_later_time_steps(time_steps, tmp_path):
    """Against the network on the input as it is: half of a step sends nothing at first, and a level later."""
    torch.manual_seed(1)
    plan = LayerPlan(
        weight_bits=4, spike_bits=(3,) * time_steps, time_steps=time_steps, step_sizes="power_of_two", signed_input=True
    )
    quantized = convert(nn.Sequential(nn.Linear(8, 3)), {"0": plan}).train()
    inputs = (2 * torch.randint(-400, 400, (64, 8)) + 1) / 256  # never half a step
    quantized(inputs)
    with torch.no_grad():
        quantized[0].spike_log_step.zero_()
    quantized.eval()
    pack(quantized, inputs, tmp_path / "packed")
    assert torch.allclose(logits(read(tmp_path / "packed"), inputs), quantized(inputs).double(), atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_the_c_shifts(granularity, tmp_path):
    file = packed(network(granularity=granularity), tmp_path / "packed")
    code = sources(file).code
    assert "multiplier" not in re.sub(r"/\*.*?\*/", "", code)
    assert "/" not in re.sub(r"/\*.*?\*/", "", "".join(re.findall(r"static void spikes_.*?\n}", code, re.DOTALL)))
    assert ("exponent_" in code) == (granularity == "channel")
    check_c(file, x(8, 3))


def test_onnx_holds_them(make_plan, tmp_path):
    onnx = pytest.importorskip("onnx")
    quantized = network(norm=True, granularity="channel")
    plan = {name: layer.layer_plan for name, layer in quantized_layers(quantized).items()}
    export_onnx(quantized, x(4), tmp_path / "network.onnx", make_plan(plan))
    model = onnx.load(tmp_path / "network.onnx")
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) == 2 + 2 * 3
    for node in nodes:
        scale = torch.tensor(constants[node.input[1]])
        assert torch.equal(torch.frexp(scale).mantissa, torch.full_like(scale, 0.5))


def test_exponents_that_no_integer_has_room_for_are_refused(tmp_path):
    quantized = network()
    layer = quantized[4]
    with torch.no_grad():
        layer.spike_log_step.copy_(torch.tensor([2.0**-12, 2.0**19]).log())
    with pytest.raises(InputError, match=r"layer '4' has step sizes of 2\^-12 and 2\^19 for its time steps; .* 2\^30"):
        lower_layer("4", layer, None, (1, 64), (1, 3))
