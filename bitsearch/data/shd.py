"""Spiking Heidelberg Digits: spoken digits as spikes of the 700 channels of an inner ear's model (Cramer et al. 2020)."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from bitsearch.data.data_set import DataSet
from bitsearch.data.event_frames import EventOptions, count_events, frame_samples, hold_back
from bitsearch.data.splits import Samples, Splits
from bitsearch.errors import InputError

CHANNELS = 700
CLASSES = 20


def shd(**chosen: Any) -> Splits:
    """Spikes of each channel counted in frames ``[T, 700]``; the published test recordings are the test split.

    The files are read as they are. SpikingJelly's own frames are the same where it makes them: by time it stops at a
    recording with a silent frame.

    Args:
        chosen: see :class:`bitsearch.data.event_frames.EventOptions`.

    Raises:
        InputError: an option of the wrong kind, files that are missing, or a file of another kind.
    """
    options = EventOptions(name="shd", **chosen)
    root = Path(options.root).expanduser()
    train, test = (_Recordings(root / name, root) for name in SHD.files)
    rng = np.random.default_rng(options.split_seed)
    validation_part, train_part = hold_back(train.labels, (options.validation_share,), options, rng)
    (test_part,) = hold_back(test.labels, (), options, rng)
    return Splits(
        train=train.part(train_part, options),
        validation=train.part(validation_part, options),
        test=test.part(test_part, options),
        input_shape=(options.frames, CHANNELS),
        classes=CLASSES,
        frames=options.frames,
    )


class _Recordings:
    """One of the two files: ``labels`` ``[N]``, ``spikes/times`` in seconds and ``spikes/units``, N lists each."""

    def __init__(self, path: Path, root: Path) -> None:
        if not path.is_file():
            raise SHD.missing(path, root)
        try:
            file = h5py.File(path, "r")
            self.labels = file["labels"][:].astype(np.int64)
            self.times, self.units = file["spikes"]["times"], file["spikes"]["units"]
        except (OSError, KeyError, AttributeError) as error:
            raise InputError(
                f"shd: {str(path)!r} is no file of spikes ({' '.join(str(error).split())}); unpack it anew"
            ) from error
        if len(self.labels) == 0 or self.labels.min() < 0 or self.labels.max() >= CLASSES:
            raise InputError(f"shd: the labels in {str(path)!r} are not from 0 to {CLASSES - 1}; unpack it anew")

    def part(self, indices: np.ndarray, options: EventOptions) -> Samples:
        def read(index: int) -> np.ndarray:
            try:
                return count_events(self.times[index], self.units[index], options.frames, options.split_by, (CHANNELS,))
            except (OSError, ValueError) as error:
                raise InputError(f"shd: recording {index} cannot be read ({error}); unpack the files anew") from error

        labels = torch.from_numpy(self.labels[indices])
        return frame_samples(read, indices, labels, shape=(options.frames, CHANNELS), whole=True)


SHD = DataSet(
    "shd",
    shd,
    "spoken digits as spikes of 700 channels",
    shape="T×700",
    classes=CLASSES,
    counts={"train": 8156, "test": 2264},
    download="shd_train.h5.zip and shd_test.h5.zip",
    source="https://zenkelab.org/datasets/",
    files={"shd_train.h5": "", "shd_test.h5": ""},
)
