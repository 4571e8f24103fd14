"""What users, docs, messages and published files name is exported from the package itself."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bitsearch

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def python_blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("name", bitsearch.__all__)
def test_every_name_is_there_and_documented(name):
    value = getattr(bitsearch, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)
    if inspect.isfunction(value):
        assert inspect.signature(value).return_annotation is not inspect.Signature.empty


def test_search_is_a_function():
    importlib.import_module("bitsearch.study.run")
    assert inspect.isfunction(bitsearch.search)
    assert list(inspect.signature(bitsearch.search).parameters)[:3] == ["source", "data", "budget"]


def test_names_are_listed_and_unknown_ones_refused():
    assert set(bitsearch.__all__) <= set(dir(bitsearch))
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        bitsearch.serach  # noqa: B018


def test_no_public_name_is_that_of_a_module():
    """Importing the module would put it in the name's place."""
    assert {module.name for module in pkgutil.iter_modules(bitsearch.__path__)}.isdisjoint(bitsearch.__all__)


def test_the_package_imports_without_torch():
    script = "import sys, bitsearch; dir(bitsearch); bitsearch.BitPlan; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_types_are_published():
    assert (Path(bitsearch.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_the_docs_name_is_exported(page):
    """In Python blocks, everything that is taken from bitsearch; in prose, every `bitsearch.NAME`."""
    named = set(re.findall(r"`bitsearch\.([A-Za-z_]+)\(", page.read_text(encoding="utf-8")))
    for block in python_blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bitsearch"):
                assert node.module == "bitsearch", f"{page.name} imports from {node.module}"
                named |= {alias.name for alias in node.names}
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bitsearch":
                named.add(node.attr)
    assert named <= set(bitsearch.__all__)


def test_messages_and_cards_name_what_is_exported():
    """String constants of the package that speak to people, not docstrings."""
    named = set()
    for path in (ROOT / "bitsearch").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                named |= set(re.findall(r"\bbitsearch\.([a-z_]+)\(", node.value))
    for path in (ROOT / "bitsearch").rglob("*.jinja"):
        named |= set(re.findall(r"\bbitsearch\.([a-z_]+)\(", path.read_text(encoding="utf-8")))
    assert {"rebuild", "search", "measure_activity"} <= named
    assert named <= set(bitsearch.__all__)


@pytest.fixture(scope="module")
def examples(tiny_space, finished_run, tmp_path_factory):
    """(folder that the examples run in, names that they use): a small search space, and a finished run in ``run``."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(finished_run.folder.path, folder / "run")
    return folder, {"bitsearch": bitsearch, "torch": torch, "Path": Path, "space": tiny_space}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in bitsearch.__all__
        if inspect.isfunction(value := getattr(bitsearch, name)) or inspect.isclass(value)
    ],
)
def test_every_function_and_class_has_an_example_that_runs(name, examples, monkeypatch):
    folder, example_names = examples
    monkeypatch.chdir(folder)
    run_examples(getattr(bitsearch, name), example_names)


@pytest.mark.parametrize(
    "module", sorted(info.name for info in pkgutil.walk_packages(bitsearch.__path__, "bitsearch."))
)
def test_other_examples_run(module):
    if module == "bitsearch.__main__":
        return
    library = module.rpartition(".")[2]
    if module in (f"bitsearch.frameworks.{name}" for name in ("norse", "sinabs")):
        pytest.importorskip(library, reason=f"{library} is not installed; make frameworks runs these tests")
    names = vars(importlib.import_module(module))
    defined = [value for value in names.values() if getattr(value, "__module__", None) == module]
    exported = {id(getattr(bitsearch, name)) for name in bitsearch.__all__}
    for value in defined:
        if id(value) not in exported and ">>>" in (inspect.getdoc(value) or ""):
            run_examples(value, names)


def run_examples(value, names):
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(value, globs=dict(names)) if test.examples]
    assert tests, f"{value} has no example"
    for test in tests:
        output = []
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
        assert results.failed == 0, "".join(output)
