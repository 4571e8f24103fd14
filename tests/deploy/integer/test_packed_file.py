import hashlib
import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_reader import read as read_by_hand
from packed_reader import run as run_by_hand
from profiles import examples
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tolerances import rounding
from torch.utils.data import TensorDataset

from bitsearch import load_data, pack, quantize, read, verify
from bitsearch.errors import InputError
from bitsearch.layers import convert, quantized_layers
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan

LAYERS = ("conv1", "conv2", "conv3", "conv4", "classifier")


@st.composite
def layer_plans(draw, signed):
    time_steps = draw(st.integers(1, 4))
    return LayerPlan(
        weight_bits=draw(st.integers(1, 8)),
        spike_bits=tuple(draw(st.integers(1, 8)) for _ in range(time_steps)),
        time_steps=time_steps,
        granularity=draw(st.sampled_from(["layer", "channel"])),
        step_sizes=draw(st.sampled_from([None, "power_of_two"])),
        signed_input=signed,
        decay=draw(st.sampled_from([1.0, 0.5, 0.3, 0.0])),
    )


@st.composite
def plans(draw):
    return {name: draw(layer_plans(signed=name == "conv1")) for name in LAYERS}


def rewritten(source, path, tensors=None, **header):
    """The file with other tensors or header entries."""
    with safe_open(source, framework="pt") as file:
        metadata = {**file.metadata(), **{f"bitsearch.{key}": value for key, value in header.items()}}
    save_file({**load_file(source), **(tensors or {})}, path, metadata)
    return path


def signed(source, path, tensors=None, **header):
    """As :func:`rewritten`, with a checksum that fits."""
    draft = rewritten(source, path.with_name("draft"), tensors, **header)
    with safe_open(draft, framework="pt") as file:
        metadata = file.metadata()
    parts = ("program", "widths", "plan") + (("source",) if int(metadata["bitsearch.format"]) > 5 else ())
    digest = hashlib.sha256(b"".join(metadata[f"bitsearch.{part}"].encode() + b"\0" for part in parts))
    for name, tensor in sorted(load_file(draft).items()):
        digest.update(name.encode() + b"\0" + tensor.numpy().tobytes() + b"\0")
    return rewritten(draft, path, sha256=digest.hexdigest())


@pytest.fixture(scope="module")
def packed(quantized, examples, tmp_path_factory):
    network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=2)
    path = tmp_path_factory.mktemp("packed") / "packed"
    pack(network, examples, path)
    return path


@examples(12)
@given(plan=plans())
def test_any_plan_takes_the_bytes_that_the_cost_model_says_and_comes_back_as_it_was(
    plan, quantized, examples, tmp_path_factory
):
    network, memory = quantized(plan=plan)
    path = tmp_path_factory.mktemp("plans") / "packed"
    assert pack(network, examples, path) == memory
    assert sum(tensor.nbytes for tensor in load_file(path).values()) == memory
    packed_network = read(path)
    for name, layer in quantized_layers(network).items():
        levels = torch.from_numpy(packed_network.numbers[name].levels)
        assert torch.equal(levels * layer.weight_step, layer.quantized_weight())
        assert packed_network.program.layers[name].spike_bits == plan[name].spike_bits


@examples(3)
@given(plan=plans())
def test_a_reader_written_from_the_description_gets_the_same_numbers(plan, quantized, examples, tmp_path_factory):
    network, _ = quantized(plan=plan)
    path = tmp_path_factory.mktemp("plans") / "packed"
    pack(network, examples, path)
    replay = read(path).replay()
    outputs, fraction = run_by_hand(path, examples[0].flatten().tolist())
    assert replay(examples[:1]).tolist() == [outputs]
    assert fraction == replay.analysis.values[-1].fraction


