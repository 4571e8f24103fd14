import h5py
import numpy as np
import pytest
import torch
from event_files import write_recordings

from bitsearch.data import load_data
from bitsearch.data.sets.shd import shd
from bitsearch.errors import InputError

TRAIN, TEST = 3, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shd")
    return root, write_recordings(root / "shd_train.h5", TRAIN, 0), write_recordings(root / "shd_test.h5", TEST, 1)


def counted(recording, frames, split_by):
    """The frames of a recording by a plain loop."""
    times, units = (values.astype(float) for values in recording)
    found = np.zeros((frames, 700), dtype=np.float32)
    for index, (time, unit) in enumerate(zip(times, units, strict=True)):
        if split_by == "number":
            frame = index // (len(times) // frames)
        else:
            frame = int((time - times[0]) * frames / (times[-1] - times[0]))
        found[min(frame, frames - 1), int(unit)] += 1
    return found


@pytest.mark.parametrize("split_by", ["number", "time"])
def test_frames_and_labels(folder, split_by):
    root, train, test = folder
    splits = shd(root=str(root), frames=5, split_by=split_by, validation_share=0.3)
    assert (splits.input_shape, splits.classes, splits.frames) == ((5, 700), 20, 5)
    assert [len(splits.split(name)) for name in ("train", "validation", "test")] == [40, 20, 40]

    def rows(inputs, labels):
        return {
            (bytes(np.asarray(frames, dtype=np.uint8)), int(label))
            for frames, label in zip(inputs, labels, strict=True)
        }

    def expected(labels, recordings):
        return rows([counted(recording, 5, split_by) for recording in recordings], labels)

    assert rows(*splits.train[:]) | rows(*splits.validation[:]) == expected(*train)
    assert rows(*splits.test[:]) == expected(*test)
    assert splits.validation.tensors[1].bincount().tolist() == [1] * 20
    assert splits.train[0][0].dtype == torch.float32


def test_frames_are_those_of_spikingjelly(folder):
    from spikingjelly.datasets.shd import _integrate_events_by_fixed_frames_number as integrate

    root, _, (_, recordings) = folder
    test = shd(root=str(root), frames=4, split_by="number").test[:][0]
    theirs = [integrate({"t": times, "x": units}, "number", 4, 700) for times, units in recordings]
    assert {bytes(frames.numpy()) for frames in test} == {bytes(frames.astype(np.float32)) for frames in theirs}


def test_the_seed_and_the_limit(folder):
    options = {"root": str(folder[0]), "limit": 2, "validation_share": 0.5}
    first, again, other = (load_data("shd", options, split_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train[:][0], again.train[:][0])
    assert not torch.equal(first.train[:][0], other.train[:][0])
    assert first.train[:][1].bincount().tolist() == [1] * 20


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        load_data("shd", {"root": str(root), **options}, split_seed=0)
    message = str(caught.value)
    assert message.startswith("shd: ")
    assert "\n" not in message
    return message


def test_missing_and_broken_files(tmp_path):
    message = refusal(tmp_path)
    assert "download and unpack shd_train.h5.zip and shd_test.h5.zip from https://zenkelab.org/datasets/" in message
    (tmp_path / "shd_train.h5").write_bytes(b"nothing of the kind")
    assert "is no file of spikes" in refusal(tmp_path)
    with h5py.File(tmp_path / "shd_train.h5", "w") as file:
        file["labels"] = np.zeros(3)
    assert "is no file of spikes" in refusal(tmp_path)
    for name in ("shd_train.h5", "shd_test.h5"):
        write_recordings(tmp_path / name, 2, 0)
    with h5py.File(tmp_path / "shd_train.h5", "a") as file:
        file["spikes/units"][3] = np.array([700] * len(file["spikes/units"][3]), dtype=np.uint16)
    assert "cannot read recording 3" in refusal(tmp_path)
    with h5py.File(tmp_path / "shd_train.h5", "a") as file:
        file["labels"][0] = 20
    assert "labels that are not from 0 to 19" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ({"frames": 0}, "frames is 0; give a whole number of time bins from 1 to 1000"),
        ({"frames": 2.0}, r"frames is 2.0; give"),
        ({"split_by": "size"}, "split_by is 'size'; give 'number' or 'time'"),
        ({"root": ""}, "no root given"),
    ],
)
def test_options_of_another_kind(tmp_path, option, allowed):
    assert allowed in refusal(**{"root": tmp_path, **option})
