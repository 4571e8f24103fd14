"""A regression on recorded speech: the pitch of spoken digits, a mixed plan beside the best uniform one.

    python -m benchmarks.evidence.speech --recordings FOLDER --out reports/evidence/speech

FOLDER has the recordings of the Free Spoken Digit Dataset, ``DIGIT_SPEAKER_INDEX.wav``, mono, 16 bit, 8 kHz. Those
with the indices 0 to 4 of each speaker and digit are the test part, 5 to 9 are for validation. The target is the median
pitch of the voiced frames, by autocorrelation, in octaves above 100 Hz; recordings without a voiced frame are left out.
The network sees a spectrogram up to 500 Hz. Each seed is a run folder in ``--runs``; one that was cut short goes on.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.evidence import figures
from benchmarks.evidence.runs import Row, progress
from benchmarks.provenance import machine, made_by
from bitsearch.data.sound import read_wav
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.study.result import SearchResult
from bitsearch.study.run import search

RATE, WINDOW, HOP = 8000, 512, 160
FRAMES = BINS = 32
LOWEST, HIGHEST = 60, 400
"""Pitches in Hz that are looked for."""
VOICED = 0.6
"""Of a voiced frame: the least correlation with itself one period later."""
TASK = {"name": "regression", "loss": "huber", "unit": "octaves"}


NAME = re.compile(r"\d_[^_]+_(\d+)")
"""Of a recording: digit, speaker and index."""


def windows(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[F, WINDOW]``, a window every 20 ms; F is at least 1."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    return np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]


def pitch(samples: NDArray[np.float64]) -> float | None:
    """The median of the voiced frames in Hz; None where there is none."""
    frames = windows(samples)
    frames = frames - frames.mean(1, keepdims=True)
    loud = frames[np.square(frames).mean(1) > 0.05 * np.square(frames).mean(1).max()]
    found = []
    for frame in loud:
        lags = np.arange(RATE // HIGHEST, RATE // LOWEST + 1)
        early, late = ([frame[: WINDOW - lag] for lag in lags], [frame[lag:] for lag in lags])
        power = [np.sqrt(np.square(a).sum() * np.square(b).sum()) for a, b in zip(early, late, strict=True)]
        correlation = np.array([a @ b for a, b in zip(early, late, strict=True)]) / np.maximum(power, 1e-9)
        # The first lag that is nearly as good as the best: its multiples are as good as a period.
        best = int(np.argmax(correlation > 0.95 * correlation.max()))
        while best + 1 < len(lags) and correlation[best + 1] > correlation[best]:
            best += 1
        if correlation[best] > VOICED:
            found.append(RATE / lags[best])
    return float(np.median(found)) if found else None


def spectrogram(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """``[1, FRAMES, BINS]``: logarithms of the magnitudes up to 500 Hz, of the first 0.7 seconds."""
    length = WINDOW + HOP * (FRAMES - 1)
    frames = windows(np.pad(samples, (0, max(0, length - len(samples))))[:length])
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(WINDOW)))[:, :BINS]
    return np.log(magnitudes + 1e-2).astype(np.float32)[None]


def spoken(folder: Path) -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Train, validation and test; InputError where a part is empty, or a file is something else."""
    parts: list[list[tuple[NDArray[np.float32], float]]] = [[], [], []]
    for file in sorted(folder.glob("*.wav")):
        name = NAME.fullmatch(file.stem)
        if name is None:
            raise InputError(f"{str(file)!r} is not named DIGIT_SPEAKER_INDEX.wav; give the folder of the recordings")
        index, samples = int(name[1]), read_wav("speech", file, RATE)
        hertz = pitch(samples)
        if hertz is not None:
            part = parts[0 if index > 9 else 1 if index > 4 else 2]
            part.append((spectrogram(samples), float(np.log2(hertz / 100))))
    if not all(parts):
        raise InputError(
            f"{str(folder)!r} has {len(parts[0])} recordings with a voiced frame for training, {len(parts[1])} for "
            f"validation and {len(parts[2])} for the test; give the folder of DIGIT_SPEAKER_INDEX.wav"
        )
    train, validation, test = (
        TensorDataset(torch.from_numpy(np.stack([x for x, _ in part])), torch.tensor([y for _, y in part]))
        for part in parts
    )
    return train, validation, test


