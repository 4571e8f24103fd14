"""One version everywhere, and the supported ones as they are declared."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import bitsearch
from bitsearch.deploy.integer.packed_file import READABLE

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SUPPORTED = dict(
    re.findall(
        r"^\| ([^|]+?) \| ([^|]+?) \|$",
        (ROOT / "docs" / "index.md").read_text(encoding="utf-8").partition("## Supported versions")[2],
        re.MULTILINE,
    )
)


def test_the_newest_dated_changes_are_those_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", text, re.MULTILINE)[0]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version == bitsearch.__version__ == citation["version"]
    assert date == str(citation["date-released"])


def test_the_changes_in_detail_have_the_same_versions():
    heading = re.compile(r"^## (\d.+)$", re.MULTILINE)
    brief, detailed = (
        heading.findall((ROOT / page).read_text(encoding="utf-8")) for page in ("CHANGELOG.md", "docs/changes.md")
    )
    assert brief == detailed


def test_the_supported_versions_are_the_declared_ones():
    pythons = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert SUPPORTED["Python"].split(", ") == pythons
    for page in ("README.md", "docs/index.md"):
        assert "Python 3.11, 3.12 or 3.13" in (ROOT / page).read_text(encoding="utf-8")
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    ranges = {Requirement(line).name: Requirement(line).specifier for line in PROJECT["dependencies"]}
    lowest, limit = re.match(r"from (\S+) on, below (\S+);", SUPPORTED["torch"]).groups()
    assert ranges["torch"] == f">={lowest},<{limit}"
    for library, name in {"spikingjelly": "SpikingJelly", "optuna": "Optuna"}.items():
        major = int(SUPPORTED[name])
        assert f"{major}.0" in ranges[library]
        assert f"{major + 1}.0" not in ranges[library]
    first, last = re.search(r"formats (\d+) to (\d+)$", SUPPORTED[list(SUPPORTED)[-1]]).groups()
    assert tuple(map(str, range(int(first), int(last) + 1))) == READABLE
