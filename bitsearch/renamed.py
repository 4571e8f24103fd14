"""Old names of settings of ``[allocation]``, from before it had tables.

They are read wherever they can stand (a TOML file, a run folder, a study, ``--set``), and written nowhere.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from bitsearch.errors import InputError
from bitsearch.override import override
from bitsearch.parameters import Parameter, flatten

RENAMED = {
    "quantizer": "quantizer.form",
    "granularity": "quantizer.granularity",
    "temperature_rate": "quantizer.temperature_rate",
    "largest_level": "quantizer.max_level",
    "renewal": "renewal.enabled",
    "renewal_epochs": "renewal.epochs",
    "sensitivity": "sensitivity.metric",
    "ramp_steps": "ramp.steps",
    "refine_tries": "refine.tries",
    "refine_epochs": "refine.epochs",
}
"""The name of today by the old one. An old name that is a table's today is told apart by its value, which is none."""
_OLD = {new: old for old, new in RENAMED.items()}
_TABLES = {new.partition(".")[0] for new in RENAMED.values()}


def current_name(name: str) -> str:
    """A parameter's name of today; studies keep the names that they were begun with."""
    return RENAMED.get(name, name)


def old_name(name: str) -> str | None:
    """What a setting was called before, if otherwise."""
    return _OLD.get(name)


def rename_content(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The content of a search space by the names of today; one warning lists all old ones.

    Raises:
        ValueError: a setting by its old and its new name.
    """
    renamed, old_names = dict(content), list[str]()
    allocation, search = content.get("allocation"), content.get("search")
    if isinstance(allocation, Mapping):
        old = {name: value for name, value in allocation.items() if name in RENAMED and not _is_table(value)}
        current = {name: value for name, value in allocation.items() if name not in old}
        for name, value in old.items():
            table, _, key = RENAMED[name].partition(".")
            inside = current.get(table, {})
            if not isinstance(inside, Mapping) or key in inside:
                raise ValueError(_both("allocation", name))
            current[table] = {**inside, key: value}
        renamed["allocation"] = current
        old_names += old
    if isinstance(search, Mapping) and isinstance(search.get("parameters"), Mapping):
        parameters = flatten(search["parameters"])
        for name in parameters:
            if name in RENAMED and RENAMED[name] in parameters:
                raise ValueError(_both("search.parameters", name))
        old_names += [name for name in parameters if name in RENAMED]
        current = {current_name(name): value for name, value in parameters.items()}
        renamed["search"] = {**search, "parameters": current}
    _warn(source, old_names)
    return renamed


def rename_settings(settings: Sequence[str]) -> list[str]:
    """``KEY=VALUE`` settings by the names of today; one warning lists all old ones.

    Raises:
        InputError: a setting by its old and its new name.
    """
    renamed = [_renamed(setting) for setting in settings]
    by_current_name = {_path(setting) for setting, old in renamed if old is None}
    old_names = {setting: old for setting, (_, old) in zip(settings, renamed, strict=True) if old is not None}
    for setting, old in renamed:
        if old is not None and _path(setting) in by_current_name:
            key = ".".join(_path(setting))
            raise InputError(f"{key} was set by this name and by its old one, {old}; leave the old one out")
    _warn(", ".join(old_names), list(old_names.values()))
    return [setting for setting, _ in renamed]


def _renamed(setting: str) -> tuple[str, str | None]:
    """One setting by the name of today, and the old name in it, if any."""
    _, equals, text = setting.partition("=")
    path = _path(setting)
    where = ("allocation",) if path[0] == "allocation" else ("search", "parameters")
    name, *rest = path[len(where) :] or [""]
    old = path[: len(where)] == where and name in RENAMED and equals == "="
    if not old or (name in _TABLES and not _is_old(where, rest, text)):
        return setting, None
    return f"{'.'.join([*where, RENAMED[name], *rest])}={text}", name


def _path(setting: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in setting.partition("=")[0].split("."))


def _is_old(where: Sequence[str], rest: Sequence[str], text: str) -> bool:
    """Whether what follows a name that is a table's today shows that its old meaning is meant."""
    value = None if rest else override({}, [f"value={text}"])["value"]
    if where[0] == "allocation":
        return not rest and not _is_table(value)
    return rest[0] in Parameter.model_fields if rest else "value" in flatten({"value": value})


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping | BaseModel)


def _both(table: str, old: str) -> str:
    return f"{table}.{old} and {table}.{RENAMED[old]}, its new name, were both given; remove {table}.{old}"


def _warn(source: str, old_names: Sequence[str]) -> None:
    if old_names:
        pairs = ", ".join(f"{old} is now {RENAMED[old]}" for old in dict.fromkeys(old_names))
        warnings.warn(f"{source}: settings by old names: {pairs}", FutureWarning, stacklevel=3)