def listener() -> nn.Module:
    """Three convolutions and two linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 1)),
    )


def measured(result: SearchResult, guess: float) -> Row:
    """Errors of full precision, of the chosen plan and of the best uniform one within the budget, and the verdict."""
    settings, best = result.folder.settings, result.best
    uniform = next(plan for plan in result.uniform if plan.met)
    return {
        "seed": settings.seed,
        "guess": guess,
        **{f"full {part}": getattr(settings.full_precision, part) for part in ("validation", "test")},
        **{f"chosen {part}": getattr(best.measured, part) for part in ("validation", "test")},
        **{f"uniform {part}": getattr(uniform.measured, part) for part in ("validation", "test")},
        "method": best.provenance.method,
        "cost": best.costs[settings.metric],
        "uniform cost": uniform.costs[settings.metric],
        "verdict": result.verdict.headline,
    }


def page(table: pd.DataFrame, sizes: dict[str, int], arguments: argparse.Namespace) -> str:
    """The table of all seeds."""
    heads = ["seed", "guessing", "full precision", "chosen", "its method", "best uniform", "verdict"]
    rows = [
        [
            row["seed"],
            f"{row['guess']:.3f}",
            *(f"{row[f'{kind} validation']:.3f} / {row[f'{kind} test']:.3f}" for kind in ("full", "chosen")),
            row["method"],
            f"{row['uniform validation']:.3f} / {row['uniform test']:.3f}",
            row["verdict"],
        ]
        for _, row in table.iterrows()
    ]
    shown = ", ".join(f"{count} for {name}" for name, count in sizes.items())
    return f"""# The pitch of spoken digits: a regression on recordings

Mean absolute error in octaves, validation / test; lower is better. {shown} (Free Spoken Digit Dataset). Plans cost at
most 1/{arguments.budget.removesuffix("x")} of the baseline's Bit Budget; {arguments.trials} trials search, beside
uniform plans. *Guessing*: the training part's median for every test recording. *Best uniform*: on validation, within
the budget. {arguments.epochs} epochs a trial, {arguments.full_precision_epochs} in full precision.
Machine: {machine()}.

{figures.table(heads, rows)}

Made by {made_by()}.
"""


def main() -> None:
    """Search with the seeds that the table lacks, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--budget", default="16x")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--full-precision-epochs", type=int, default=8)
    parser.add_argument("--runs", type=Path, default=Path("reports/speech"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        parts = spoken(arguments.recordings)
    except InputError as error:
        parser.error(str(error))
    pitches = [part.tensors[1] for part in parts]
    guess = float((pitches[2] - pitches[0].median()).abs().mean())
    kept = arguments.out / "speech.csv"
    rows: list[dict[str, Any]] = pd.read_csv(kept).to_dict("records") if kept.is_file() else []
    for seed in sorted(set(range(arguments.seeds)) - {row["seed"] for row in rows}):
        torch.manual_seed(seed)
        settings: dict[str, Any] = {"epochs": arguments.epochs, "trials": arguments.trials, "seed": seed}
        result = search(
            listener(),
            parts,
            arguments.budget,
            task=TASK,
            full_precision_epochs=arguments.full_precision_epochs,
            device="cpu",
            out=arguments.runs / f"seed-{seed}",
            **settings,
        )
        rows.append(measured(result, guess))
        progress(f"seed {seed}: {rows[-1]}")
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_whole(kept, pd.DataFrame(rows).to_csv(index=False))
    sizes = dict(zip(("training", "validation", "test"), map(len, parts), strict=True))
    text = page(pd.DataFrame(rows), sizes, arguments)
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
