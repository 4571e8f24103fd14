r"""Recordings of sound as arrays: their files, log-mel frames, and the events of a model of the ear.

Filters are triangles on the mel scale, :math:`m = 1127 \ln(1 + f / 700)` (Stevens et al. 1937, as O'Shaughnessy 1987
writes it). A log energy that crosses thresholds from one frame to the next is as many events, ON where it rises and OFF
where it falls, as a silicon cochlea sends them (Liu and Delbruck 2010).
"""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitsearch.errors import InputError

FLOOR = 1e-4
"""Added to energies of samples from -1 to 1 before their logarithm."""


def read_wav(name: str, file: Path, rate_hz: int) -> NDArray[np.float64]:
    """The samples of a mono recording of 16 bits, from -1 to 1.

    Raises:
        InputError: it cannot be read, or has another form or rate; ``name`` begins the message.
    """
    try:
        with wave.open(str(file), "rb") as recording:
            form = recording.getnchannels(), 8 * recording.getsampwidth(), recording.getframerate()
            content = recording.readframes(recording.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        reason = str(error) or "it ends early"
        raise InputError(
            f"{name}: {str(file)!r} is no recording that can be read: {reason}; download it again"
        ) from error
    if form != (1, 16, rate_hz):
        raise InputError(
            f"{name}: {str(file)!r} has {form[0]} channels of {form[1]} bits at {form[2]} Hz, not 1 of 16 at {rate_hz}"
            "; download it again, or convert it"
        )
    return np.frombuffer(content, dtype="<i2", count=len(content) // 2) / 2.0**15


def mel_filters(bands: int, bins: int, rate_hz: int) -> NDArray[np.float64]:
    """``[bands, bins]``: triangles of height 1 whose centres lie equally far apart in mel, from 0 to half the rate.

    Args:
        bands: their number.
        bins: of a power spectrum, from 0 to half the rate.
        rate_hz: samples a second.
    """
    highest = 1127 * np.log1p(rate_hz / 2 / 700)
    corners = 700 * np.expm1(np.linspace(0, highest, bands + 2) / 1127)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequencies = np.linspace(0, rate_hz / 2, bins)
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    filters: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    return filters


def log_mel(
    samples: NDArray[np.float64], *, frames: int, hop: int, window: int, bands: int, rate_hz: int
) -> NDArray[np.float64]:
    """``[frames, bands]``: logarithms of the energies in ``bands`` of Hann windows that begin every ``hop`` samples.

    A recording that is shorter ends with silence; one that is longer is cut.
    """
    length = hop * (frames - 1) + window
    padded = np.pad(samples[:length], (0, max(0, length - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * np.hanning(window)
    # Twice as fine as the window resolves, so that the narrowest of many bands has a bin.
    points = 2 ** int(np.ceil(np.log2(2 * window)))
    power = np.square(np.abs(np.fft.rfft(windows, points)))
    return np.log(power @ mel_filters(bands, power.shape[1], rate_hz).T + FLOOR)


def crossings(log_energies: NDArray[np.float64], threshold: float = 1.0) -> NDArray[np.uint8]:
    """ON and OFF events ``[frames, 2·bands]``: thresholds crossed since the frame before, of ``[frames, bands]``.

    ``threshold``: distance of two thresholds, in nepers of energy. The first frame has none.
    """
    levels = np.floor(log_energies / threshold)
    change = np.diff(levels, axis=0, prepend=levels[:1])
    return np.concatenate([change.clip(min=0), (-change).clip(min=0)], 1).astype(np.uint8)
