"""Every benchmark is a command that begins: what it imports of the project is there."""

import importlib.util
import os
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"sanafe", "hgq", "keras"}
"""Installed by hand, in environments of their own."""
COMMANDS = sorted((ROOT / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_benchmark_imports_what_there_is(path):
    spec = importlib.util.spec_from_file_location("a_benchmark", path)
    try:
        # Some set variables for libraries that they import.
        with patch.dict(os.environ):
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except ModuleNotFoundError as error:
        if error.name not in ELSEWHERE:
            raise
