"""Recordings made into SpikingJelly's event files, and these into frames: once, and whole, whoever breaks off."""

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from filelock import FileLock

from bitsearch.data.data_set import DataSet
from bitsearch.data.event_frames import count_events

if TYPE_CHECKING:
    from spikingjelly.datasets.base import NeuromorphicDatasetFolder


def find_reader(name: str) -> "type[NeuromorphicDatasetFolder]":
    """SpikingJelly's reader of a data set: ``module.Class`` in ``spikingjelly.datasets``."""
    # Imported where it is needed: it takes seconds that no other data set has to spend.
    module, _, kind = name.partition(".")
    found: type[NeuromorphicDatasetFolder] = getattr(import_module(f"spikingjelly.datasets.{module}"), kind)
    return found


def prepare_events(kind: "type[NeuromorphicDatasetFolder]", entry: DataSet, root: Path) -> None:
    """Make ``ROOT/events_np`` of ``ROOT/extract``.

    SpikingJelly would do it as well, but it looks for archives first, removes those it does not know, and downloads.

    Raises:
        InputError: a file of the data set is missing.
    """

    def make() -> None:
        marker = _marker(root / "events_np")
        marker.touch()
        (root / "events_np").mkdir()
        kind.create_raw_from_extracted(root / "extract", root / "events_np")
        marker.unlink()

    if not (root / "events_np").is_dir():
        for file in entry.files:
            if not (root / file).exists():
                raise entry.missing(root / file, root)
    _once(root / "events_np", make)


def prepare_frames(
    kind: "type[NeuromorphicDatasetFolder]", published_test: bool, folder: Path, counting: Callable[..., np.ndarray]
) -> "list[NeuromorphicDatasetFolder]":
    """The folders of frames of the published training and test part; or of all recordings, where that is one.

    Args:
        kind: the reader.
        published_test: whether there are two parts.
        folder: of the frames; made unless it is there and whole.
        counting: what makes frames of a recording, as :func:`integrate`.
    """

    def parts() -> "list[NeuromorphicDatasetFolder]":
        given = {
            "data_type": "frame",
            "custom_integrate_function": counting,
            "custom_integrated_frames_dir_name": folder.name,
        }
        if not published_test:
            return [kind(str(folder.parent), **given)]
        return [kind(str(folder.parent), train=train, **given) for train in (True, False)]

    _once(folder, parts)
    return parts()


def integrate(
    events: dict[str, np.ndarray], height: int, width: int, *, frames: int, split_by: str, size: int | None
) -> np.ndarray:
    """Event counts ``[T, 2, H, W]`` of a recording; or their means over pixels, in half precision.

    Args:
        events: times ``t``, pixels ``x`` and ``y`` and polarities ``p``, ``[events]`` each.
        height: H, pixels of the camera.
        width: W.
        frames: T, time bins.
        split_by: what frames share alike, events or time.
        size: side of the square that counts are averaged to; None leaves H × W.

    Raises:
        ValueError: an event outside the camera.
    """
    x, y = events["x"].astype(np.int64), events["y"].astype(np.int64)
    if len(x) and (x.max() >= width or y.max() >= height):
        raise ValueError(f"an event lies outside the {width} × {height} pixels")
    addresses = ((events["p"] != 0) * height + y) * width + x
    counts = count_events(events["t"], addresses, frames, split_by, (2, height, width))
    if size is None:
        return counts.astype(np.uint8 if counts.max() < 256 else np.int32)
    means = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(counts).float(), size)
    return means.half().numpy()


def _once(folder: Path, make: Callable[[], object]) -> None:
    """Call ``make`` unless the folder is there and whole; of several processes, one does.

    SpikingJelly's marker lies beside a folder that is being filled: one that is found here was left by a process that
    broke off.
    """
    if folder.is_dir() and not _marker(folder).exists():
        return
    with FileLock(folder.parent / ".bitsearch.lock"):
        if _marker(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _marker(folder).unlink()
        if not folder.is_dir():
            make()


def _marker(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.building")
