"""Finding a factory by name, or a user's own by ``package.module:name``."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bitsearch.errors import InputError


def find_factory(name: str, table: Mapping[str, Callable[..., Any]], what: str) -> Callable[..., Any]:
    """The factory that ``name`` stands for.

    Args:
        name: a key of ``table``, or ``package.module:name`` of an importable callable; the working directory is
            importable as well.
        table: what bitsearch has by name.
        what: "network" or "data set", for the message.

    Raises:
        InputError: no such name, module or attribute, or it is not callable.
    """
    if name in table:
        return table[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(
            f"no {what} named {name!r}; known: {', '.join(sorted(table))}; or give your own as package.module:name"
        )
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if not module_name or module_name.startswith("."):
        raise InputError(f"{what} {name!r}: give the module's whole name, package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{what} {name!r}: cannot import {module_name!r} ({error})") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InputError(f"{what} {name!r}: {module_name} has no callable {attribute!r}")
    found: Callable[..., Any] = factory
    return found


def build(name: str, options: Mapping[str, Any], table: Mapping[str, Callable[..., Any]], what: str) -> Any:
    """Call the factory with keyword ``options``; InputError if its signature does not take them."""
    factory = find_factory(name, table, what)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise InputError(f"{what} {name!r} does not take {dict(options)!r}: {error}") from error
    try:
        return factory(**options)
    except TypeError as error:
        # A factory that hands its keywords on refuses them only here; any other TypeError is a fault of its own.
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"{what} {name!r} does not take {dict(options)!r}: {error}") from error
