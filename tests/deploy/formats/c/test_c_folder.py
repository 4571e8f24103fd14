"""The folder of ``--format c``: it compiles and runs by its Makefile, and no name gets into its code."""

import re
import shutil
import subprocess
from importlib import resources
from typing import get_args

import pytest
from c_compiler import needs_compiler
from c_networks import check_c

from bitsearch import pack, read
from bitsearch.deploy.formats.c.compiled import compiled
from bitsearch.deploy.formats.c.export import export_c
from bitsearch.deploy.formats.c.source import constant, plain, sources
from bitsearch.deploy.integer.operations import AnyOperation
from bitsearch.errors import InputError
from bitsearch.layers import quantized_layers

HOSTILE = '*/ #include "/etc/passwd" int x; /* ??/ \\\n\r\u202e%s'
ARM = [tool for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make") if shutil.which(tool) is None]


@pytest.fixture(scope="module")
def packed(quantized, examples, make_plan, tmp_path_factory):
    network, memory = quantized(weight_bits=3, spike_bits=2, time_steps=2)
    layers = {name: layer.layer_plan for name, layer in quantized_layers(network).items()}
    path = tmp_path_factory.mktemp("packed") / "net"
    pack(network, examples, path, make_plan(layers, costs={"weight_memory": float(memory), "working_memory": 640.0}))
    return read(path)


@pytest.fixture
def folder(packed, examples, tmp_path):
    export_c(packed, examples, tmp_path / "net-c")
    return tmp_path / "net-c"


def make(folder, *targets):
    return subprocess.run(
        ["make", "--no-print-directory", *targets], cwd=folder, capture_output=True, text=True, check=False
    )


@needs_compiler
@pytest.mark.processes
@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_test_compares_every_vector(folder):
    ended = make(folder, "test")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "6 of 6 test vectors are equal"), ended.stderr
    vectors = (folder / "test_vectors.c").read_text(encoding="ascii")
    head, _, numbers = vectors.partition("outputs[COUNT]")
    (folder / "test_vectors.c").write_text(head + "outputs[COUNT]" + re.sub(r"\d{3,}", "7", numbers, count=1))
    ended = make(folder, "test")
    assert ended.returncode != 0
    assert "5 of 6 test vectors are equal" in ended.stdout


@pytest.mark.processes
@pytest.mark.skipif(
    bool(ARM),
    reason=f"{', '.join(ARM)} is not installed: apt-get install gcc-arm-none-eabi "
    "libnewlib-arm-none-eabi qemu-system-arm",
)
def test_a_microcontroller_computes_every_vector(folder, packed):
    ended = make(folder, "microcontroller", "ARM_CFLAGS=-O1")
    assert ended.returncode == 0, ended.stderr
    assert "warning" not in ended.stderr
    assert ended.stdout.splitlines()[-1] == "6 of 6 test vectors are equal"
    assert "The plan: weight_memory" in ended.stdout
    text, data, bss = map(int, re.search(r"^ *(\d+)\t *(\d+)\t *(\d+)", ended.stdout, re.MULTILINE).groups())
    source = sources(packed)
    assert data == 0
    assert text > source.constant_bytes
    assert source.memory_bytes <= bss < source.memory_bytes + 16


def test_sizes_are_those_of_the_plan_and_of_the_code(packed):
    source = sources(packed)
    arrays = re.findall(r"^static const u?int(\d+)_t \w+\[(\d+)\]", source.code, re.MULTILINE)
    assert sum(int(bits) // 8 * int(size) for bits, size in arrays) == source.constant_bytes
    steps = sum(layer.time_steps for layer in packed.program.layers.values())
    # Step sizes are in the code.
    assert source.constant_bytes == packed.plan.costs["weight_memory"] - 4 * steps
    memory = re.findall(r"^static int(\d+)_t memory_\w+\[(\d+)\]", source.code, re.MULTILINE)
    assert sum(int(bits) // 8 * int(size) for bits, size in memory) == source.memory_bytes
    assert not re.search(r"\b(float|double|malloc|free)\b", source.code)


def renamed(packed, layer, operation):
    """The packed network with hostile names of a layer and of its operation."""
    program = packed.program.model_dump(mode="python")
    program["layers"] = {layer if name == "conv2" else name: one for name, one in program["layers"].items()}
    for one in program["operations"]:
        one["name"] = operation if one["name"] == "conv2" else one["name"]
        if one.get("layer") == "conv2":
            one["layer"] = layer
    numbers = {layer if name == "conv2" else name: one for name, one in packed.numbers.items()}
    plan = packed.plan.model_copy(update={"network": layer})
    return type(packed)(type(packed.program).model_validate(program), numbers, packed.widths, plan, packed.source)


@needs_compiler
def test_hostile_names_change_comments_alone(packed, examples):
    hostile = renamed(packed, HOSTILE, HOSTILE[::-1])
    check_c(hostile, examples, ("-O0",))
    ours, theirs = sources(packed), sources(hostile)
    comment = re.compile(r"/\*.*?\*/", re.DOTALL)
    assert comment.sub("", theirs.code) == comment.sub("", ours.code)
    assert comment.sub("", theirs.header) == comment.sub("", ours.header)
    assert theirs.code.isascii()
    for text in set(comment.findall(theirs.code)) - set(comment.findall(ours.code)):
        assert re.fullmatch(r"/\* [\w.,: -]+ \*/", text), text
    assert "conv2" not in theirs.code


@pytest.mark.parametrize(
    ("name", "expected"), [("conv1", "conv1"), ("a.b-c_1", "a.b-c_1"), ("*/x\n", "__x_"), ("é?", "__")]
)
def test_names_become_words(name, expected):
    assert plain(name) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (5, "5"),
        (-1, "(-1)"),
        (40000, "INT32_C(40000)"),
        (-(2**31), "(-INT64_C(2147483648))"),
        (2**40, f"INT64_C({2**40})"),
    ],
)
def test_constants_have_a_type_that_holds_them(number, expected):
    assert constant(number) == expected


def test_too_many_time_steps_are_refused_by_name(packed, monkeypatch, tmp_path, examples):
    monkeypatch.setattr("bitsearch.deploy.formats.c.steps.MOST_TIME_STEPS", 1)
    with pytest.raises(InputError, match=r"^'conv2' has 2 time steps; C has at most 1$"):
        export_c(packed, examples, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_never_overwritten(folder, packed, examples):
    with pytest.raises(InputError, match="never overwritten"):
        export_c(packed, examples, folder)


@pytest.mark.parametrize(
    ("chosen", "message"), [(None, "there is no C compiler here"), ("none-such", "CC is 'none-such'")]
)
def test_no_compiler_is_one_line(chosen, message, packed, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CC", chosen)
    with pytest.raises(InputError, match=message), compiled(packed):
        pass


@needs_compiler
def test_a_compiler_that_fails_is_one_line(packed):
    flags = ("-fno-such-option-at-all",)
    with (
        pytest.raises(InputError, match=r"^\w+ fails on the C of this network: .*no-such-option"),
        compiled(packed, flags),
    ):
        pass


def test_every_operation_has_a_template():
    templates = resources.files("bitsearch.deploy.formats.c") / "templates" / "operations"
    assert {file.name for file in templates.iterdir()} == {
        f"{operation.model_fields['op'].default}.c.jinja" for operation in get_args(AnyOperation)
    }
