"""The state of a training in safetensors files, written anew after every epoch.

Tensors of one dtype are concatenated into one tensor; all other values are JSON in the header. Nothing in it is ever
executed. A process that is killed repeats the epoch that was not kept; a file that could be read is whole.

The disk is waited for in the background, while the next epoch begins.
"""

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.train.state import Stateful


class Checkpoint:
    """A :class:`bitsearch.train.state.Checkpoints` in files, one a phase: ``NAME.safetensors``, ``NAME.1…``.

    Of several processes the leader reads and writes, and tells the others. A context manager: what was kept is on the
    disk when it is left, however that happens.

    Args:
        path: of the first phase's file; None keeps nothing, as in processes that are not the leader.
        training: identifies what is trained, and how; a file of another training is not taken.
        fabric: of the processes that train together.
        misfit: told of a file that is not taken, and why, before its phase starts anew; may raise.
        after: called in all processes after every epoch that was kept; nothing is lost if it raises.
    """

    def __init__(
        self,
        path: Path | None,
        training: str = "",
        *,
        fabric: Fabric | None = None,
        misfit: Callable[[str], None] = lambda reason: None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self._training, self._fabric, self._misfit, self._after = path, training, fabric, misfit, after
        self._phase = -1
        self._about: dict[str, Any] = {}
        self._seconds, self._since = 0.0, time.perf_counter()
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        """Nothing is written before the first :meth:`keep`."""
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the disk.

        Raises:
            StorageError: the last file could not be written.
        """
        self._writer.shutdown()
        self._wait()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    @property
    def done(self) -> int:
        """Epochs of the first phase that are done."""
        saved = self._read(0)
        return 0 if saved is None else int(saved["epoch"])

    @property
    def seconds(self) -> float:
        """That this training has taken so far, those before an interruption included."""
        return self._seconds + time.perf_counter() - self._since

    def restore(self, about: Mapping[str, Any], parts: Mapping[str, Stateful]) -> int:
        """As :meth:`bitsearch.train.state.Checkpoints.restore`.

        Raises:
            InputError: a file of this training is of another network.
        """
        self._phase += 1
        self._about = dict(about)
        saved = self._read(self._phase)
        if saved is not None and saved["about"] != self._about:
            self._misfit(f"{self._file(self._phase)} is of another training")
            saved = None
        if saved is None:
            # What came after is of another course.
            self._remove_from(self._phase)
        if self._fabric is not None and self._fabric.world_size > 1:
            saved = self._fabric.broadcast(saved)
        if saved is None:
            return 0
        self._seconds, self._since = float(saved["seconds"]), time.perf_counter()
        try:
            for name, state in saved["parts"].items():
                parts[name].load_state_dict(state)
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            path = self._file(self._phase)
            raise InputError(f"{path} does not fit this training: {error}; delete it to start anew") from error
        return int(saved["epoch"])

    def keep(self, parts: Mapping[str, Stateful], epoch: int) -> None:
        """As :meth:`bitsearch.train.state.Checkpoints.keep`, whole or not at all.

        Raises:
            StorageError: the file before this one could not be written.
        """
        if self.path is not None:
            self._wait()
            states = {name: part.state_dict() for name, part in parts.items()}
            about = {"training": self._training, "about": self._about}
            content = state_bytes({**about, "epoch": epoch, "seconds": self.seconds, "parts": states})
            self._writing = self._writer.submit(write_whole, self._file(self._phase), content)
        self._after()

    def remove(self) -> None:
        """Delete the files, if there are any."""
        self._remove_from(0)

    def _file(self, phase: int) -> Path:
        assert self.path is not None
        return self.path if phase == 0 else self.path.with_suffix(f".{phase}.safetensors")

    def _remove_from(self, phase: int) -> None:
        if self.path is None:
            return
        self._wait()
        numbered = re.compile(re.escape(self.path.stem) + r"(?:\.(\d+))?\.safetensors")
        files = [
            (int(match[1] or 0), path)
            for path in self.path.parent.iterdir()
            if (match := numbered.fullmatch(path.name))
        ]
        for number, path in sorted(files, reverse=True):
            if number >= phase:
                path.unlink(missing_ok=True)

    def _read(self, phase: int) -> dict[str, Any] | None:
        self._wait()
        if self.path is None or not self._file(phase).exists():
            return None
        path = self._file(phase)
        saved = read_state(path)
        if saved is None:
            self._misfit(f"{path} is not a checkpoint")
        elif saved.get("training") != self._training:
            self._misfit(f"{path} is of another training")
            saved = None
        return saved


def fingerprint(**parts: object) -> str:
    """What identifies a training, as text."""
    return json.dumps(parts, sort_keys=True)


@torch.no_grad()
def state_bytes(state: Any) -> bytes:
    """A file's content for nested dicts, lists and tuples of tensors and plain values; a copy of these.

    Raises:
        TypeError: a value of another kind.
    """
    tensors: dict[str, list[Tensor]] = {}
    tree = json.dumps(_encode(state, tensors))
    # One long tensor for every type: the library takes longer for hundreds of small ones than for all their bytes.
    joined = {kind: torch.cat(flat) for kind, flat in tensors.items()}
    return save(joined, metadata={"state": tree})


def read_state(path: Path) -> dict[str, Any] | None:
    """What :func:`state_bytes` made a file's content of, on the CPU; None if it is another file, or not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})["state"])
            joined = {kind: file.get_tensor(kind) for kind in file.keys()}  # noqa: SIM118  not a dict
            state: dict[str, Any] = _decode(tree, joined, dict.fromkeys(joined, 0))
        return state if isinstance(state, dict) else None
    except (OSError, SafetensorError, ValueError, TypeError, LookupError, AttributeError, RuntimeError):
        return None


def _encode(value: Any, tensors: dict[str, list[Tensor]]) -> Any:
    """JSON for a value; what JSON lacks is an object with one key that says what it is.

    Tensors are appended, flat, to those of their type.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        tensors.setdefault(kind, []).append(value.cpu().flatten())
        return {"tensor": [kind, list(value.shape)]}
    if isinstance(value, dict):
        return {"dict": [[_encode(key, tensors), _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_encode(item, tensors) for item in value]
    raise TypeError(f"a training's state holds a {type(value).__name__}; tensors and plain values can be kept")


def _decode(value: Any, joined: Mapping[str, Tensor], positions: dict[str, int]) -> Any:
    """What :func:`_encode` made JSON of, in its order; ``positions`` counts the elements of every type so far."""
    if isinstance(value, list):
        return [_decode(item, joined, positions) for item in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "tensor":
            dtype, shape = content
            start = positions[dtype]
            positions[dtype] += math.prod(shape)
            # A copy: what the library returns lies in the file itself.
            return joined[dtype][start : positions[dtype]].view(shape).clone()
        if kind == "dict":
            return {_decode(key, joined, positions): _decode(item, joined, positions) for key, item in content}
        return tuple(_decode(item, joined, positions) for item in content)
    return value
