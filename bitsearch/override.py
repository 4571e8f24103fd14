"""The command line's ``--set KEY=VALUE``, such as ``training.epochs=3``, applied to the content of a TOML file."""

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from bitsearch.errors import InputError


def override(content: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of ``content`` with every ``KEY=VALUE`` of ``settings`` applied in order.

    Dots in KEY lead into tables; missing tables are made. VALUE is TOML: ``3``, ``0.1``, ``true``, ``[1, 2]``,
    ``"text"``. Text that is no TOML number, truth value, text, list or table is taken literally, as in
    ``data_options.root=/data``.

    Raises:
        InputError: a setting has another form, or a dot of KEY follows a name that is no table.
    """
    result = deepcopy(dict(content))
    for setting in settings:
        key, equals, text = setting.partition("=")
        *path, leaf = (name.strip() for name in key.split("."))
        if not equals or not all((*path, leaf)):
            raise InputError(f"{setting!r} sets nothing; give KEY=VALUE, such as training.epochs=3")
        table: Any = result
        for depth, name in enumerate(path, start=1):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                prefix = ".".join(path[:depth])
                raise InputError(f"{setting!r} cannot be set: {prefix} is {table!r}, no table; set {prefix} as a whole")
        table[leaf] = _value(text)
    return result


def _value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # A value with a line break could set further keys; no setting is a date.
    is_single_value = set(document) == {"value"} and isinstance(document["value"], str | int | float | list | dict)
    return document["value"] if is_single_value else text
