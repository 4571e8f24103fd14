import sys

import pytest
from torch import nn

from bitsearch.errors import InputError
from bitsearch.registry import build, find_factory, is_import_path

SOURCE = """
NUMBER = 3

def make(*, size=1):
    return ["made"] * size

def of_the_data(input_shape, classes, width=4):
    return (input_shape, classes, width)

def shape_only(input_shape):
    return input_shape

def whatever(**options):
    return options

def hands_on(**options):
    return make(**options)

def needs(classes, depth, *, width):
    return (classes, depth, width)

class Thing:
    def __init__(self, *, colour):
        self.colour = colour

def broken():
    raise RuntimeError("inside the factory")

def wrong_inside():
    return make(sise=3)
"""


def known(**options):
    return options


TABLE = {"known": known, "another": dict}
OFFERED = {"input_shape": (1, 8, 8), "classes": 10}


@pytest.fixture
def module(own_module):
    """The name of an importable package's module with factories in it."""
    return own_module("own_package.factories", SOURCE)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Write a module of this dotted name into a working directory that is on nobody's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)

    def write(name, source):
        *packages, file = name.split(".")
        folder = tmp_path.joinpath(*packages)
        folder.mkdir(parents=True, exist_ok=True)
        for depth in range(len(packages)):
            tmp_path.joinpath(*packages[: depth + 1], "__init__.py").touch()
        (folder / f"{file}.py").write_text(source, encoding="utf-8")
        return name

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def made(name, options=None, offered=None):
    return build(name, options or {}, TABLE, "network", offered or {})


def refusal(name, options=None, offered=None):
    """The message of the InputError, checked to be one line."""
    with pytest.raises(InputError) as caught:
        made(name, options, offered)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert repr(name) in message
    return message


def test_a_name_of_the_table():
    assert find_factory("known", TABLE, "network") is known
    assert made("known", {"a": 1}) == {"a": 1}
    assert made("another", {"a": 1}) == {"a": 1}
    assert not is_import_path("known")


def test_a_users_own_function_and_class(module):
    assert made(f"{module}:make", {"size": 2}) == ["made", "made"]
    assert made(f"{module}:Thing", {"colour": "red"}).colour == "red"
    assert is_import_path(f"{module}:make")


@pytest.mark.parametrize("name", ["knwon", "", "own_package.factories", "Known"])
def test_an_unknown_name_lists_the_known_ones(name):
    message = refusal(name)
    assert f"no network named {name!r}" in message
    assert "known: another, known" in message
    assert "package.module:name" in message


# Imports.


def test_the_working_directory_is_importable_behind_what_is_installed(own_module, tmp_path):
    own_module("beside_the_user", "def make():\n    return 'here'\n")
    # A stray file does not take the place of Python's own module, which a library may import any time later.
    own_module("colorsys", "raise RuntimeError('never run')\n")
    assert made("beside_the_user:make") == "here"
    assert sys.path[-1] == str(tmp_path)


def test_a_package_with_imports_inside(own_module):
    own_module("own_nets.blocks", "def block():\n    return 'block'\n")
    own_module("own_nets.deep.nets", "from ..blocks import block\n\ndef make():\n    return [block()]\n")
    assert made("own_nets.deep.nets:make") == ["block"]


def test_a_folder_without_init_is_a_package_too(tmp_path, own_module):
    (tmp_path / "own_folder").mkdir()
    (tmp_path / "own_folder" / "nets.py").write_text("from .parts import make\n", encoding="utf-8")
    (tmp_path / "own_folder" / "parts.py").write_text("def make():\n    return 'made'\n", encoding="utf-8")
    assert made("own_folder.nets:make") == "made"


def test_a_module_that_cannot_be_imported(module):
    assert "cannot import 'own_package.missing'" in refusal("own_package.missing:make")
    assert "cannot import 'no_such_package.nets'" in refusal("no_such_package.nets:make")
    assert "is not a package" in refusal(f"{module}.deeper:make")


@pytest.mark.parametrize("name", [":make", ".relative:make", "own..nets:make"])
def test_a_module_name_that_python_does_not_take(name):
    assert "give the module's whole name" in refusal(name)


@pytest.mark.parametrize("name", ["nets/own.py:make", "nets/own:make", "./nets/own.py:make", "nets\\own.py:make"])
def test_a_path_in_the_place_of_a_module(name):
    assert "is a path; give the module's name, such as nets.own:name" in refusal(name)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import torch\n\ndef make(:\n", "own_nets.py:3: SyntaxError: "),
        ("import torch\nif True:\nx = 1\n", "own_nets.py:3: IndentationError: "),
        ("\nraise ValueError('two\\nlines')\n", "own_nets.py:2: ValueError: two lines"),
        ("import no_such_library\n", "own_nets.py:1: ModuleNotFoundError: No module named 'no_such_library'"),
        ("from torch import no_such_thing\n", "own_nets.py:1: ImportError: cannot import name 'no_such_thing'"),
        ("import sys\nsys.exit('usage')\n", "own_nets.py:2: SystemExit: usage"),
        ("import own_nets.blocks\n", "own_nets.py:1: ModuleNotFoundError: "),
    ],
)
def test_a_module_that_fails_names_its_line(own_module, source, said):
    own_module("own_nets", source)
    assert f"importing own_nets failed at {said}" in refusal("own_nets:make")


