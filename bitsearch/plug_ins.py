"""Networks, data sets, hardware targets and cost metrics of other packages, by the entry points that these declare.

A package declares them in its ``pyproject.toml``, ``[project.entry-points."bitsearch.networks"]`` for one. Its code is
imported when one of its names is asked for, and not before.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bitsearch.errors import InputError, located

GROUPS = {
    "network": "bitsearch.networks",
    "data set": "bitsearch.data",
    "hardware target": "bitsearch.targets",
    "cost metric": "bitsearch.metrics",
}
"""The group of entry points of every kind of plug-in."""


def plug_ins(kind: str) -> dict[str, list[EntryPoint]]:
    """What the installed packages declare of a kind of :data:`GROUPS`, by name; nothing of other kinds."""
    declared: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUPS[kind]) if kind in GROUPS else ():
        declared.setdefault(point.name, []).append(point)
    return declared


def packages_of(points: Iterable[EntryPoint]) -> str:
    """The names of the packages that declare these, each once."""
    return ", ".join(sorted({point.dist.name if point.dist is not None else point.value for point in points}))


def load_plug_in(kind: str, name: str) -> Any:
    """What a package declares by this name; None if none does.

    Raises:
        InputError: it cannot be imported, or two packages declare it.
    """
    points = plug_ins(kind).get(name, [])
    if not points:
        return None
    packages = packages_of(points)
    if len({point.value for point in points}) > 1:
        raise InputError(f"packages {packages} each have a {kind} {name!r}; uninstall all but one")
    try:
        return points[0].load()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{kind} {name!r} of package {packages} cannot be loaded ({points[0].value}): {located(error)}; update "
            "or uninstall the package"
        ) from error
