"""The scripts of examples/, each run as it lies there, in a folder that starts empty."""

import inspect
import runpy
from pathlib import Path

import pytest

from bitsearch import BitPlan, read

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
pytestmark = pytest.mark.training


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"))["main"]()


def test_learnable_bits(run, tmp_path):
    plan = run("learnable_bits")
    assert plan.met
    assert len({str(bits) for bits in plan.layers.values()}) > 1
    assert BitPlan.load(tmp_path / "plan.json") == plan
    assert (tmp_path / "weights.safetensors").is_file()


def test_without_training(run):
    table = run("without_training").sweep
    assert list(table["budget"]) == ["1.5x", "2x"]


def test_pins_and_ties(run):
    layers = run("pins_and_ties")
    assert (layers["classifier"].weight_bits, layers["classifier"].time_steps) == (8, 1)
    assert all(2 <= layers[name].weight_bits <= 6 for name in ("conv2", "conv3", "conv4"))
    assert layers["conv3"].spike_bits == layers["conv4"].spike_bits


def test_what_it_costs(run):
    costs = run("what_it_costs")
    generic, chip = costs["generic", 2, 2], costs["cortex_m4", 2, 2]
    assert (generic["weight_memory"], generic["bit_budget"]) == (chip["weight_memory"], chip["bit_budget"])
    assert generic["energy"] < costs["generic", 4, 4]["energy"] < chip["energy"]


def test_integers(run, tmp_path, capsys):
    assert run("integers") > 0.8
    assert "equal: True" in capsys.readouterr().out
    assert read(tmp_path / "digits.packed").plan is not None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_says_what_it_shows_and_has_a_test(path):
    text = path.read_text(encoding="utf-8")
    assert 30 <= len(text.splitlines()) <= 80
    assert text.startswith('"""')
    assert f"test_{path.stem}" in globals()
    assert inspect.signature(runpy.run_path(str(path))["main"]).parameters == {}
