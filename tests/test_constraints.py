"""The versions that everybody installs."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINNED = [Requirement(line) for line in LINES if not line.startswith("#")]
PROPRIETARY = {"akida"}
"""Extras that users install by themselves, under a licence of their own; nothing here installs them."""
PYTHONS = ("3.11.0", "3.11.7", "3.12.1")


def declared():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name not in PROPRIETARY]
    groups = [content["build-system"]["requires"], project["dependencies"], *extras]
    return sorted({line for group in groups for line in group})


@pytest.mark.parametrize("line", declared())
def test_what_is_declared_is_pinned_within_its_range(line):
    wanted = Requirement(line)
    for python in PYTHONS:
        environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
        pins = [
            pin
            for pin in PINNED
            if canonicalize_name(pin.name) == canonicalize_name(wanted.name)
            and (pin.marker is None or pin.marker.evaluate(environment))
        ]
        assert len(pins) == 1, (line, python)
        (version,) = pins[0].specifier
        assert version.operator == "=="
        assert version.version in wanted.specifier


def test_what_is_proprietary_is_installed_by_nothing_else():
    assert not {pin.name for pin in PINNED} & PROPRIETARY
    assert not {Requirement(line).name for line in declared()} & PROPRIETARY


def test_no_address_is_in_the_file():
    assert not [line for line in LINES if "://" in line or line.startswith("-")]
    assert all(pin.url is None for pin in PINNED)
