"""The search space that a command's options ask for."""

import re
from collections.abc import Sequence

from bitsearch.errors import InputError
from bitsearch.space import SearchSpace, shipped_spaces

DEFAULT = "digits"
"""The search space of a command that names none."""


def space_from_options(
    space: str | None,
    *,
    model: str | None = None,
    data: str | None = None,
    model_args: Sequence[str] = (),
    data_args: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> SearchSpace:
    """A search space with another network, other data and other settings.

    Args:
        space: name or path; without it, the settings of :data:`DEFAULT` under a name of the network's or the data's.
        model: network that stands for the space's; the space's options are those of its own network, so they go.
        data: likewise.
        model_args: ``KEY=VALUE`` among the network's options.
        data_args: ``KEY=VALUE`` among the data's.
        overrides: ``KEY=VALUE`` of the whole space, put in last.

    Raises:
        InputError: as :meth:`SearchSpace.load` and :meth:`SearchSpace.override` do.
    """
    found = SearchSpace.load(space or DEFAULT)
    if model is not None:
        found = found.model_copy(update={"network": model, "network_options": {}})
    if data is not None:
        found = found.model_copy(update={"data": data, "data_options": {}})
    if space is None and (model or data):
        found = found.model_copy(update={"name": _name_after(model or data or ""), "description": ""})
    settings = [*_among("network_options", model_args), *_among("data_options", data_args), *overrides]
    return found.override(settings)


def is_space(what: str) -> bool:
    """True for the path of a search space, and for the name of a shipped one."""
    return what.endswith(".toml") or what in shipped_spaces()


def _among(options: str, args: Sequence[str]) -> list[str]:
    for arg in args:
        key, equals, _ = arg.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{arg!r} is no option of the network or the data; give KEY=VALUE, such as width=16")
    return [f"{options}.{arg}" for arg in args]


def _name_after(factory: str) -> str:
    """``mynets:csnn`` gives ``mynets-csnn``: what a folder and a search space may be called."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", factory).lstrip("-.")[:100] or DEFAULT
