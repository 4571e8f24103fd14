"""Recordings are converted to SpikingJelly's event files and to frames, once; an interrupted conversion restarts."""

import shutil
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
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
    module, _, class_name = name.partition(".")
    reader: type[NeuromorphicDatasetFolder] = getattr(import_module(f"spikingjelly.datasets.{module}"), class_name)
    return reader


def prepare_events(reader: "type[NeuromorphicDatasetFolder]", entry: DataSet, root: Path) -> None:
    """Convert the recordings in ``ROOT/extract`` to event files in ``ROOT/events_np``.

    SpikingJelly's own conversion first looks for archives, removes unknown ones, and downloads.

    Raises:
        InputError: a file of the data set is missing.
    """

    def make_events() -> None:
        marker = _marker(root / "events_np")
        marker.touch()
        (root / "events_np").mkdir()
        reader.create_raw_from_extracted(root / "extract", root / "events_np")
        marker.unlink()

    if not (root / "events_np").is_dir():
        for file in entry.files:
            if not (root / file).exists():
                raise entry.missing_file_error(root / file, root)
    _make_once(root / "events_np", make_events)


def prepare_frames(
    reader: "type[NeuromorphicDatasetFolder]",
    published_test: bool,
    folder: Path,
    integrate_events: Callable[..., np.ndarray],
) -> "list[NeuromorphicDatasetFolder]":
    """The frames of the published training and test part, or of all recordings as one part.

    Args:
        reader: SpikingJelly's reader of the data set.
        published_test: True if the data set has a training and a test part.
        folder: of the frames; made unless it is complete.
        integrate_events: makes frames of a recording, as :func:`integrate`.
    """

    def read_parts() -> "list[NeuromorphicDatasetFolder]":
        options = {
            "data_type": "frame",
            "custom_integrate_function": integrate_events,
            "custom_integrated_frames_dir_name": folder.name,
        }
        if not published_test:
            return [reader(str(folder.parent), **options)]
        return [reader(str(folder.parent), train=train, **options) for train in (True, False)]

    _make_once(folder, read_parts)
    return read_parts()


def integrate(
    events: dict[str, np.ndarray], height: int, width: int, *, frames: int, split_by: str, size: int | None
) -> np.ndarray:
    """Event counts ``[T, 2, H, W]`` of a recording; or their means over pixels, in half precision.

    Args:
        events: times ``t``, pixels ``x`` and ``y`` and polarities ``p``, ``[events]`` each.
        height: H, pixels of the camera.
        width: W.
        frames: T, time bins.
        split_by: ``number`` for equal numbers of events in the frames, ``time`` for equal durations.
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


def recording_of(error: Exception, root: Path) -> Path | None:
    """The file below ``root`` that a reader was reading as it failed; None where it was at none.

    SpikingJelly's readers name none in their errors: it is what the innermost frame that knows a file of the data set
    holds.
    """
    files = [
        Path(value)
        for frame, _ in traceback.walk_tb(error.__traceback__)
        for value in frame.f_locals.values()
        if isinstance(value, str | Path) and Path(value).is_relative_to(root) and Path(value).is_file()
    ]
    return files[-1] if files else None


def failures(error: Exception) -> int:
    """How many recordings a reader failed at: it tries them all, as futures, before it raises the first one's error."""
    futures = {
        id(future): future
        for frame, _ in traceback.walk_tb(error.__traceback__)
        for values in frame.f_locals.values()
        if isinstance(values, list)
        for future in values
        if isinstance(future, Future)
    }
    return sum(future.done() and future.exception() is not None for future in futures.values())


def _make_once(folder: Path, make: Callable[[], object]) -> None:
    """Call ``make`` unless the folder is complete; of several processes, one calls it.

    SpikingJelly's marker lies beside a folder that is being filled. Under the lock no process is filling one, so that a
    marker means an interrupted process, and the folder is removed.
    """
    if folder.is_dir() and not _marker(folder).exists():
        return
    with FileLock(folder.parent / ".bitsearch.lock"):
        if _marker(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _marker(folder).unlink()
        if not folder.is_dir():
            with _one_thread():
                make()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, SpikingJelly makes its files in one thread instead of sixteen.

    NumPy parses every array's header with ``ast``, whose count of its own recursion CPython 3.11 keeps for all threads
    together: now and then one of them ends in a SystemError. One thread takes no longer, since most of the work holds
    the interpreter's lock.
    """
    from spikingjelly import configure

    before = configure.max_threads_number_for_datasets_preprocess
    configure.max_threads_number_for_datasets_preprocess = 1
    try:
        yield
    finally:
        configure.max_threads_number_for_datasets_preprocess = before


def _marker(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.building")
