"""What docs/step-by-step.md shows is what works: its files as they stand, and its commands."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from bitsearch.cli import main
from bitsearch.declared_neuron import DeclaredNeuron
from bitsearch.frameworks import declared
from bitsearch.space import SearchSpace

PAGE = (Path(__file__).parents[2] / "docs/step-by-step.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with the page's files in it."""
    for text in blocks("python"):
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    for text in blocks("toml"):
        (tmp_path / f"{tomllib.loads(text)['name']}.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(declared._DECLARED)
    yield tmp_path
    declared._DECLARED.clear()
    declared._DECLARED.update(before)
    for name in ("mysteps", "mylif"):
        sys.modules.pop(name, None)


def shown(line, monkeypatch, capsys):
    """What a command of the page prints."""
    monkeypatch.setattr("sys.argv", shlex.split(line))
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return printed.out


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def test_the_network_of_snntorch_is_converted_as_the_page_says(work, monkeypatch, capsys):
    pytest.importorskip("snntorch")
    text = shown(COMMANDS[0], monkeypatch, capsys)
    for words in ("the refined neuron of fc2", "the refined neuron of fc3", "left as it is: its membrane is read"):
        assert words in text


def test_declared_neurons_are_converted(work, monkeypatch, capsys):
    assert len(COMMANDS) == 2
    text = shown(COMMANDS[1], monkeypatch, capsys)
    for words in ("the refined neuron of fc", "the refined neuron of head"):
        assert words in text


def test_the_declaration_names_all_that_can_be_said():
    (text,) = blocks("toml")
    (neuron,) = SearchSpace.from_toml(text).neurons.values()
    assert neuron == DeclaredNeuron(decay="beta", threshold="threshold", states={"v": "None"})
    assert set(tomllib.loads(text)["neurons"]["mylif:Lif"]) | {"tau"} == set(DeclaredNeuron.model_fields)


def test_the_files_know_nothing_of_bitsearch():
    assert all("bitsearch" not in text for text in blocks("python"))
