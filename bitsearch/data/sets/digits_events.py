"""Simulated event-camera recordings of scikit-learn's digits; nothing to download."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from bitsearch.data.data_set import DataSet
from bitsearch.data.sets.digits import DIGITS, split_indices
from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

SIDE = 12
"""Pixels of the simulated sensor, each way."""
DIGIT_SIDE = 9
"""Side of a digit's image on the sensor, in the sensor's pixels."""
CORNERS = ((-0.8, -0.5), (0.0, 1.0), (0.8, -0.5), (-0.8, -0.5))
"""Corners of the path (x, y) in pixels that a digit takes: three saccades, back to where it began."""
STEPS_PER_SACCADE = 16
"""Number of positions in a saccade."""
DARK_INTENSITY = 0.1
"""Intensity of a black pixel, which is added to intensities from 0 to 1."""
MEAN_THRESHOLD = 0.8
"""Change of the log intensity that makes an event."""
THRESHOLD_DEVIATION = 0.1
"""Standard deviation of a pixel's own threshold, as a share of the threshold."""
NOISE_EVENTS = 0.16
"""Mean number of noise events of a pixel and polarity in the whole recording."""
MAX_FRAMES = (len(CORNERS) - 1) * STEPS_PER_SACCADE
"""Number of positions in a recording."""


def digits_events(*, split_seed: int = 0, frames: int = 8) -> Splits:
    """SIMULATED recordings of the real digits of :func:`bitsearch.data.sets.digits.digits`, in the same splits.

    Every digit makes three saccades before a sensor that stands still, as the images of N-MNIST did before theirs
    (Orchard et al. 2015). A pixel gives an ON or OFF event whenever its log intensity has risen or fallen by its
    threshold since the last one; thresholds vary, and there are events of noise (the model of Hu, Liu and Delbruck
    2021, arXiv 2006.07722, without its bandwidth and leak).

    Inputs ``[T, 2, 12, 12]``: the number of OFF and ON events of each pixel in each frame; no event is zero.

    Args:
        split_seed: fixes the splits; the recordings are always the same.
        frames: T; the :data:`MAX_FRAMES` positions are divided among them as equally as possible.

    Raises:
        InputError: ``frames`` is not a whole number from 1 to :data:`MAX_FRAMES`.
    """
    if not isinstance(frames, int) or isinstance(frames, bool) or not 1 <= frames <= MAX_FRAMES:
        raise InputError(f"digits_events: frames is {frames!r}; give a whole number from 1 to {MAX_FRAMES}")
    inputs, labels = _recordings(frames)
    parts = {
        name: TensorDataset(inputs[part], labels[part])
        for name, part in split_indices(labels.numpy(), split_seed).items()
    }
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        input_shape=tuple(inputs.shape[1:]),
        classes=10,
        frames=frames,
    )


def positions() -> Tensor:
    """Positions (x, y) of the digit's centre, in pixels from the sensor's centre: ``[MAX_FRAMES + 1, 2]``."""
    corners = torch.tensor(CORNERS)
    share = torch.arange(MAX_FRAMES) % STEPS_PER_SACCADE / STEPS_PER_SACCADE
    start = torch.arange(MAX_FRAMES) // STEPS_PER_SACCADE
    saccade_path = corners[start] + share[:, None] * (corners[start + 1] - corners[start])
    return torch.cat([saccade_path, corners[-1:]])


def record(images: Tensor, path: Tensor, thresholds: Tensor, frames: int) -> Tensor:
    """Simulate the events of images that move in front of the sensor.

    Args:
        images: intensities from 0 to 1, ``[N, H, W]``.
        path: of their centres, in pixels off the sensor's centre, ``[P + 1, 2]``.
        thresholds: of every pixel, above 0, ``[N, SIDE, SIDE]``.
        frames: T; the P moves are divided among them.

    Returns:
        OFF and ON events ``[N, T, 2, SIDE, SIDE]``.
    """
    moves = len(path) - 1
    counts = torch.zeros(len(images), frames, 2, SIDE, SIDE)
    reference = _log_intensity(images, path[0])
    for move, centre in enumerate(path[1:]):
        events = ((_log_intensity(images, centre) - reference) / thresholds).trunc()
        reference += events * thresholds
        frame = counts[:, move * frames // moves]
        frame[:, 0] += events.clamp(max=0).neg()
        frame[:, 1] += events.clamp(min=0)
    return counts


def _log_intensity(images: Tensor, centre: Tensor) -> Tensor:
    """Log intensity at every pixel of the sensor, ``[N, SIDE, SIDE]``, of images with their centre at ``centre``."""
    pixels = torch.arange(SIDE) - (SIDE - 1) / 2
    x, y = (pixels - offset for offset in centre)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1) / (DIGIT_SIDE / 2)
    intensities = F.grid_sample(images[:, None], grid.expand(len(images), -1, -1, -1), align_corners=False)
    return (intensities[:, 0] + DARK_INTENSITY).log()


@cache
def _recordings(frames: int) -> tuple[Tensor, Tensor]:
    """(frames of all digits, labels); the same in every call."""
    # Imported where it is needed, as in digits.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(0)
    relative_thresholds = 1 + THRESHOLD_DEVIATION * torch.randn(len(images), SIDE, SIDE, generator=generator)
    thresholds = MEAN_THRESHOLD * relative_thresholds.clamp(min=0.5)
    intensities = torch.tensor(images, dtype=torch.float32).reshape(-1, 8, 8) / 16
    inputs = record(intensities, positions(), thresholds, frames)
    noise = torch.poisson(torch.full_like(inputs, NOISE_EVENTS / frames), generator=generator)
    return inputs + noise, torch.tensor(labels)


DIGITS_EVENTS = DataSet(
    "digits_events",
    digits_events,
    "simulated event-camera recordings of digits",
    shape=f"T×2×{SIDE}×{SIDE}",
    classes=DIGITS.classes,
    counts=DIGITS.counts,
)
