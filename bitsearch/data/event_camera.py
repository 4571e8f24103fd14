"""Recordings of event cameras, read by SpikingJelly: N-MNIST, CIFAR10-DVS, DVS128 Gesture and N-Caltech101.

You download and unpack them; nothing is fetched from here. SpikingJelly turns the recordings into its event files once,
in ``ROOT/events_np``, and into frames once for each choice of frames, in ``ROOT/frames_…``.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock

from bitsearch.data.data_set import DataSet
from bitsearch.data.event_frames import (
    EventOptions,
    count_events,
    flip_and_roll,
    frame_samples,
    hold_back,
    is_whole,
)
from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

if TYPE_CHECKING:
    from spikingjelly.datasets.base import NeuromorphicDatasetFolder

MAX_SIZE = 1024
"""Of a frame's side, in pixels."""
TEST_SHARE = 0.1
"""Of every class, where no test recordings were published: the customary nine to one."""


@dataclass(frozen=True, kw_only=True)
class CameraOptions(EventOptions):
    """What the recordings of a camera let one choose."""

    size: int | None = None
    """Frames are averaged down to ``size`` × ``size``, without regard to their proportions; None leaves them."""
    augment: bool = False
    """Mirror and roll training batches at random; only where a mirrored recording is of the same class."""

    def _rules(self) -> list[tuple[bool, str, str]]:
        mirrored = CAMERAS[self.name].mirrored
        return [
            *super()._rules(),
            (self.size is None or is_whole(self.size, 1, MAX_SIZE), "size", f"pixels, a whole number up to {MAX_SIZE}"),
            (isinstance(self.augment, bool), "augment", "true or false"),
            (mirrored or not self.augment, "augment", "false: its mirrored recordings are of another class"),
        ]

    @property
    def folder(self) -> str:
        """The name of the folder in ``root`` that keeps these frames."""
        return f"frames_{self.frames}_by_{self.split_by}" + ("" if self.size is None else f"_{self.size}x{self.size}")


@dataclass(frozen=True)
class Camera:
    """How a data set is read."""

    entry: DataSet
    reader: str
    """``module.Class`` in ``spikingjelly.datasets``."""
    published_test: bool
    """Whether it comes in a training and a test part."""
    mirrored: bool
    """Whether a mirrored recording is of the same class."""


def event_camera(name: str, **chosen: Any) -> Splits:
    """Recordings as frames ``[T, 2, H, W]``: OFF and ON events, as they were counted, so that no event is zero.

    Published test recordings are the test split; where there are none, :data:`TEST_SHARE` of every class is, chosen by
    ``split_seed``.

    Args:
        name: a key of :data:`CAMERAS`.
        chosen: see :class:`CameraOptions`.

    Raises:
        InputError: an option of the wrong kind, files that are missing, or recordings that cannot be read.
    """
    options, camera = CameraOptions(name=name, **chosen), CAMERAS[name]
    root = Path(options.root).expanduser().absolute()
    kind = _reader(camera.reader)
    try:
        _prepare_events(kind, camera.entry, root)
        found = _prepare_frames(kind, camera.published_test, options, root)
    except InputError:
        raise
    except Exception as error:  # Broken recordings lead a reader to whatever it did not expect.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{name}: cannot read the recordings in {str(root)!r} ({reason}); unpack {camera.entry.download} anew"
        ) from error
    return _split(found, kind, options)


def _reader(name: str) -> "type[NeuromorphicDatasetFolder]":
    # Imported where it is needed: it takes seconds that no other data set has to spend.
    module, _, kind = name.partition(".")
    found: type[NeuromorphicDatasetFolder] = getattr(import_module(f"spikingjelly.datasets.{module}"), kind)
    return found


def _prepare_events(kind: "type[NeuromorphicDatasetFolder]", entry: DataSet, root: Path) -> None:
    """Make ``ROOT/events_np`` of ``ROOT/extract``.

    SpikingJelly would do it as well, but it looks for archives first, removes those it does not know, and downloads.
    """

    def make() -> None:
        for file in entry.files:
            if not (root / file).exists():
                raise entry.missing(root / file, root)
        marker = _marker(root / "events_np")
        marker.touch()
        (root / "events_np").mkdir()
        kind.create_raw_from_extracted(root / "extract", root / "events_np")
        marker.unlink()

    if not root.is_dir():
        raise entry.missing(root, root)
    _once(root / "events_np", make)


def _prepare_frames(
    kind: "type[NeuromorphicDatasetFolder]", published_test: bool, options: CameraOptions, root: Path
) -> "dict[str, NeuromorphicDatasetFolder]":
    """The folders of frames of each published part, ``train`` and ``test``; or ``all``."""

    def parts() -> "dict[str, NeuromorphicDatasetFolder]":
        given = {
            "data_type": "frame",
            "custom_integrate_function": partial(_integrate, options),
            "custom_integrated_frames_dir_name": options.folder,
        }
        if not published_test:
            return {"all": kind(str(root), **given)}
        return {name: kind(str(root), train=name == "train", **given) for name in ("train", "test")}

    _once(root / options.folder, parts)
    return parts()


