"""The Free Spoken Digit Dataset (Jackson et al. 2018): six speakers' digits, as log-mel frames or as events."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from bitsearch.data.data_set import DataSet
from bitsearch.data.event_frames import EventFrames
from bitsearch.data.options import check_options, find_root
from bitsearch.data.sound import crossings, log_mel, read_wav
from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

RATE_HZ = 8000
CLASSES = 10
WINDOW_FRAMES = 2.5
"""Length of a log-mel frame's window, in frames."""
FORMS = {"mel": (64, 10), "events": (32, 20)}
"""Frames and their length in milliseconds, by features: 0.64 seconds of a recording either way."""
TEST_INDICES, VALIDATION_INDICES = range(5), range(5, 10)
"""The official test part's indices, and those of the training part that are held back."""
VALIDATION_SPEAKER, TEST_SPEAKER = "theo", "yweweler"
"""Of the split by speaker; the other four are for training."""
NAME = re.compile(r"(\d)_([^_]+)_(\d+)")
PARTS = ("train", "validation", "test")


def fsdd(
    *,
    split_seed: int = 0,
    root: str = "",
    features: str = "mel",
    split: str = "official",
    frames: int | None = None,
    frame_ms: int | None = None,
    bands: int = 32,
) -> Splits:
    """Spoken digits from ``root/recordings``, or from ``root`` itself, with a time axis.

    ``features="mel"``: log energies ``[T, bands]`` of T frames, 64 of 10 ms, each band normalized by its mean and
    standard deviation over the training split. ``features="events"``: ON and OFF crossings of thresholds by these
    energies, ``[T, 2·bands]`` counts, 32 frames of 20 ms. Recordings are cut, or end with silence.

    ``split="official"``: of every speaker and digit, recordings 0 to 4 are the test split, as published, 5 to 9 for
    validation. ``split="speaker"``, which is harder: validation is spoken by theo, the test by yweweler, training by
    the others.

    Args:
        split_seed: fixes the order of the samples; the splits are always the same.
        root: the folder; relative to the working directory.
        features: ``mel`` or ``events``.
        split: ``official`` or ``speaker``.
        frames: T, instead of 64 or 32.
        frame_ms: milliseconds from one frame to the next, instead of 10 or 20.
        bands: of the mel scale, from 0 to 4 kHz.

    Raises:
        InputError: an option of the wrong kind, a file that is no such recording, or a split without one.
    """
    check_options("fsdd", features=features, split=split, bands=bands)
    usual_frames, usual_ms = FORMS[features]
    frames, frame_ms = frames if frames is not None else usual_frames, frame_ms if frame_ms is not None else usual_ms
    check_options("fsdd", frames=frames, frame_ms=frame_ms)
    parts = _parts(find_root(FSDD, root, "recordings/"), split)
    order = np.random.default_rng(split_seed)
    hop = RATE_HZ * frame_ms // 1000
    energies, labels = {}, {}
    for name in PARTS:
        recordings = [parts[name][index] for index in order.permutation(len(parts[name]))]
        found = [
            log_mel(
                read_wav("fsdd", recording.file, RATE_HZ),
                frames=frames,
                hop=hop,
                window=round(WINDOW_FRAMES * hop),
                bands=bands,
                rate_hz=RATE_HZ,
            )
            for recording in recordings
        ]
        energies[name], labels[name] = np.stack(found), torch.tensor([recording.digit for recording in recordings])
    samples = _events(energies, labels) if features == "events" else _normalized(energies, labels)
    return Splits(
        samples["train"],
        samples["validation"],
        samples["test"],
        input_shape=(frames, bands if features == "mel" else 2 * bands),
        classes=CLASSES,
        frames=frames,
        class_names=tuple("0123456789"),
    )


@dataclass(frozen=True)
class _Recording:
    file: Path
    digit: int
    speaker: str
    index: int

    def part(self, split: str) -> str:
        """The split that it belongs to."""
        if split == "speaker":
            return {VALIDATION_SPEAKER: "validation", TEST_SPEAKER: "test"}.get(self.speaker, "train")
        return "test" if self.index in TEST_INDICES else "validation" if self.index in VALIDATION_INDICES else "train"


def _parts(root: Path, split: str) -> dict[str, list[_Recording]]:
    """The recordings of every split, in the order of their names."""
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    files = sorted(folder.glob("*.wav"))
    if not files:
        raise FSDD.missing_file_error(root / "recordings", root)
    parts: dict[str, list[_Recording]] = {name: [] for name in PARTS}
    for file in files:
        found = NAME.fullmatch(file.stem)
        if found is None:
            raise InputError(
                f"fsdd: {str(file)!r} is not named DIGIT_SPEAKER_INDEX.wav; remove it, or give another root"
            )
        recording = _Recording(file, int(found[1]), found[2], int(found[3]))
        parts[recording.part(split)].append(recording)
    for name, recordings in parts.items():
        if not recordings:
            sizes = ", ".join(f"{len(part)} for {title}" for title, part in parts.items())
            raise InputError(
                f"fsdd: of the {len(files)} recordings in {str(folder)!r} none is for {name} when split is {split!r} "
                f"({sizes}); unpack all 3,000 of {FSDD.source}"
            )
    return parts


def _events(energies: dict[str, np.ndarray], labels: dict[str, Tensor]) -> dict[str, TensorDataset]:
    return {
        name: EventFrames(torch.from_numpy(np.stack([crossings(each) for each in found])), labels[name])
        for name, found in energies.items()
    }


def _normalized(energies: dict[str, np.ndarray], labels: dict[str, Tensor]) -> dict[str, TensorDataset]:
    mean, deviation = (reduce(energies["train"], axis=(0, 1)) for reduce in (np.mean, np.std))
    # A band of one value only is all zeros.
    deviation[deviation == 0] = 1
    return {
        name: TensorDataset(torch.from_numpy((found - mean) / deviation).float(), labels[name])
        for name, found in energies.items()
    }


FSDD = DataSet(
    "fsdd",
    fsdd,
    "digits spoken by six people, as log-mel frames or as events",
    shape="T×32 or T×64",
    classes=CLASSES,
    counts={"all": (300,) * CLASSES},
    download="the repository",
    source="https://github.com/Jakobovski/free-spoken-digit-dataset",
    files={"recordings/DIGIT_SPEAKER_INDEX.wav": ""},
)
