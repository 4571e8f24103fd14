"""Networks and data sets are made by factories: found by a name, or by ``package.module:name``, and called here."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from bitsearch.errors import InputError, located, suggestion
from bitsearch.plug_ins import load_plug_in, plug_ins

Factory = Callable[..., Any]
OBJECT = " (object)"
"""End of the name of what a Python program brought itself: no factory makes it again."""

_OPTION_SOURCES = {
    "network": "network_options or --model-arg",
    "data set": "data_options or --data-arg",
    "optimizer": "training.optimizer_options",
    "metric": "task.metric_options",
}
"""Settings for the options of each kind of factory, named in messages."""


def is_import_path(name: str) -> bool:
    """True for a ``package.module:name``; looking one up runs code that is not bitsearch's."""
    return ":" in name


def import_path(factory: Factory, kind: str) -> str:
    """``package.module:name`` of a factory that a Python program has; InputError if it cannot be imported by it."""
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if module in (None, "__main__") or getattr(sys.modules.get(str(module)), str(name), None) is not factory:
        raise InputError(
            f"{kind} {name or factory!r} cannot be imported by a run that goes on; define it at the top of a module, "
            "or give the name of one, package.module:name"
        )
    return f"{module}:{name}"


def find_factory(name: str, table: Mapping[str, Factory], kind: str) -> Factory:
    """Look up or import the factory with this name.

    Args:
        name: a key of ``table``; one that an installed package declares (:mod:`bitsearch.plug_ins`); or
            ``package.module:name`` of an importable callable. The working directory is importable as well, behind all
            that is installed, so that no file in it takes a library's place.
        table: bitsearch's own factories, by name.
        kind: "network" or "data set", for the message.

    Raises:
        InputError: no such name, module or attribute, it is not callable, or its module cannot be run.
    """
    if name in table:
        return table[name]
    module_name, colon, attribute = name.partition(":")
    if name.endswith(OBJECT):
        raise InputError(
            f"{kind} {name!r} was an object of a Python program, which no command can make again; use "
            "bitsearch.load(FOLDER, network) there"
        )
    if not colon:
        plug_in: Any = load_plug_in(kind, name)
        known = [*table, *plug_ins(kind)]
        if plug_in is None:
            raise InputError(
                f"no {kind} named {name!r}; known: {', '.join(sorted(known))}; or give your own as package.module:name"
                f"{suggestion(name, known)}"
            )
        if not callable(plug_in):
            raise InputError(f"{kind} {name!r} of a package is {type(plug_in).__name__}, which cannot be called")
        return plug_in  # type: ignore[no-any-return]  # called by whoever asked for it
    module = _import(module_name, f"{kind} {name!r}")
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InputError(f"{kind} {name!r}: {module_name} has no callable {attribute!r}{_available_callables(module)}")
    result: Factory = factory
    return result


def build(
    name: str, options: Mapping[str, Any], table: Mapping[str, Factory], kind: str, defaults: Mapping[str, Any]
) -> Any:
    """Find the factory and :func:`call` it."""
    return call(find_factory(name, table, kind), name, options, kind, defaults)


def call(factory: Factory, name: str, options: Mapping[str, Any], kind: str, defaults: Mapping[str, Any]) -> Any:
    """Call ``factory`` with those keywords that it accepts, and return its result.

    Args:
        factory: function or class.
        name: of the factory, for the message.
        options: keywords that the factory has to accept.
        kind: "network" or "data set", for the message.
        defaults: keywords that the factory gets if it accepts them and ``options`` does not set them.

    Raises:
        InputError: the factory does not accept an option, needs another one, or fails; the message has the place in
            the user's code.
    """
    label = f"{kind} {name!r}"
    parameters = _parameters(factory)
    names = [parameter.name for parameter in parameters if parameter.kind in (_POSITIONAL_OR_KEYWORD, _KEYWORD_ONLY)]
    has_var_keyword = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    unknown = {key: value for key, value in options.items() if key not in names and not has_var_keyword}
    if unknown:
        accepted = [key for key in names if key not in defaults]
        raise InputError(
            f"{label} does not take {unknown!r}; its options: {', '.join(accepted) or 'none'}; correct "
            f"{_OPTION_SOURCES[kind]}{suggestion(next(iter(unknown)), accepted)}"
        )
    keywords = {key: value for key, value in defaults.items() if key in names} | dict(options)
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and parameter.name not in keywords
    ]
    if missing:
        available = ", ".join([*defaults, *(key for key in options if key not in defaults)])
        raise InputError(
            f"{label} needs {', '.join(missing)}, not given; set it in {_OPTION_SOURCES[kind]}; there is: {available}"
        )
    try:
        if not has_var_keyword:
            return factory(**keywords)
        try:
            return factory(**{**defaults, **keywords})
        except TypeError as error:
            # A factory that passes its keywords on, as torchvision's networks do, may refuse a default only there.
            if not any(_refuses(error, key) for key in defaults if key not in keywords):
                raise
        return factory(**keywords)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, TypeError) and any(_refuses(error, key) for key in options):
            raise InputError(
                f"{label} does not take {dict(options)!r}: {error}; correct {_OPTION_SOURCES[kind]}"
            ) from error
        raise InputError(f"{label} failed at {located(error)}") from error


_POSITIONAL_OR_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


def _parameters(factory: Factory) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(factory).parameters.values())
    except ValueError:
        # A factory that is written in C may have no signature.
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
        # A missing module that the named module imports is a fault inside the latter.
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
    faulty_module = getattr(error, "name", None) if isinstance(error, ImportError) else None
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        faulty_module = error.obj.__name__
    clash = _clash(faulty_module) if faulty_module else None
    return InputError(f"{label}: importing {module_name} failed at {located(error)}{f'; {clash}' if clash else ''}")


def _clash(module_name: str) -> str | None:
    """A sentence on the file of the working directory that has the name of an importable module; None without one."""
    top = module_name.partition(".")[0]
    local_spec = PathFinder.find_spec(top, [str(Path.cwd())])
    if local_spec is None or local_spec.origin is None:
        return None
    if top in sys.stdlib_module_names:
        module_words = "a module of Python's own"
    else:
        library_paths = [entry for entry in sys.path if Path(entry or ".").resolve() != Path.cwd().resolve()]
        spec = PathFinder.find_spec(top, library_paths)
        installed_file = getattr(sys.modules.get(top), "__file__", None) or (spec.origin if spec else None)
        if installed_file is None or Path(installed_file).resolve() == Path(local_spec.origin).resolve():
            return None
        module_words = f"the installed module {installed_file}"
    origin = Path(local_spec.origin)
    file = origin.parent if origin.name == "__init__.py" else origin
    return f"{file.name} in the working directory has the name of {module_words}; rename yours"


def _available_callables(module: ModuleType) -> str:
    names = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and not key.startswith("_")
    ]
    return f"; it has: {', '.join(names)}" if names else ""
