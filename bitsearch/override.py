"""Settings of a command line, ``training.epochs=3``, put into the content of a TOML file."""

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from bitsearch.errors import InputError


def override(content: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """``content`` with every ``KEY=VALUE`` of ``settings`` in it, the last of those that name the same key.

    Dots in KEY lead into tables, which are made where there are none. VALUE is TOML: ``3``, ``0.1``, ``true``,
    ``[1, 2]``, ``"text"``; what is no TOML number, truth value, text, list or table stands for itself, as in
    ``data_options.root=/data``.

    Raises:
        InputError: not of that form, or KEY leads into something that is no table.
    """
    found = deepcopy(dict(content))
    for setting in settings:
        key, equals, text = setting.partition("=")
        *path, last = (name.strip() for name in key.split("."))
        if not equals or not all((*path, last)):
            raise InputError(f"{setting!r} sets nothing; give KEY=VALUE, such as training.epochs=3")
        table: Any = found
        for depth, name in enumerate(path, start=1):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                where = ".".join(path[:depth])
                raise InputError(f"{setting!r} cannot be set: {where} is {table!r}, no table; set {where} as a whole")
        table[last] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # A line break would let a value bring further keys along; dates are no setting of anything.
    whole = set(found) == {"value"} and isinstance(found["value"], str | int | float | list | dict)
    return found["value"] if whole else text