def test_integers_stand_for_the_layer_and_its_batch_norm(quantized, examples, packed):
    network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=2)
    program, tensors, _ = read_by_hand(packed)
    layer = program["layers"]["conv1"]
    multiplier, bias = (torch.tensor(tensors[f"conv1.{part}"], dtype=torch.float64) for part in ("multiplier", "bias"))
    # At one time step a spike counts one, and its step is in the multiplier.
    levels = torch.from_numpy(read(packed).numbers["conv1"].levels).double()
    codes = (network.conv1.spikes(examples) / network.conv1.spike_step[0]).double().round()
    sums = torch.nn.functional.conv2d(codes, levels, padding=1)
    scale = 2.0 ** -(layer["shift"] + layer["fraction"])
    outputs = sums * multiplier.view(1, -1, 1, 1) * scale + bias.view(1, -1, 1, 1) * 2.0 ** -layer["fraction"]
    # A multiplier has 16 bits, a bias ends at the last bit of the fraction; nine products and a batch norm in float32.
    largest = outputs.abs().max().item()
    tolerance = (2**-16 + 2 * rounding(32)) * largest * 4 + 2.0 ** -layer["fraction"]
    torch.testing.assert_close(outputs.float(), network.norm1(network.conv1(examples)), rtol=0, atol=tolerance)


def test_the_same_network_gives_the_same_file(quantized, examples, packed, tmp_path):
    network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=2)
    pack(network, examples, tmp_path / "again")
    assert read_by_hand(tmp_path / "again") == read_by_hand(packed)


def test_a_packed_network_is_shown_by_its_size(packed):
    assert re.fullmatch(r"PackedNetwork\((.*, )?5 layers, [\d,]+ weights\)", repr(read(packed)))


def test_class_names_and_the_scaling_of_inputs_are_in_the_file(quantized, examples, packed, tmp_path):
    network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=2)
    splits = load_data("digits", {}, split_seed=0)
    pack(network, examples, tmp_path / "packed", splits=splits)
    source = read(tmp_path / "packed").source
    assert source.classes == tuple("0123456789")
    # Pixels are whole numbers from 0 to 16.
    inputs = splits.train[:][0].double()
    pixels = inputs * source.deviation[0] + source.mean[0]
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=64 * rounding(32))
    assert (pixels.round().min(), pixels.round().max()) == (0, 16)
    assert read(packed).source.classes is None
    assert read(packed).source.weights == source.weights


def test_other_weights_are_refused_in_one_line(quantized, examples, packed):
    network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=2)
    samples = TensorDataset(examples, torch.zeros(len(examples), dtype=torch.long))
    assert verify(read(packed), network, examples, samples).equal
    with torch.no_grad():
        network.classifier.weight[0, 0] += 0.5
    with pytest.raises(
        InputError, match=r"^the file was packed from other weights, with SHA-256 .{12}…, not .{12}…; give"
    ):
        verify(read(packed), network, examples, samples)


def test_widths_in_the_file_hold_what_was_observed(packed):
    widths = read(packed).widths
    assert list(widths) == list(LAYERS)
    for run in widths.values():
        assert 1 < run.observed_accumulator <= run.accumulator <= 32
        assert 1 < run.observed_membrane < run.membrane


def test_a_network_that_is_not_quantized_or_has_no_steps_yet_is_refused(examples, tmp_path):
    network = make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    with pytest.raises(InputError, match="no quantized layer"):
        pack(network, examples, tmp_path / "packed")
    plan = {"conv2": LayerPlan(weight_bits=2, spike_bits=(2,), time_steps=1)}
    with pytest.raises(InputError, match="load the weights"):
        pack(convert(network, plan), examples, tmp_path / "packed")
    assert list(tmp_path.iterdir()) == []


def test_what_quantize_returns_is_packed_once_its_bits_are_fixed(examples, tmp_path):
    float_network = make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    learnable = quantize(float_network, examples)
    learnable(examples)
    with pytest.raises(InputError, match="the bits of layer 'conv2' may still move; call project"):
        pack(learnable, examples, tmp_path / "packed")
    learnable.project("4x")
    learnable.train()(examples)
    assert pack(learnable, examples, tmp_path / "packed") == learnable.costs["weight_memory"]
    samples = TensorDataset(examples, torch.zeros(len(examples), dtype=torch.int64))
    assert verify(read(tmp_path / "packed"), learnable, examples, samples).equal


def test_layers_that_keep_their_floats_are_refused_by_name(quantized, examples, tmp_path):
    network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=1)
    network.add_module("extra", torch.nn.Linear(10, 10))
    with pytest.raises(InputError, match="extra has no bits, and a packed file holds quantized layers only"):
        pack(network, examples, tmp_path / "packed")


def test_a_file_that_cannot_be_written_is_one_line(quantized, examples, tmp_path):
    network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=1)
    with pytest.raises(InputError, match="cannot write"):
        pack(network, examples, tmp_path / "missing" / "packed")