def _integrate(options: CameraOptions, events: dict[str, np.ndarray], height: int, width: int) -> np.ndarray:
    """Event counts ``[T, 2, H, W]`` of a recording, whole numbers; or their means over pixels, in half precision."""
    x, y = events["x"].astype(np.int64), events["y"].astype(np.int64)
    if len(x) and (x.max() >= width or y.max() >= height):
        raise ValueError(f"an event lies outside the {width} × {height} pixels")
    addresses = ((events["p"] != 0) * height + y) * width + x
    counts = count_events(events["t"], addresses, options.frames, options.split_by, (2, height, width))
    if options.size is None:
        return counts.astype(np.uint16 if counts.max() < 65536 else np.float32)
    means = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(counts).float(), options.size)
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


def _split(
    found: "dict[str, NeuromorphicDatasetFolder]", kind: "type[NeuromorphicDatasetFolder]", options: CameraOptions
) -> Splits:
    rng = np.random.default_rng(options.split_seed)
    first = next(iter(found.values()))
    if any(part.classes != first.classes for part in found.values()):
        raise InputError(f"{options.name}: the training and the test recordings are not of the same classes")
    if len(first.classes) < 2:
        raise InputError(f"{options.name}: recordings of {len(first.classes)} class; at least 2 needed")
    if "all" in found:
        test, validation, train = hold_back(first.targets, (TEST_SHARE, options.validation_share), options, rng)
        sources = {"train": first, "validation": first, "test": first}
    else:
        validation, train = hold_back(first.targets, (options.validation_share,), options, rng)
        (test,) = hold_back(found["test"].targets, (), options, rng)
        sources = {"train": first, "validation": first, "test": found["test"]}
    height, width = kind.get_H_W() if options.size is None else (options.size, options.size)
    shape = (options.frames, 2, height, width)
    parts = {
        name: frame_samples(
            first.loader,
            [sources[name].samples[index][0] for index in indices],
            torch.tensor([sources[name].targets[index] for index in indices]),
            shape=shape,
            whole=options.size is None,
            augment=flip_and_roll if options.augment and name == "train" else None,
        )
        for name, indices in (("train", train), ("validation", validation), ("test", test))
    }
    return Splits(**parts, input_shape=shape, classes=len(first.classes), frames=options.frames)


_MNIST_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
_MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CAMERAS = {
    camera.entry.name: camera
    for camera in (
        Camera(
            DataSet(
                "n_mnist",
                partial(event_camera, "n_mnist"),
                "MNIST before a moving event camera (Orchard et al. 2015)",
                shape="T×2×34×34",
                classes=10,
                counts={"train": _MNIST_TRAIN, "test": _MNIST_TEST},
                download="Train.zip and Test.zip",
                source="https://www.garrickorchard.com/datasets/n-mnist",
                files={"extract/Train": "", "extract/Test": ""},
            ),
            "n_mnist.NMNIST",
            published_test=True,
            mirrored=False,
        ),
        Camera(
            DataSet(
                "cifar10_dvs",
                partial(event_camera, "cifar10_dvs"),
                "10,000 images of CIFAR-10 moved before an event camera (Li et al. 2017)",
                shape="T×2×128×128",
                classes=10,
                counts={"all": (1000,) * 10},
                download="the archives of the ten classes, airplane.zip to truck.zip,",
                source="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
                files={f"extract/{name}": "" for name in _CIFAR10},
            ),
            "cifar10_dvs.CIFAR10DVS",
            published_test=False,
            mirrored=True,
        ),
        Camera(
            DataSet(
                "dvs128_gesture",
                partial(event_camera, "dvs128_gesture"),
                "eleven gestures of hands and arms before an event camera (Amir et al. 2017)",
                shape="T×2×128×128",
                classes=11,
                counts={"train": 1176, "test": 288},
                download="DvsGesture.tar.gz",
                source="https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794",
                files={
                    "extract/DvsGesture/trials_to_train.txt": "",
                    "extract/DvsGesture/trials_to_test.txt": "",
                },
            ),
            "dvs128_gesture.DVS128Gesture",
            published_test=True,
            mirrored=False,
        ),
        Camera(
            DataSet(
                "n_caltech101",
                partial(event_camera, "n_caltech101"),
                "Caltech101 before a moving event camera (Orchard et al. 2015)",
                shape="T×2×180×240",
                classes=101,
                counts={"all": 8709},
                download="Caltech101.zip",
                source="https://www.garrickorchard.com/datasets/n-caltech101",
                files={"extract/Caltech101": ""},
            ),
            "n_caltech101.NCaltech101",
            published_test=False,
            mirrored=True,
        ),
    )
}
"""Data sets of event cameras by name."""
