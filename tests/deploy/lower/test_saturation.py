"""Membranes of a width in a packed file: the network, its replay, its C and another reader saturate alike."""

import json

import pytest
import torch
from c_compiler import needs_compiler
from c_networks import check_c
from packed_reader import run as run_by_hand
from safetensors import safe_open
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch import pack, read, verify
from bitsearch.deploy.formats.onnx import check_onnx, export_onnx
from bitsearch.errors import InputError
from bitsearch.layers import convert, quantized_layers
from bitsearch.plan import LayerPlan


def network(membrane_bits, *, frames=None, loop=None, step_sizes=None, scale=1.0):
    """Two linear layers at 3 time steps, whose step sizes were set on inputs, and which get ``scale`` times as much."""
    torch.manual_seed(0)
    options = {
        "spike_granularity": "layer",
        "membrane_bits": membrane_bits,
        "step_sizes": step_sizes,
        "frames": frames,
        "loop": loop,
        "decay": 0.75,
    }
    plan = {
        "0": LayerPlan(weight_bits=4, spike_bits=(6, 5, 6), time_steps=3, signed_input=True, **options),
        "2": LayerPlan(weight_bits=4, spike_bits=(3, 2, 3), time_steps=3, **options),
    }
    quantized = convert(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), plan).train()
    quantized(x(32, frames))
    with torch.no_grad():
        for layer in quantized_layers(quantized).values():
            layer.spike_log_step -= torch.tensor(scale).log()
    return quantized.eval()


def x(count, frames=None, seed=0):
    shape = (count, 6) if frames is None else (frames, count, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def packed(quantized, path, frames=None):
    pack(quantized, x(16, frames), path)
    return read(path)


@pytest.fixture
def case(request, tmp_path):
    """(width, quantized network, its packed file, frames) of parameters."""
    membrane_bits, frames, step_sizes, scale = request.param
    quantized = network(membrane_bits, frames=frames, step_sizes=step_sizes, scale=scale)
    return membrane_bits, quantized, packed(quantized, tmp_path / "packed", frames), frames


def samples(count, frames, seed):
    inputs = x(count, frames, seed)
    return TensorDataset(inputs if frames is None else inputs.transpose(0, 1), torch.arange(count) % 3)


CASES = pytest.mark.parametrize(
    "case",
    [
        (8, None, None, 4.0),
        (8, None, "power_of_two", 16.0),
        (12, 3, None, 16.0),
        (8, 5, "power_of_two", 64.0),
        (24, 5, None, 1.0),
        (31, None, None, 16.0),
    ],
    indirect=True,
)


@CASES
def test_replay_network_and_the_reader_of_the_page_agree(case, tmp_path):
    _, quantized, file, frames = case
    if frames is None:
        verification = verify(file, quantized, x(16), samples(40, None, 1))
        assert verification.equal
        # Of float32 membranes of up to 24 bits, only those whose currents lie next to half a unit are others.
        unequal = sum(sum(layer.unequal_to_float) for layer in verification.layers)
        assert unequal <= 0.05 * sum(sum(layer.spikes) for layer in verification.layers)
    for seed in range(4):
        one = x(1, frames, seed)
        outputs, _ = run_by_hand(tmp_path / "packed", one.flatten().tolist())
        assert file.replay()(one).tolist() == [outputs]


@CASES
def test_the_file_says_the_width_and_nothing_is_wider(case):
    membrane_bits, _, file, _ = case
    for run in file.widths.values():
        assert run.observed_membrane <= run.membrane == membrane_bits
    if membrane_bits < 10:
        # What was packed with saturates somewhere.
        assert any(run.observed_membrane == membrane_bits for run in file.widths.values())


@needs_compiler
@CASES
def test_the_c_saturates(case):
    _, _, file, frames = case
    check_c(file, x(8, frames, 3))


def test_a_width_changes_what_is_sent(tmp_path):
    outputs = [
        packed(network(bits, scale=64.0), tmp_path / str(bits)).replay()(x(8, None, 2)) for bits in (8, 24, None)
    ]
    assert not torch.equal(outputs[0], outputs[1])
    codes = []
    for bits in (24, None):
        seen = []
        read(tmp_path / str(bits)).replay()(
            x(8, None, 2),
            lambda name, what, t, integers, seen=seen: seen.append(integers) if what == "spikes" else None,
        )
        codes.append(torch.cat([one.flatten() for one in seen]))
    # 24 bits leave as much as any width here, but for what lies next to a threshold.
    assert (codes[0] != codes[1]).float().mean() < 0.05


def test_onnx_runtime_saturates_too(make_plan, tmp_path):
    pytest.importorskip("onnxruntime")
    quantized = network(8, step_sizes="power_of_two", scale=16.0)
    plan = {name: layer.layer_plan for name, layer in quantized_layers(quantized).items()}
    export_onnx(quantized, x(4), tmp_path / "network.onnx", make_plan(plan))
    agreement = check_onnx(tmp_path / "network.onnx", quantized, samples(40, None, 1))
    assert agreement.agreeing == agreement.samples
    assert agreement.difference < 1e-5


def test_a_loop_over_frames_is_its_multi_step_twin():
    whole, looped = network(10, frames=3, scale=16.0), network(10, frames=3, loop="frames", scale=16.0)
    looped.load_state_dict(whole.state_dict())
    frames = x(20, 3, 5)
    with torch.no_grad():
        expected = whole[0](frames)
        looped[0].begin_pass()
        results = torch.stack([looped[0](frame) for frame in frames])
    torch.testing.assert_close(results, expected, rtol=1e-5, atol=1e-5)


def test_a_lie_about_the_width_is_refused(tmp_path):
    packed(network(8), tmp_path / "packed")
    with safe_open(tmp_path / "packed", framework="pt") as file:
        program = json.loads(file.metadata()["bitsearch.program"])
    from bitsearch.deploy.integer.program import Program

    program["layers"]["2"]["membrane_bits"] = 8
    program["layers"]["2"]["spike_bits"] = [8, 8, 8]
    with pytest.raises(InputError, match="membranes of 8 bits for spikes of 8"):
        Program.from_json(json.dumps(program), "program")
