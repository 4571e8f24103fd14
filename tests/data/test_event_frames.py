from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.data import batches, event_frames
from bitsearch.data.event_frames import EventFrames, StoredFrames, count_events, flip_and_roll, frame_samples
from bitsearch.data.splits import Splits, labels_of


def test_frames_of_a_number_of_events_by_hand():
    times, addresses = np.array([0, 1, 2, 3, 4, 5, 100]), np.array([0, 0, 1, 2, 2, 2, 1])
    assert count_events(times, addresses, 3, "number", (3,)).tolist() == [[2, 0, 0], [0, 1, 1], [0, 1, 2]]
    assert count_events(times, addresses, 1, "number", (3,)).tolist() == [[2, 2, 3]]


def test_frames_of_a_length_of_time_by_hand():
    times, addresses = np.array([10, 11, 14, 15, 19, 20]), np.array([0, 1, 1, 3, 3, 2])
    found = count_events(times, addresses, 2, "time", (2, 2))
    assert found.tolist() == [[[1, 2], [0, 0]], [[0, 0], [1, 2]]]


def test_a_silent_frame_is_empty_and_the_last_event_is_counted():
    found = count_events(np.array([0.0, 0.1, 1.0]), np.array([0, 0, 0]), 10, "time", (1,))
    assert found.flatten().tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("split_by", ["number", "time"])
def test_recordings_of_no_and_of_one_event(split_by):
    assert count_events(np.zeros(0), np.zeros(0), 3, split_by, (2,)).tolist() == [[0, 0]] * 3
    assert count_events(np.array([7]), np.array([1]), 3, split_by, (2,)).sum(0).tolist() == [0, 1]


@pytest.mark.parametrize("address", [-1, 4])
def test_an_address_outside_the_frame(address):
    with pytest.raises(ValueError, match="outside the frame of 2 × 2"):
        count_events(np.array([0]), np.array([address]), 1, "number", (2, 2))


@given(
    st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(1, 12),
    st.sampled_from(["number", "time"]),
)
def test_counts_are_those_of_a_loop(events, frames, split_by):
    times = [time for time, _ in events]
    expected = np.zeros((frames, 6), dtype=int)
    for index, (time, address) in enumerate(events):
        if split_by == "number":
            frame = index // max(1, len(events) // frames)
        else:
            frame = int(Fraction(time - min(times)) * frames / max(1, max(times) - min(times)))
        expected[min(frame, frames - 1), address] += 1
    found = count_events(np.array(times), np.array([address for _, address in events]), frames, split_by, (6,))
    assert found.tolist() == expected.tolist()


RECORDINGS = np.random.default_rng(0).integers(0, 9, (6, 3, 2, 4, 4))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def samples(recordings=RECORDINGS, *, whole=True, augment=None):
    return frame_samples(
        lambda index: recordings[index], range(6), LABELS, shape=(3, 2, 4, 4), integer_counts=whole, augment=augment
    )


@pytest.mark.parametrize(("whole", "kept"), [(True, torch.uint8), (False, torch.float16)])
def test_frames_are_kept_small_and_read_as_floats(whole, kept):
    part = samples(whole=whole)
    assert isinstance(part, EventFrames)
    assert part.tensors[0].dtype == kept
    assert part[:][0].dtype == torch.float32
    assert torch.equal(part[:][0], torch.tensor(RECORDINGS, dtype=torch.float32))
    assert torch.equal(part[2][0], part[:][0][2])


def test_counts_above_a_byte_are_kept():
    large = RECORDINGS.copy()
    large[3, 1, 0, 2, 2] = 1999
    part = samples(large)
    assert torch.equal(part[:][0], torch.tensor(large, dtype=torch.float32))


def test_frames_that_are_too_many_are_read_when_needed_and_are_the_same(monkeypatch):
    kept = samples(augment=flip_and_roll)
    monkeypatch.setattr(event_frames, "MAX_BYTES_IN_MEMORY", RECORDINGS.size)
    assert isinstance(samples(), EventFrames)
    monkeypatch.setattr(event_frames, "MAX_BYTES_IN_MEMORY", RECORDINGS.size - 1)
    stored = samples(augment=flip_and_roll)
    assert isinstance(stored, StoredFrames)
    assert torch.equal(labels_of(stored), LABELS)
    Splits(kept, kept, kept, input_shape=(3, 2, 4, 4), classes=3, frames=3)
    Splits(stored, stored, stored, input_shape=(3, 2, 4, 4), classes=3, frames=3)
    for seed in (None, 5):
        first, second = (
            list(batches(part, 4, None if seed is None else torch.Generator().manual_seed(seed)))
            for part in (kept, stored)
        )
        for mine, others in zip(first, second, strict=True):
            assert mine[0].shape[0] == 3
            assert mine[0].dtype == others[0].dtype == torch.float32
            assert torch.equal(mine[0], others[0])
            assert torch.equal(mine[1], others[1])


def test_each_recording_is_rolled_and_perhaps_mirrored_as_a_whole():
    inputs = torch.arange(100.0 * 2 * 1 * 13 * 12).view(100, 2, 1, 13, 12)
    before = inputs.clone()
    found = flip_and_roll(inputs, torch.Generator().manual_seed(0))
    assert torch.equal(inputs, before)
    assert found.is_contiguous()
    seen = set()
    for recording, moved in zip(inputs, found, strict=True):
        fits = [
            (down, right, mirrored)
            for mirrored in (False, True)
            for down in range(-5, 6)
            for right in range(-5, 6)
            if torch.equal(
                moved, torch.roll(recording.flip(-1) if mirrored else recording, (down, right), dims=(-2, -1))
            )
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert {down for down, _, _ in seen} == {right for _, right, _ in seen} == set(range(-5, 6))
    assert {mirrored for _, _, mirrored in seen} == {False, True}
    assert torch.equal(found, flip_and_roll(inputs, torch.Generator().manual_seed(0)))
    assert not torch.equal(found, flip_and_roll(inputs, torch.Generator().manual_seed(1)))
