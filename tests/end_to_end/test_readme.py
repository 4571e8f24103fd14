"""What the README shows is what works."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from bitsearch.cli import app
from bitsearch.cost import METRICS, CostModel
from bitsearch.plan import BitPlan

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.training
def test_the_search_example_runs(tmp_path, monkeypatch, tiny_space_text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tiny_space_text, encoding="utf-8")
    names = {}
    exec(blocks("python")[0].replace('"digits"', '"tiny.toml"').replace("trials=12", "trials=1"), names)
    assert isinstance(names["result"].best, BitPlan)
    assert names["result"].best.layers["conv2"].weight_bits >= 1
    assert len(names["result"].front) >= 1
    assert names["result"].folder.report_file.is_file()


@pytest.mark.training
def test_the_training_loop_example_ends_within_the_budget():
    names = {}
    exec(blocks("python")[1], names)
    model: CostModel = names["network"].model
    assert model.cost("bit_budget", names["layers"]) <= 16.0
    assert len({layer.weight_bits for layer in names["layers"].values()}) > 1


def test_every_command_and_option_shown_exists():
    commands = get_command(app).commands
    shown = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    lines = [shlex.split(line) for line in shown if line.startswith("bitsearch ")]
    assert len(lines) >= 8
    for _, name, *arguments in lines:
        command = commands[name]
        if hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= known


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_explained(metric):
    assert f"| `{metric}` |" in README


def test_every_file_linked_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
