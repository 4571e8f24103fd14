import sys

import pytest

from bitsearch.errors import InputError
from bitsearch.registry import build, find_factory

SOURCE = """
NUMBER = 3

def make(*, size=1):
    return ["made"] * size

class Thing:
    def __init__(self, *, colour):
        self.colour = colour

def broken():
    raise RuntimeError("inside the factory")
"""


def known(**options):
    return options


TABLE = {"known": known, "another": dict}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of an importable package's module with factories in it."""
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "factories.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_package.factories"
    for name in ("own_package", "own_package.factories"):
        sys.modules.pop(name, None)


def refusal(name, options=None):
    """The message of the InputError, checked to be one line."""
    with pytest.raises(InputError) as caught:
        build(name, options or {}, TABLE, "network")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_a_name_of_the_table():
    assert find_factory("known", TABLE, "network") is known
    assert build("known", {"a": 1}, TABLE, "network") == {"a": 1}


def test_a_users_own_function_and_class(module):
    assert build(f"{module}:make", {"size": 2}, TABLE, "network") == ["made", "made"]
    assert build(f"{module}:Thing", {"colour": "red"}, TABLE, "network").colour == "red"


def test_the_working_directory_is_importable(tmp_path, monkeypatch):
    (tmp_path / "beside_the_user.py").write_text("def make():\n    return 'here'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert build("beside_the_user:make", {}, TABLE, "network") == "here"
    sys.modules.pop("beside_the_user")


@pytest.mark.parametrize("name", ["knwon", "", "own_package.factories", "Known"])
def test_an_unknown_name_lists_the_known_ones(name):
    message = refusal(name)
    assert f"no network named {name!r}" in message
    assert "known: another, known" in message
    assert "package.module:name" in message


def test_a_module_that_cannot_be_imported(module):
    assert "cannot import 'own_package.missing'" in refusal("own_package.missing:make")
    assert "cannot import 'no_such_package'" in refusal("no_such_package:make")


@pytest.mark.parametrize("name", [":make", ".relative:make"])
def test_a_module_name_that_python_does_not_take(name):
    assert repr(name) in refusal(name)


@pytest.mark.parametrize("attribute", ["missing", "NUMBER", "", "make:make", "Thing.colour"])
def test_an_attribute_that_is_missing_or_not_callable(module, attribute):
    assert f"{module} has no callable {attribute!r}" in refusal(f"{module}:{attribute}")


def test_options_that_the_factory_does_not_take(module):
    message = refusal(f"{module}:make", {"sise": 2})
    assert "does not take {'sise': 2}" in message
    assert f"'{module}:make'" in message
    assert "does not take {}" in refusal(f"{module}:Thing")


def test_other_errors_of_the_factory_are_its_own(module):
    with pytest.raises(RuntimeError, match="inside the factory"):
        build(f"{module}:broken", {}, TABLE, "network")