def test_the_cause_is_chained_for_a_python_caller(own_module):
    own_module("own_nets", "raise OSError('disk')\n")
    with pytest.raises(InputError) as caught:
        made("own_nets:make")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("colorsys", "a module of Python's own"),
        ("random", "a module of Python's own"),
        ("torch", "the installed module "),
        ("pytest.nets", "the installed module "),
    ],
)
def test_a_file_with_the_name_of_an_installed_module(own_module, name, other):
    own_module(name, "def make():\n    return 1\n")
    file = "pytest" if "." in name else f"{name}.py"
    message = refusal(f"{name}:make")
    assert f"{file} in the working directory has the name of {other}" in message
    assert message.endswith("; rename yours")


def test_a_module_that_meant_to_import_a_file_with_the_name_of_an_installed_one(own_module):
    own_module("colorsys", "def mine():\n    return 1\n")
    own_module("own_nets", "from colorsys import mine\n")
    assert "colorsys.py in the working directory has the name of" in refusal("own_nets:make")
    own_module("own_other_nets", "import colorsys\nx = colorsys.mine()\n")
    assert "colorsys.py in the working directory has the name of" in refusal("own_other_nets:make")


@pytest.mark.parametrize("attribute", ["missing", "NUMBER", "", "make:make", "Thing.colour"])
def test_an_attribute_that_is_missing_or_not_callable(module, attribute):
    message = refusal(f"{module}:{attribute}")
    assert f"{module} has no callable {attribute!r}; it has: make, " in message


# Signatures.


def test_a_factory_gets_what_it_takes_of_what_is_offered(module):
    assert made(f"{module}:of_the_data", {"width": 8}, OFFERED) == ((1, 8, 8), 10, 8)
    assert made(f"{module}:shape_only", {}, OFFERED) == (1, 8, 8)
    assert made(f"{module}:make", {}, OFFERED) == ["made"]
    assert made(f"{module}:whatever", {"width": 8}, OFFERED) == {**OFFERED, "width": 8}


def test_options_stand_before_what_is_offered(module):
    assert made(f"{module}:of_the_data", {"classes": 5}, OFFERED) == ((1, 8, 8), 5, 4)
    assert made(f"{module}:whatever", {"classes": 5}, OFFERED)["classes"] == 5


def test_a_factory_that_hands_its_keywords_on_need_not_take_what_is_offered(module):
    assert made(f"{module}:hands_on", {"size": 2}, OFFERED) == ["made", "made"]
    linear = made("torch.nn:Sequential", {}, OFFERED)
    assert isinstance(linear, nn.Sequential)


def test_options_that_the_factory_does_not_take(module):
    message = refusal(f"{module}:of_the_data", {"widht": 2, "width": 3}, OFFERED)
    assert "does not take {'widht': 2}; its options: width;" in message
    assert "network_options or --model-arg" in message
    assert "its options: none" in refusal(f"{module}:broken", {"size": 2})
    assert "does not take {'sise': 2}: make() got an unexpected keyword argument 'sise'" in refusal(
        f"{module}:hands_on", {"sise": 2}, OFFERED
    )


def test_what_a_factory_needs_and_nobody_gives(module):
    message = refusal(f"{module}:needs", {"depth": 2}, OFFERED)
    assert (
        "needs width, not given; set it in network_options or --model-arg; there is: input_shape, classes, depth"
        in (message)
    )
    assert "needs depth, width, not given" in refusal(f"{module}:needs", {}, OFFERED)


def test_a_factory_that_fails_names_its_line(module):
    line = SOURCE.splitlines().index('    raise RuntimeError("inside the factory")') + 1
    place = f"own_package/factories.py:{line}"
    assert f"failed at {place}: RuntimeError: inside the factory" in refusal(f"{module}:broken")
    assert f"failed at own_package/factories.py:{line + 3}: TypeError: " in refusal(f"{module}:wrong_inside")


def test_a_refusal_from_inside_a_factory_stays_what_it_is(own_module):
    own_module("own_nets", "from bitsearch import InputError\n\ndef make():\n    raise InputError('no such folder')\n")
    with pytest.raises(InputError, match=r"^no such folder$"):
        made("own_nets:make")
