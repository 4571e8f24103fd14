"""Finding a factory by name, or a user's own by ``package.module:name``, and calling it with what it takes."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from bitsearch.errors import InputError, located

Factory = Callable[..., Any]

_WHERE = {"network": "network_options or --model-arg", "data set": "data_options or --data-arg"}
"""Where the options of each kind of factory are given."""


def is_import_path(name: str) -> bool:
    """True for a ``package.module:name``, finding which runs code of the user's."""
    return ":" in name


def find_factory(name: str, table: Mapping[str, Factory], what: str) -> Factory:
    """The factory that ``name`` stands for.

    Args:
        name: a key of ``table``, or ``package.module:name`` of an importable callable; the working directory is
            importable as well, behind all that is installed, so that no file in it takes a library's place.
        table: what bitsearch has by name.
        what: "network" or "data set", for the message.

    Raises:
        InputError: no such name, module or attribute, it is not callable, or its module cannot be run.
    """
    if name in table:
        return table[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(
            f"no {what} named {name!r}; known: {', '.join(sorted(table))}; or give your own as package.module:name"
        )
    module = _import(module_name, f"{what} {name!r}")
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InputError(f"{what} {name!r}: {module_name} has no callable {attribute!r}{_what_it_has(module)}")
    found: Factory = factory
    return found


def build(
    name: str, options: Mapping[str, Any], table: Mapping[str, Factory], what: str, offered: Mapping[str, Any]
) -> Any:
    """Find the factory and :func:`call` it."""
    return call(find_factory(name, table, what), name, options, what, offered)


def call(factory: Factory, name: str, options: Mapping[str, Any], what: str, offered: Mapping[str, Any]) -> Any:
    """What ``factory`` makes of keywords.

    Args:
        factory: function or class.
        name: of the factory, for the message.
        options: keywords that it has to take.
        what: "network" or "data set", for the message.
        offered: keywords that it gets where it takes them and ``options`` does not set them.

    Raises:
        InputError: it does not take the options, needs more, or fails; the message has the place in the user's code.
    """
    label = f"{what} {name!r}"
    parameters = _parameters(factory)
    named = [parameter.name for parameter in parameters if parameter.kind in (_EITHER, _KEYWORD)]
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    unknown = {key: value for key, value in options.items() if key not in named and not takes_all}
    if unknown:
        taken = ", ".join(key for key in named if key not in offered) or "none"
        raise InputError(f"{label} does not take {unknown!r}; its options: {taken}; correct {_WHERE[what]}")
    surely = {key: value for key, value in offered.items() if key in named} | dict(options)
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and parameter.name not in surely
    ]
    if missing:
        there = ", ".join([*offered, *(key for key in options if key not in offered)])
        raise InputError(f"{label} needs {', '.join(missing)}, not given; set it in {_WHERE[what]}; there is: {there}")
    try:
        if not takes_all:
            return factory(**surely)
        try:
            return factory(**{**offered, **surely})
        except TypeError as error:
            # What hands its keywords on, as torchvision's networks do, may refuse there what was only offered.
            if not any(_refuses(error, key) for key in offered if key not in surely):
                raise
        return factory(**surely)
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, TypeError) and any(_refuses(error, key) for key in options):
            raise InputError(f"{label} does not take {dict(options)!r}: {error}; correct {_WHERE[what]}") from error
        raise InputError(f"{label} failed at {located(error)}") from error


_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _parameters(factory: Factory) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(factory).parameters.values())
    except ValueError:
        # Written in C, and it does not say.
        return [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]


def _refuses(error: TypeError, key: str) -> bool:
    return f"unexpected keyword argument '{key}'" in str(error)


def _import(module_name: str, label: str) -> ModuleType:
    if "/" in module_name or "\\" in module_name or module_name.endswith(".py"):
        dotted = ".".join(Path(module_name.replace("\\", "/")).with_suffix("").parts).strip("./")
        raise InputError(f"{label}: {module_name} is a path; give the module's name, such as {dotted}:name")
    if not all(module_name.split(".")):
        raise InputError(f"{label}: give the module's whole name, package.module:name")
    importlib.invalidate_caches()
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    clash = _clash(module_name)
    if clash:
        raise InputError(f"{label}: {clash}")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # One that the module itself imports is a fault inside it.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed(label, module_name, error) from error
        raise InputError(
            f"{label}: cannot import {module_name!r} ({error}), neither from {Path.cwd()} nor as installed"
        ) from error
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a script without a guard ends itself
        raise _failed(label, module_name, error) from error


def _failed(label: str, module_name: str, error: BaseException) -> InputError:
    culprit = getattr(error, "name", None) if isinstance(error, ImportError) else None
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        culprit = error.obj.__name__
    clash = _clash(culprit) if culprit else None
    return InputError(f"{label}: importing {module_name} failed at {located(error)}{f'; {clash}' if clash else ''}")


def _clash(module_name: str) -> str | None:
    """What to say if a file of the working directory has the name of a module of Python's or an installed one."""
    top = module_name.partition(".")[0]
    here = PathFinder.find_spec(top, [str(Path.cwd())])
    if here is None or here.origin is None:
        return None
    if top in sys.stdlib_module_names:
        other = "a module of Python's own"
    else:
        elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != Path.cwd().resolve()]
        spec = PathFinder.find_spec(top, elsewhere)
        installed = getattr(sys.modules.get(top), "__file__", None) or (spec.origin if spec else None)
        if installed is None or Path(installed).resolve() == Path(here.origin).resolve():
            return None
        other = f"the installed module {installed}"
    origin = Path(here.origin)
    file = origin.parent if origin.name == "__init__.py" else origin
    return f"{file.name} in the working directory has the name of {other}; rename yours"


def _what_it_has(module: ModuleType) -> str:
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and not key.startswith("_")
    ]
    return f"; it has: {', '.join(own)}" if own else ""