def test_foreign_and_truncated_files_are_refused(packed, tmp_path):
    data = packed.read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    (tmp_path / "longer").write_bytes(data + b"\0")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "huge").write_bytes((1 << 40).to_bytes(8, "little") + data[8:])
    (tmp_path / "text").write_text("hello, this is not a packed file", encoding="utf-8")
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    for name in ("cut", "longer", "empty", "huge", "text", "pickle", "foreign"):
        with pytest.raises(InputError, match=r"not a packed file|no packed file"):
            read(tmp_path / name)


def test_another_version_is_named(packed, tmp_path):
    with pytest.raises(InputError, match="format '1', not a packed file of format 7; write one with bitsearch deploy"):
        read(rewritten(packed, tmp_path / "old", format="1"))


@pytest.mark.parametrize("version", ["2", "3", "4", "5", "6"])
def test_a_file_of_a_format_before_is_read(packed, tmp_path, version):
    assert read(signed(packed, tmp_path / "old", format=version)).program == read(packed).program


def test_every_flipped_bit_of_the_weights_and_of_the_header_is_noticed(packed, tmp_path):
    data = packed.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for bit in torch.randint(0, 8 * len(data), (300,), generator=generator).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(InputError):
            read(tmp_path / "damaged")


def test_lies_in_a_header_whose_checksum_fits_are_refused(packed, tmp_path):
    with safe_open(packed, framework="pt") as file:
        program = json.loads(file.metadata()["bitsearch.program"])

    def lie(*path_and_value):
        *path, last, value = path_and_value
        changed = json.loads(json.dumps(program))
        place = changed
        for key in path:
            place = place[key]
        place[last] = value
        return signed(packed, tmp_path / "lie", program=json.dumps(changed))

    for path_and_value, message in (
        (("layers", "conv2", "weight_shape", [1 << 20, 1 << 20, 3, 3]), "tensor 'conv2.weight'"),
        (("layers", "conv2", "weight_shape", [1 << 40, 4, 3, 3]), "less than or equal to 16777216"),
        (("layers", "conv2", "weight_bits", 9), "weight_bits"),
        (("layers", "conv2", "shift", 62), "integers of"),
        (("layers", "conv2", "padding", [4096, 4096]), "once it is padded"),
        (("layers", "conv2", "padding", [-1, 0]), "greater than or equal to 0"),
        (("layers", "conv2", "step_fraction", -64), "integers of"),
        (("layers", "conv2", "groups", 3), "cannot be divided into 3 groups"),
        (("layers", "conv2", "colour", "red"), "unknown field"),
        (("input", "shape", [1, 1 << 20, 1 << 20]), "conv1"),
        (("input", "shape", [2, 8, 8]), "2 channels, not 1"),
        (("input", "fraction", "8"), "valid integer"),
        (("operations", 0, "inputs", [3]), "made after it"),
        (("operations", 0, "layer", "conv9"), "there is none of"),
        (("operations", 0, "op", "exec"), "operations.0"),
    ):
        with pytest.raises(InputError, match="packed file") as refused:
            read(lie(*path_and_value))
        assert message in str(refused.value)


def test_lies_in_tensors_whose_checksum_fits_are_refused(packed, tmp_path):
    tensors = load_file(packed)
    for name, tensor, message in (
        ("conv2.spike_step", torch.zeros_like(tensors["conv2.spike_step"]), "a step of 0"),
        ("conv2.weight", torch.full_like(tensors["conv2.weight"], 255), "outside of ±3"),
        ("conv2.bias", tensors["conv2.bias"].long(), "is I64"),
        ("conv2.bias", tensors["conv2.bias"][:-1], "is I32"),
        ("extra", torch.zeros(1), "unknown tensor 'extra'"),
        ("conv2.multiplier", torch.full_like(tensors["conv2.multiplier"], 2**31 - 1), "integers of"),
    ):
        with pytest.raises(InputError, match="packed file") as refused:
            read(signed(packed, tmp_path / "lie", {name: tensor.clone()}))
        assert message in str(refused.value)


@pytest.mark.parametrize(("name", "reason"), [("gone.packed", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told_apart_from_one_that_is_none(name, reason, tmp_path):
    with pytest.raises(
        InputError, match=rf"^cannot read the packed file .*: {reason}; write one with bitsearch deploy$"
    ):
        read(tmp_path / name)
