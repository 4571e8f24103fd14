"""Twins on audio, as the command compares them: on synthesized tones, since recordings are not kept here."""

from dataclasses import replace

import numpy as np
import torch
from sound_files import RATE_HZ, write_wav
from tolerances import FLOAT64
from torch.utils.data import TensorDataset

from benchmarks.twins import BANDS, FRAMES, MultiStep, StepByStep, compare, problem
from bitsearch.data import load_data
from bitsearch.plan import UniformBits


def tone(digit, speaker, index):
    """A tone that rises or falls, loud for a while."""
    time = np.arange(RATE_HZ * 64 // 100) / RATE_HZ
    low, high = 300 + 40 * speaker, 1500 + 60 * index
    start, end = (low, high) if digit else (high, low)
    loud = (time > 0.05 * (1 + index % 3)) & (time < 0.4)
    return loud * np.sin(2 * np.pi * (start + (end - start) * time / time[-1] / 2) * time)


def test_twins_on_tones_are_equal(tmp_path):
    for index in range(14):
        for digit in (0, 1):
            write_wav(tmp_path / f"{digit}_tone{index % 2}_{index}.wav", tone(digit, index % 2, index))
    splits = load_data("fsdd", {"root": str(tmp_path), "features": "events", "bands": BANDS}, split_seed=0)
    assert splits.sizes == {"train": 8, "validation": 10, "test": 10}
    parts = {name: splits.split(name).tensors for name in splits.sizes}
    splits = replace(splits, **{name: TensorDataset(x.double(), labels) for name, (x, labels) in parts.items()})
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
