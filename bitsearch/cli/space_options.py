"""The search space of a command, from its options."""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from bitsearch.cli.bit_options import bit_settings
from bitsearch.errors import InputError
from bitsearch.space import SearchSpace, shipped_spaces

DEFAULT_SPACE = "digits"
"""The search space of a command that names none."""


def space_from_options(
    space: str | None,
    *,
    model: str | None = None,
    data: str | None = None,
    model_args: Sequence[str] = (),
    data_args: Sequence[str] = (),
    weights: Path | None = None,
    spikes: str | None = None,
    time_steps: str | None = None,
    step_sizes: str | None = None,
    overrides: Sequence[str] = (),
    layers: Sequence[str] = (),
    ties: Sequence[str] = (),
) -> SearchSpace:
    """A search space with another network, other data and other settings.

    Args:
        space: name or path; None takes the settings of :data:`DEFAULT_SPACE`, named after the network or the data.
        model: network in place of the space's, whose options are removed.
        data: data set in place of the space's, whose options are removed.
        model_args: ``KEY=VALUE`` options of the network.
        data_args: ``KEY=VALUE`` options of the data.
        weights: file of the network's trained weights, which are taken as they are.
        spikes: bits of spikes, as :func:`bit_settings` reads them; so are ``time_steps``.
        step_sizes: ``free`` or ``power_of_two``, as ``allocation.quantizer`` takes them.
        overrides: ``KEY=VALUE`` settings of the whole space, which are applied last.
        layers: ``GLOB:KEY=VALUE`` rules, behind those of the space.
        ties: ``GLOBS:NUMBERS`` or ``streams``, likewise.

    Raises:
        InputError: as :meth:`SearchSpace.load` and :meth:`SearchSpace.override` do.
    """
    search_space = SearchSpace.load(space or DEFAULT_SPACE)
    if model is not None:
        search_space = search_space.model_copy(update={"network": model, "network_options": {}})
    if data is not None:
        search_space = search_space.model_copy(update={"data": data, "data_options": {}})
    if weights is not None:
        search_space = search_space.with_weights(weights)
    bits = bit_settings(search_space, spikes, time_steps)
    if step_sizes is not None:
        bits.append(f"allocation.quantizer.step_sizes={json.dumps(step_sizes)}")
    if space is None and (model or data):
        search_space = search_space.model_copy(update={"name": _name_after(model or data or ""), "description": ""})
    if space is None and (model or data) and not any(_key(setting).startswith("first_layer.") for setting in overrides):
        first_layer = search_space.first_layer.model_copy(update={"relax": True})
        search_space = search_space.model_copy(update={"first_layer": first_layer})
    if space is None and data is not None:
        search_space = search_space.model_copy(update={"follow_frames": _unset_time_steps([*bits, *overrides])})
    options = [*_prefixed("network_options", model_args), *_prefixed("data_options", data_args)]
    search_space = search_space.override([*options, *bits, *overrides]).with_layers(layers).with_ties(ties)
    if spikes is not None:
        warnings.warn(_input_coding(search_space), stacklevel=2)
    return search_space


def _input_coding(space: SearchSpace) -> str:
    """What the first layer reads where spike bits were asked for: the data are no spikes."""
    first_layer, spikes = space.first_layer, space.choices.spike_bits
    bits = f"{spikes.low}" if spikes.low == spikes.high else f"{spikes.low} to {spikes.high}"
    return (
        f"spikes have {bits} bit{'' if spikes.high == 1 else 's'}; the first layer reads the data themselves, "
        f"rounded to {first_layer.spike_bits} bits (first_layer.spike_bits)"
    )


_TIME_STEPS = {
    "choices": "choices.time_steps",
    "baseline": "baseline.time_steps",
    "start": "allocation.start.time_steps",
    "first_layer": "first_layer.time_steps",
}
"""The settings of time steps that the default space makes for still images."""


def _unset_time_steps(overrides: Sequence[str]) -> tuple[str, ...]:
    """Those that follow the frames of a user's own data, since no override sets them."""
    keys = [_key(override) for override in overrides]
    return tuple(name for name, setting in _TIME_STEPS.items() if not any(key.startswith(setting) for key in keys))


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip()


def is_space(name_or_path: str) -> bool:
    """True for the path of a search space, and for the name of a shipped search space."""
    return name_or_path.endswith(".toml") or name_or_path in shipped_spaces()


def _prefixed(options: str, args: Sequence[str]) -> list[str]:
    for arg in args:
        key, equals, _ = arg.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{arg!r} is no option of the network or the data; give KEY=VALUE, such as width=16")
    return [f"{options}.{arg}" for arg in args]


def _name_after(factory: str) -> str:
    """A valid name of a search space and folder: ``mynets:csnn`` becomes ``mynets-csnn``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", factory).lstrip("-.")[:100] or DEFAULT_SPACE
