"""Recordings of event cameras, read by SpikingJelly: N-MNIST, CIFAR10-DVS, DVS128 Gesture and N-Caltech101.

The user downloads and unpacks them. SpikingJelly converts the recordings to its event files once, in
``ROOT/events_np``, and to frames once for each choice of frames, in ``ROOT/frames_…``.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from bitsearch.data.data_set import DataSet
from bitsearch.data.event_frames import flip_and_roll, frame_samples
from bitsearch.data.options import check_options, find_root
from bitsearch.data.recordings import failures, find_reader, integrate, prepare_events, prepare_frames, recording_of
from bitsearch.data.splits import Splits
from bitsearch.data.stratified import Part, split_one_part, stratified
from bitsearch.errors import InputError

if TYPE_CHECKING:
    from spikingjelly.datasets.base import NeuromorphicDatasetFolder

TEST_SHARE = 0.1
"""Share of every class for the test split if no test recordings are published: the customary nine to one."""


@dataclass(frozen=True)
class Camera:
    """A data set of an event camera, and how SpikingJelly reads it."""

    entry: DataSet
    reader: str
    """``module.Class`` in ``spikingjelly.datasets``."""
    published_test: bool
    """True if the data set is published as a training and a test part."""
    mirrored: bool
    """True if a mirrored recording is of the same class."""


def event_camera(
    name: str,
    *,
    split_seed: int = 0,
    root: str = "",
    frames: int = 10,
    split_by: str = "number",
    size: int | None = None,
    validation_share: float = 0.1,
    limit: int | None = None,
    augment: bool = False,
) -> Splits:
    """Recordings as frames ``[T, 2, H, W]`` of OFF and ON event counts, so that no event is zero.

    Published test recordings are the test split; without them, a tenth of every class is, by ``split_seed``.

    Args:
        name: a key of :data:`CAMERAS`.
        split_seed: fixes which recordings are held back, and which a ``limit`` keeps.
        root: the data set's folder; what is made of its recordings is kept there as well.
        frames: T, time bins.
        split_by: the frames of a recording have equal numbers of events (``number``) or equal durations (``time``).
        size: frames are averaged down to ``size`` × ``size``, without regard to their proportions; None leaves them.
        validation_share: share of every class of the training recordings that is held back for validation.
        limit: at most this many recordings a class of the training part (validation included) and of the test part.
        augment: mirror and roll training batches at random; where a mirrored recording is of the same class.

    Raises:
        InputError: an option of the wrong kind, files that are missing, or recordings that cannot be read.
    """
    options = {"frames": frames, "split_by": split_by, "size": size, "limit": limit, "augment": augment}
    check_options(name, **options, validation_share=validation_share)
    camera = CAMERAS[name]
    if augment and not camera.mirrored:
        raise InputError(f"{name}: augment is true; leave it out: mirrored recordings are of another class")
    root_path = find_root(camera.entry, root, "extract/").absolute()
    reader = find_reader(camera.reader)
    try:
        prepare_events(reader, camera.entry, root_path)
        integrate_recording = partial(integrate, frames=frames, split_by=split_by, size=size)
        folder = f"frames_{frames}_by_{split_by}" + ("" if size is None else f"_{size}x{size}")
        parts_on_disk = prepare_frames(reader, camera.published_test, root_path / folder, integrate_recording)
    except InputError:
        raise
    except Exception as error:  # Broken recordings lead a reader to whatever it did not expect.
        reason = " ".join(str(error).split()) or type(error).__name__
        file = recording_of(error, root_path)
        place = f"the recordings in {root!r}" if file is None else f"the recording {str(file)!r}"
        count = failures(error)
        more = f", the first of {count} that cannot be read" if count > 1 else ""
        raise InputError(
            f"{name}: cannot read {place} ({reason}){more}; unpack {camera.entry.download} anew, and remove "
            f"{str(root_path / 'events_np')!r} if it is there"
        ) from error
    train, test, split_indices = _split(name, parts_on_disk, split_seed, validation_share, limit)
    height, width = reader.get_H_W() if size is None else (size, size)
    shape = (frames, 2, height, width)
    parts = {
        split: frame_samples(
            train.loader,
            [source.samples[index][0] for index in split_indices[split]],
            torch.tensor([source.targets[index] for index in split_indices[split]]),
            shape=shape,
            integer_counts=size is None,
            augment=flip_and_roll if augment and split == "train" else None,
        )
        for split, source in (("train", train), ("validation", train), ("test", test))
    }
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        input_shape=shape,
        classes=len(train.classes),
        frames=frames,
        class_names=tuple(train.classes),
    )


def _split(
    name: str,
    parts_on_disk: "list[NeuromorphicDatasetFolder]",
    split_seed: int,
    validation_share: float,
    limit: int | None,
) -> "tuple[NeuromorphicDatasetFolder, NeuromorphicDatasetFolder, dict[str, np.ndarray]]":
    """(training part, test part, indices of each split into them); a single part is both."""
    train, test = parts_on_disk[0], parts_on_disk[-1]
    if train.classes != test.classes:
        raise InputError(f"{name}: the training and the test recordings are not of the same classes")
    if len(train.classes) < 2:
        raise InputError(f"{name}: the recordings are of one class, {train.classes[0]!r}; at least 2 needed")
    part_indices = [np.arange(len(part)) for part in (train, test)]
    if train is test:
        part_indices = list(split_one_part(np.array(train.targets), TEST_SHARE, split_seed))
    labels = [np.array(part.targets)[indices] for part, indices in zip((train, test), part_indices, strict=True)]
    split_indices = stratified(
        name,
        Part(str(train.root), labels[0]),
        Part(str(test.root), labels[1]),
        train.classes,
        split_seed=split_seed,
        validation_share=validation_share,
        limit=limit,
    )
    return train, test, {split: part_indices[split == "test"][indices] for split, indices in split_indices.items()}


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
                download="airplane.zip, automobile.zip, …, truck.zip",
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
