import pytest
import torch
from learning import fell, guessed
from tolerances import summed
from torch import nn
from torch.nn import functional as F

from bitsearch.data import batches, load_data
from bitsearch.data.sets.digits import digits
from bitsearch.data.sets.digits_events import DARK_INTENSITY, MAX_FRAMES, SIDE, digits_events, positions, record
from bitsearch.errors import InputError

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def splits():
    return digits_events()


def test_sizes_and_shapes(splits):
    assert (splits.input_shape, splits.classes, splits.frames) == ((8, 2, SIDE, SIDE), 10, 8)
    assert [len(splits.split(name)) for name in PARTS] == [1077, 360, 360]
    inputs = splits.train.tensors[0]
    assert (inputs.shape, inputs.dtype) == ((1077, 8, 2, SIDE, SIDE), torch.float32)
    assert torch.equal(inputs, inputs.round())
    assert inputs.min() == 0
    first, _ = next(iter(batches(splits.validation, 5)))
    assert first.shape == (8, 5, 2, SIDE, SIDE)


def test_the_splits_are_those_of_the_digits(splits):
    for seed in (0, 3):
        mine, still = digits_events(split_seed=seed), digits(split_seed=seed)
        for name in PARTS:
            assert torch.equal(mine.split(name).tensors[1], still.split(name).tensors[1])


def test_recordings_are_the_same_every_time_and_in_any_split():
    first, again, other = (load_data("digits_events", {"frames": 3}, split_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.tensors[0], again.train.tensors[0])

    def rows(found):
        return {bytes(x.byte().numpy()) for name in PARTS for x in found.split(name).tensors[0]}

    assert rows(first) == rows(other)


def test_frames_share_the_same_events_whatever_their_number():
    ours = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    thresholds = torch.full((4, SIDE, SIDE), 0.5)
    one, many = (record(ours, positions(), thresholds, frames) for frames in (1, MAX_FRAMES))
    assert torch.equal(many.sum(1, keepdim=True), one)
    thirds = record(ours, positions(), thresholds, 3)
    assert torch.equal(many.unflatten(1, (3, MAX_FRAMES // 3)).sum(2), thirds)


def test_events_of_a_bright_field_that_appears_and_leaves_by_hand():
    # It covers the whole sensor; far off, the sensor is dark: log(1.1 / 0.1) = 2.398 is 4 thresholds of 0.5.
    path = torch.tensor([[100.0, 0.0], [0.0, 0.0], [100.0, 0.0]])
    field = torch.ones(1, 8, 8)
    counts = record(field, path, torch.full((1, SIDE, SIDE), 0.5), 2)
    assert DARK_INTENSITY == 0.1
    assert counts[0, :, :, 5, 5].tolist() == [[0, 4], [4, 0]]
    assert record(field, path, torch.full((1, SIDE, SIDE), 2.5), 2).sum() == 0


def test_what_is_left_of_a_change_counts_for_the_next_event():
    # 2.398 are 1 threshold of 1.5; back in the dark the reference is 1.5 above: one event down, and no more.
    path = torch.tensor([[100.0, 0.0], [0.0, 0.0], [0.0, 0.0], [100.0, 0.0]])
    counts = record(torch.ones(1, 8, 8), path, torch.full((1, SIDE, SIDE), 1.5), 3)
    assert counts[0, :, :, 6, 6].tolist() == [[0, 1], [0, 0], [1, 0]]


def test_a_digit_that_moves_right_darkens_on_its_left():
    path = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    counts = record(torch.ones(1, 8, 8), path, torch.full((1, SIDE, SIDE), 0.5), 1)[0, 0]
    off, on = counts
    columns = torch.arange(SIDE)
    assert (off.sum(0) * columns).sum() / off.sum() < 3
    assert (on.sum(0) * columns).sum() / on.sum() > 8


def test_the_path_is_closed_and_centred():
    path = positions()
    assert path.shape == (MAX_FRAMES + 1, 2)
    torch.testing.assert_close(path[0], path[-1])
    torch.testing.assert_close(path[:-1].mean(0), torch.zeros(2), **summed(MAX_FRAMES, path.abs().max().item()))
    steps = (path[1:] - path[:-1]).norm(dim=1)
    # The longest sides are from (±0.8, −0.5) to (0, 1), in 16 steps.
    assert steps.max().item() == pytest.approx(1.7 / 16)


def test_all_frames_are_worth_more_than_one_is_on_average(splits):
    """A classifier that is linear in the frames, the same for every frame, by its mean logits over time."""

    def correct(frames):
        parts = [(part.tensors[0][:, frames].sqrt(), part.tensors[1]) for part in (splits.train, splits.validation)]
        (inputs, labels), (unseen, truth) = parts
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(2), nn.Linear(2 * SIDE * SIDE, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(network.parameters(), 3e-3, weight_decay=1e-3)
        for _ in range(10):
            for batch in torch.randperm(len(labels)).split(64):
                loss = F.cross_entropy(network(inputs[batch]).mean(1), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            return (network(unseen).mean(1).argmax(1) == truth).double()

    alone = torch.stack([correct([frame]) for frame in range(8)]).mean(0)
    together = correct(list(range(8)))
    assert together.mean() > guessed(len(together), 10)
    # Not more than the best one: the frames in which most events fall nearly show the digit. Wrong is a loss of one.
    assert fell(1 - alone, 1 - together)


@pytest.mark.parametrize("frames", [0, MAX_FRAMES + 1, 2.0, True, "8"])
def test_frames_that_there_cannot_be(frames):
    with pytest.raises(InputError, match=f"digits_events: frames is {frames!r}; give a whole number from 1 to 48"):
        load_data("digits_events", {"frames": frames}, split_seed=0)
