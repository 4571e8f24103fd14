"""The table of formats: what the command, its help and the documentation read."""

import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from bitsearch import read
from bitsearch.cli import main
from bitsearch.deploy.formats import FORMATS, ExportRequest, ExportResult, Format
from bitsearch.errors import InputError
from bitsearch.layers import quantized_layers

ROOT = Path(__file__).parents[3]
REQUESTS = []


def test_the_help_says_each_format_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "argv", ["bitsearch", "deploy", "--help"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    for name, entry in FORMATS.items():
        assert re.fullmatch(r"[A-Z][^.]+\.", entry.summary)
        assert any(f"{name}: {entry.summary}" in line for line in lines), name


def export(request):
    """Of a format that is this test's own."""
    REQUESTS.append(request)
    request.output.write_text("exported", encoding="utf-8")
    return ExportResult(("first line", "second line"), equal=request.share_steps)


@pytest.fixture
def memory(quantized):
    """Bytes of the trained network's integers."""
    return int(quantized(weight_bits=3, spike_bits=2, time_steps=2)[1])


@pytest.fixture
def trained(quantized, make_plan):
    """(network, plan)."""
    network, _ = quantized(weight_bits=3, spike_bits=2, time_steps=2)
    return network, make_plan({name: layer.layer_plan for name, layer in quantized_layers(network).items()})


@pytest.fixture
def deploy(trained, examples, monkeypatch, tmp_path, capsys):
    """Calls the command on a plan whose network is there already: (exit code, what it printed)."""
    network, plan = trained
    plan.save(tmp_path / "plan.json")
    task = SimpleNamespace(examples=examples, splits=None, model=SimpleNamespace(target=None))
    monkeypatch.setattr("bitsearch.runs.rebuild.restore", lambda *arguments, **options: (network, task))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bitsearch", "deploy", str(tmp_path / "plan.json"), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out + printed.err

    return call


@pytest.mark.parametrize("share", [True, False])
def test_an_entry_of_the_table_is_all_that_the_command_needs(share, trained, deploy, monkeypatch, tmp_path):
    entry = Format(".mine", "my own", f"{__name__}:export", options=("share_steps",))
    monkeypatch.setitem(FORMATS, "mine", entry)
    REQUESTS.clear()
    code, printed = deploy("--format", "mine", *["--share-steps"] * share)
    assert (code, printed) == (0 if share else 1, "first line\nsecond line\n")
    assert (tmp_path / "plan.mine").read_text(encoding="utf-8") == "exported"
    (request,) = REQUESTS
    assert isinstance(request, ExportRequest)
    assert (request.network, request.plan, request.report) == (*trained, None)


def test_the_packed_format_is_the_default_and_has_no_option(deploy, memory, tmp_path):
    code, printed = deploy()
    assert (code, printed.splitlines()[0].partition(": ")[2]) == (0, f"{memory} bytes of packed weights and parameters")
    assert read(tmp_path / "plan.packed.safetensors").plan is not None
    assert "--share-steps is for --format nir, qonnx, not packed" in deploy("--share-steps")[1]
    assert f"allowed: {', '.join(FORMATS)}" in deploy("--format", "x")[1]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_one_function_of_one_signature_and_described(name):
    entry = FORMATS[name]
    module, _, function = entry.function.partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), function))
    assert list(signature.parameters) == ["request"]
    assert signature.return_annotation is ExportResult
    assert set(entry.options) <= set(ExportRequest.__dataclass_fields__)
    rows = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8").splitlines()
    (row,) = (row for row in rows if row.startswith(f"| `{name}`"))
    assert entry.extra is None or f"bitsearch[{entry.extra}]" in row


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.modules])
def test_a_missing_module_is_named_with_the_command_that_installs_it(name, deploy, monkeypatch, tmp_path):
    entry = FORMATS[name]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    packages = {package.partition(">")[0] for package in extras[entry.extra]}
    absent = [module for module in entry.modules if importlib.util.find_spec(module) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed: pip install 'bitsearch[{entry.extra}]'")
    for module in entry.modules:
        assert module in packages
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            with pytest.raises(InputError) as refused:
                entry.export(ExportRequest(None, None, None, tmp_path / "none"))
        assert str(refused.value) == f"{module} is not installed; run: pip install 'bitsearch[{entry.extra}]'"


@pytest.mark.processes
def test_formats_are_named_without_torch():
    script = "import sys, bitsearch.cli.deploy; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
