"""Twins on audio, as the command compares them: on synthesized tones, since recordings are not kept here."""

import wave

import numpy as np
import torch
from tolerances import FLOAT64

from benchmarks.twins import BANDS, FRAMES, HOP, RATE, MultiStep, StepByStep, compare, events, problem, spoken_digits
from bitsearch.plan import UniformBits


def write(file, samples):
    with wave.open(str(file), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE)
        recording.writeframes((samples * 2**14).astype("<i2").tobytes())


def tone(digit, speaker, index):
    """A tone that rises or falls, loud for a while."""
    time = np.arange(HOP * FRAMES) / RATE
    low, high = 300 + 40 * speaker, 1500 + 60 * index
    start, end = (low, high) if digit else (high, low)
    loud = (time > 0.05 * (1 + index % 3)) & (time < 0.4)
    return loud * np.sin(2 * np.pi * (start + (end - start) * time / time[-1] / 2) * time)


def test_a_tone_begins_and_ends_in_its_band(tmp_path):
    samples = np.zeros(HOP * (FRAMES + 1))
    samples[10 * HOP : 20 * HOP] = np.sin(2 * np.pi * 1000 * np.arange(10 * HOP) / RATE)
    write(tmp_path / "0_tone_0.wav", samples)
    on, off = events(tmp_path / "0_tone_0.wav").split(BANDS, 1)
    # The band of 1,000 Hz, on the mel scale from 0 to 4,000 Hz.
    band = int(np.log1p(1000 / 700) / np.log1p(4000 / 700) * BANDS)
    assert on.shape == (FRAMES, BANDS)
    assert on[:9].sum() == off[:9].sum() == 0
    assert on[9:12].sum(0).argmax() == band
    assert off[18:22].sum(0)[band] == on.sum(0)[band] == on[9:12].sum(0)[band]


def test_twins_on_tones_are_equal(tmp_path):
    for index in range(14):
        for digit in (0, 1):
            write(tmp_path / f"{digit}_tone{index % 2}_{index}.wav", tone(digit, index % 2, index))
    splits = spoken_digits(tmp_path)
    for part in (splits.train, splits.validation, splits.test):
        part.tensors = part.tensors[0].double(), part.tensors[1]
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [8, 10, 10]
    torch.manual_seed(0)
    whole, loop = MultiStep(24).double(), StepByStep(24).double()
    for part in whole.layers[::2]:
        part.weight.data *= 4
    loop.load_state_dict(whole.state_dict())
    inputs = splits.test.tensors[0].transpose(0, 1)
    twins = [problem(network, splits, "4x", 1) for network in (whole, loop)]
    for weight_bits, spike_bits in ((8, 8), (4, 2), (2, 1)):
        bits = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=FRAMES)
        _, plans, *differences = compare(twins, bits, inputs, tmp_path)
        assert plans == "equal"
        assert max(map(float, differences)) <= FLOAT64
