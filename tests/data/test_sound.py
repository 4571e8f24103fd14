"""Recordings, their log-mel frames and events, against plain sums and loops."""

import cmath
import math

import numpy as np
import pytest
from sound_files import RATE_HZ, write_wav

from bitsearch.data.sound import FLOOR, crossings, log_mel, mel_filters, read_wav
from bitsearch.errors import InputError


def test_samples_are_those_written(tmp_path):
    samples = np.random.default_rng(0).uniform(-1.9, 1.9, 100)
    write_wav(tmp_path / "a.wav", samples)
    assert np.array_equal(read_wav("fsdd", tmp_path / "a.wav", RATE_HZ), np.trunc(samples * 2**14) / 2**15)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "it ends early"), (b"<html>not found</html>", "file does not start with RIFF id")]
)
def test_a_file_that_is_no_recording_is_named(tmp_path, content, reason):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_wav("fsdd", tmp_path / "a.wav", RATE_HZ)
    line = f"fsdd: '{tmp_path / 'a.wav'}' is no recording that can be read: {reason}; download it again"
    assert str(caught.value) == line


def test_another_rate_is_named(tmp_path):
    write_wav(tmp_path / "a.wav", [0.0], rate_hz=16000)
    with pytest.raises(InputError, match="has 1 channels of 16 bits at 16000 Hz, not 1 of 16 at 8000; download it"):
        read_wav("fsdd", tmp_path / "a.wav", RATE_HZ)


@pytest.mark.parametrize("bands", [1, 7, 32, 64])
def test_filters_lie_equally_far_apart_in_mel_and_share_every_frequency(bands):
    bins = 1025
    filters, frequencies = mel_filters(bands, bins, RATE_HZ), np.linspace(0, RATE_HZ / 2, bins)
    # A mel scale that is written another way: 2595 log10(1 + f / 700).
    mels = [2595 * math.log10(1 + frequency / 700) for frequency in frequencies]
    distance = mels[-1] / (bands + 1)
    for number, weights in enumerate(filters, start=1):
        assert mels[int(weights.argmax())] == pytest.approx(number * distance, abs=distance / 2)
        inside = [abs(mel - number * distance) < distance * 0.999 for mel in mels]
        assert (weights[inside] > 0).all()
        assert not weights[[abs(mel - number * distance) > distance * 1.001 for mel in mels]].any()
    between = [distance <= mel <= bands * distance for mel in mels]
    assert filters[:, between].sum(0) == pytest.approx(1)


def test_energies_are_those_of_a_plain_fourier_sum():
    samples = np.random.default_rng(1).standard_normal(70)
    found = log_mel(samples, frames=4, hop=16, window=20, bands=5, rate_hz=RATE_HZ)
    filters = mel_filters(5, 33, RATE_HZ)
    for frame in range(4):
        window = [
            samples[16 * frame + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / 19))
            for n in range(20)
            if 16 * frame + n < len(samples)
        ]
        for band in range(5):
            power = [
                abs(sum(value * cmath.exp(-2j * math.pi * k * n / 64) for n, value in enumerate(window))) ** 2
                for k in range(33)
            ]
            assert found[frame, band] == pytest.approx(math.log(filters[band] @ power + FLOOR), rel=1e-9)


def test_short_recordings_end_in_silence_and_long_ones_are_cut():
    settings = {"frames": 6, "hop": 80, "window": 200, "bands": 8, "rate_hz": RATE_HZ}
    samples = np.random.default_rng(2).standard_normal(2000)
    whole = log_mel(samples, **settings)
    assert np.array_equal(log_mel(samples[: 80 * 5 + 200], **settings), whole)
    short = log_mel(samples[:240], **settings)
    assert np.array_equal(short[0], whole[0])
    assert short[3:] == pytest.approx(math.log(FLOOR))


def test_events_are_the_thresholds_between_two_frames():
    energies = np.random.default_rng(3).normal(scale=3, size=(9, 4))
    found = crossings(energies, 0.7)
    thresholds = [0.7 * number for number in range(-100, 101)]
    for frame in range(9):
        for band in range(4):
            before, now = energies[max(0, frame - 1), band], energies[frame, band]
            assert found[frame, band] == sum(before < each <= now for each in thresholds)
            assert found[frame, 4 + band] == sum(now < each <= before for each in thresholds)
    assert not found[0].any()


def test_a_tone_begins_and_ends_in_its_band():
    hop, bands = 160, 16
    samples = np.zeros(hop * 33)
    samples[10 * hop : 20 * hop] = np.sin(2 * np.pi * 1000 * np.arange(10 * hop) / RATE_HZ)
    energies = log_mel(samples, frames=32, hop=hop, window=2 * hop, bands=bands, rate_hz=RATE_HZ)
    on, off = crossings(energies)[:, :bands].astype(int), crossings(energies)[:, bands:].astype(int)
    # The centre that is nearest to 1,000 Hz, of those from 0 to 4,000 Hz.
    band = round(math.log1p(1000 / 700) / math.log1p(4000 / 700) * (bands + 1)) - 1
    assert on[:8].sum() == off[:8].sum() == 0
    assert energies[15].argmax() == band
    assert off[18:22].sum(0)[band] == on.sum(0)[band] == on[8:12].sum(0)[band] > 5
