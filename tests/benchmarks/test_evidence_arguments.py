"""The arguments of the evidence's commands."""

from pathlib import Path

import pytest

from benchmarks.evidence import command


def test_a_command_has_what_it_names_and_what_all_have():
    parser = command.parser("What it is.", space="digits", seeds=3)
    found = vars(parser.parse_args(["--out", "here", "--set", "a=1", "--set", "b=2", "--seeds", "5"]))
    assert found == {
        "space": "digits",
        "seeds": 5,
        "set": ["a=1", "b=2"],
        "minutes": float("inf"),
        "out": Path("here"),
    }


def test_a_command_without_a_space_takes_no_settings(capsys):
    with pytest.raises(SystemExit):
        command.parser(None, overrides=False).parse_args(["--out", "here", "--set", "a=1"])
    assert "--set" in capsys.readouterr().err
