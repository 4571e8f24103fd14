"""A user's own trained weights, from a safetensors file or from whatever checkpoint torch wrote, into their network."""

import argparse
import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from bitsearch.errors import InputError, suggestion
from bitsearch.files import read_bytes

STATES = ("state_dict", "model_state_dict", "model", "net")
"""Entries of a checkpoint that hold the network's state, as Lightning and training scripts name them."""
TOLD = 3
"""Tensors that do not fit are named up to this number."""


def load_trained_weights(network: nn.Module, path: Path) -> None:
    """Fill a float network with the weights of a file, so that nothing that is trained already is trained again.

    The file is safetensors, or one of ``torch.save`` that holds tensors and plain values: a state, or a checkpoint with
    one under a name of :data:`STATES`. Prefixes that wrappers put in front of every name, such as ``module.`` of
    DataParallel, ``_orig_mod.`` of ``torch.compile`` and the attribute of a Lightning module, are left out.

    Args:
        network: in place; nothing of it is changed if the file does not fit.
        path: of the file.

    Raises:
        InputError: no such file, none of these formats, values that are no finite numbers, or tensors of another
            network: their names, each with the nearest one that there is.
    """
    state = _without_prefixes(read_trained_weights(path), network.state_dict())
    _check_fit(state, network.state_dict(), path)
    with torch.no_grad():
        # What old checkpoints do not count, batch norm's batches, the network keeps as it is.
        network.load_state_dict(state, strict=False)


def read_trained_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, as :func:`load_trained_weights` finds them; InputError if there are none."""
    content = read_bytes(path, "weights")
    if content[8:9] != b"{":  # where the header of a safetensors file begins
        return _state_of(_torch_content(path), path)
    try:
        return load_safetensors(content)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}; write it again") from error


def checksum(path: Path) -> str:
    """The file's SHA-256, by which a run knows its weights again wherever the file lies."""
    return hashlib.sha256(read_bytes(path, "weights")).hexdigest()


def _torch_content(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            # Training scripts keep their arguments beside the weights; these are names with values.
            warnings.simplefilter("ignore")  # torch asks to report what its reader does not know
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes make of its reader
        kind = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds a {kind[1]}, which runs code when read" if kind else "damaged, or not of torch.save"
        raise InputError(
            f"{path} cannot be read as weights: {reason}; write torch.save(network.state_dict(), FILE) instead"
        ) from error


def _state_of(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for name in STATES:
            if _is_state(content.get(name)):
                return dict(content[name])
        if _is_state(content):
            return dict(content)
        names = ", ".join(repr(name) for name in list(content)[:8]) or "nothing"
        raise InputError(f"{path} holds {names}, none of which is a network's state; allowed: {', '.join(STATES)}")
    raise InputError(f"{path} holds a {type(content).__name__}, no state of a network; write network.state_dict()")


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _without_prefixes(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state under the network's own names: a first part that all names share, and no name of the network has."""
    roots = {name.partition(".")[0] for name in expected}
    stripped = state
    while stripped and not set(stripped) & set(expected):
        parts = {name.partition(".")[0] for name in stripped}
        if len(parts) > 1 or parts <= roots or not all("." in name for name in stripped):
            # What is common to all names is no wrapper's: the file has them as they are.
            return state
        stripped = {name.partition(".")[2]: value for name, value in stripped.items()}
    return stripped


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    faults = [
        f"no {name!r}{_near(name, [other for other in state if other not in expected])}"
        for name in expected
        if name not in state and not name.endswith("num_batches_tracked")
    ]
    faults += [
        f"{name!r} is no tensor of the network{suggestion(name, expected)}" for name in state if name not in expected
    ]
    faults += [
        f"{name!r} has shape {tuple(state[name].shape)}, the network's {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    if faults:
        more = f", and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        raise InputError(f"{path} does not fit the network: {'; '.join(faults[:TOLD])}{more}")
    for name in expected:
        if name in state and not torch.isfinite(state[name]).all():
            raise InputError(f"{path}: tensor {name!r} holds values that are not finite; give weights that are")


def _near(name: str, others: Iterable[str]) -> str:
    close = get_close_matches(name, list(others), n=1)
    return f" (it has {close[0]!r})" if close else ""
