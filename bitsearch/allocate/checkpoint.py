"""The state of an interrupted training, in one file, so that it goes on after its last whole epoch.

Whatever has state offers ``state_dict()`` and ``load_state_dict()``, as torch's own parts do. The file is safetensors:
tensors as such, everything else as JSON in its header. Nothing in it is ever executed.
"""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bitsearch.plan import write_whole


class Stateful(Protocol):
    """A part of a training that has state."""

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts, lists and tuples of tensors, numbers, strings, booleans and None."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Take the state that :meth:`state_dict` gave."""


class Checkpoint:
    """What one training, of one or several phases, has come to.

    A method adds the :attr:`parts` that outlive a phase; each call of :func:`bitsearch.allocate.trainer.train` is one
    phase, and adds its own.

    Args:
        path: of the file; None keeps nothing.
        after_save: called after every save, the moment at which nothing is lost.
    """

    def __init__(self, path: Path | None = None, after_save: Callable[[], None] = lambda: None) -> None:
        self.path, self.after_save = path, after_save
        self.parts: dict[str, Stateful] = {}
        self.saved = None if path is None or not path.is_file() else read_state(path)
        """What the file holds; None without one, or where it is none that this version wrote."""
        self.phase = -1
        """Number of the current phase."""

    @property
    def saved_phase(self) -> int:
        """The phase that was interrupted; -1 if none was."""
        return -1 if self.saved is None else int(self.saved["phase"])

    @property
    def saved_epochs(self) -> int:
        """Epochs of that phase which were finished."""
        return 0 if self.saved is None else int(self.saved["epoch"])

    def saved_part(self, name: str) -> dict[str, Any]:
        """The saved state of a part, for one that is needed before its phase starts."""
        assert self.saved is not None
        state: dict[str, Any] = self.saved["parts"][name]
        return state

    def enter(self, phase: int, parts: Mapping[str, Stateful]) -> int:
        """Start a phase, or go on with it: the number of its epochs that are finished, with all parts as they were."""
        self.phase = phase
        if phase != self.saved_phase:
            return 0
        for name, part in {**self.parts, **parts}.items():
            part.load_state_dict(self.saved_part(name))
        return self.saved_epochs

    def save(self, epoch: int, parts: Mapping[str, Stateful]) -> None:
        """Write the file, whole or not at all; InputError if it cannot be written."""
        if self.path is not None:
            states = {name: part.state_dict() for name, part in {**self.parts, **parts}.items()}
            write_state(self.path, {"phase": self.phase, "epoch": epoch, "parts": states})
        self.after_save()

    def remove(self) -> None:
        """The training has ended."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class RandomState:
    """The global random generators: torch's, of every device in use, Python's and NumPy's.

    Dropout draws from them, and so may a user's own data set.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  the generator that others draw from is the global one

    def state_dict(self) -> dict[str, Any]:
        """Of each generator its own."""
        kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "python": random.getstate(),
            "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set every generator."""
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        random.setstate(state["python"])
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


class GeneratorState:
    """A torch generator as a :class:`Stateful` part."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set it."""
        self.generator.set_state(state["state"])


def write_state(path: Path, state: Any) -> None:
    """Write nested dicts, lists and tuples of tensors and plain values, whole or not at all; InputError if it cannot.

    Raises:
        TypeError: a value of another kind.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encode(state, tensors))
    write_whole(path, save(tensors, metadata={"state": tree}))


def read_state(path: Path) -> dict[str, Any] | None:
    """What :func:`write_state` wrote, on the CPU.

    None if the file is not whole, which a reader can only see where the file system broke its promise.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            state: dict[str, Any] = _decode(json.loads((file.metadata() or {})["state"]), tensors)
        return state
    except (OSError, SafetensorError, ValueError, KeyError):
        return None


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for a value; what JSON lacks is an object with one key that says what it is."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # Copies, since safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[_encode(key, tensors), _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_encode(item, tensors) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a training's state holds a {type(value).__name__}; tensors and plain values can be saved")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "dict":
            return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
        return tuple(_decode(item, tensors) for item in content)
    return value
