import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import (
    GESTURES,
    write_atis,
    write_cifar10_dvs,
    write_dvs128_gesture,
    write_n_caltech101,
    write_n_mnist,
)

from bitsearch.data import batches, load_data
from bitsearch.data.recordings import integrate
from bitsearch.errors import InputError

PARTS = ("train", "validation", "test")


def counted(events, frames, split_by, width, height):
    """Frames by a plain loop over the events."""
    found = np.zeros((frames, 2, height, width), dtype=np.float32)
    first, last = events[0][0], events[-1][0]
    for index, (time, x, y, polarity) in enumerate(events):
        number = split_by == "number"
        frame = index // (len(events) // frames) if number else (time - first) * frames // (last - first)
        found[min(frame, frames - 1), polarity, y, x] += 1
    return found


WRITERS = {
    "n_mnist": (write_n_mnist, (34, 34), 2),
    "cifar10_dvs": (write_cifar10_dvs, (128, 128), 10),
    "dvs128_gesture": (write_dvs128_gesture, (128, 128), GESTURES),
    "n_caltech101": (write_n_caltech101, (240, 180), 3),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder, what was written in it) of every data set."""
    folders = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    return {name: (folder, WRITERS[name][0](folder)) for name, folder in folders.items()}


def load(name, root, *, split_seed=0, **options):
    return load_data(name, {"root": str(root), **options}, split_seed=split_seed)


def rows(inputs, labels):
    """Frames and labels as a set that can be compared."""
    return {
        (np.asarray(frames, dtype=np.float32).tobytes(), int(label))
        for frames, label in zip(inputs, labels, strict=True)
    }


@pytest.mark.parametrize(("split_by", "frames"), [("number", 4), ("time", 3)])
@pytest.mark.parametrize("name", WRITERS)
def test_frames_and_labels_are_those_of_the_files(written, name, split_by, frames):
    root, files = written[name]
    _, (width, height), classes = WRITERS[name]
    splits = load(name, root, split_by=split_by, frames=frames, validation_share=0.34)
    assert (splits.input_shape, splits.classes, splits.frames) == ((frames, 2, height, width), classes, frames)
    found = {part: rows(*splits.split(part)[:]) for part in PARTS}
    expected = {
        part: rows(
            [counted(events, frames, split_by, width, height) for events, _ in recordings],
            [label for _, label in recordings],
        )
        for part, recordings in files.items()
    }
    if "all" in files:
        assert found["train"] | found["validation"] | found["test"] == expected["all"]
        assert labels(splits.test).bincount().tolist() == [1] * classes
    else:
        assert found["train"] | found["validation"] == expected["train"]
        assert found["test"] == expected["test"]
    assert labels(splits.validation).bincount().tolist() == [1] * classes
    assert sum(map(len, found.values())) == sum(map(len, files.values()))


def labels(part):
    return part.tensors[1]


def test_batches_are_time_first_and_small_in_memory(written):
    splits = load("n_mnist", written["n_mnist"][0], frames=3)
    assert splits.train.tensors[0].dtype == torch.uint8
    first, _ = next(iter(batches(splits.train, 2)))
    assert (first.shape, first.dtype) == ((3, 2, 2, 34, 34), torch.float32)


def test_the_seed_fixes_what_is_held_back(written):
    root = written["cifar10_dvs"][0]
    first, again, other = (load("cifar10_dvs", root, frames=2, size=16, split_seed=seed) for seed in (0, 0, 1))
    for part in PARTS:
        assert torch.equal(first.split(part)[:][0], again.split(part)[:][0])
        assert not torch.equal(first.split(part)[:][0], other.split(part)[:][0])
    seen = [rows(*first.split(part)[:]) for part in PARTS]
    assert len(set.union(*seen)) == 40


def test_size_averages_the_counts(written):
    root = written["cifar10_dvs"][0]
    whole, small, odd = (load("cifar10_dvs", root, frames=2, **size) for size in ({}, {"size": 32}, {"size": 48}))
    assert (small.input_shape, odd.input_shape) == ((2, 2, 32, 32), (2, 2, 48, 48))
    assert small.train.tensors[0].dtype == torch.float16
    full = whole.test[:][0]
    expected = full.reshape(len(full), 2, 2, 32, 4, 32, 4).mean((4, 6))
    torch.testing.assert_close(small.test[:][0], expected, rtol=0, atol=0)
    assert odd.train[0][0].dtype == torch.float32


def test_a_limit_is_for_every_class_and_part(written):
    found = load("n_mnist", written["n_mnist"][0], frames=3, limit=2, validation_share=0.5)
    assert [labels(found.split(part)).bincount().tolist() for part in PARTS] == [[1, 1], [1, 1], [2, 2]]


def test_augmentation_moves_training_batches_only(written):
    root = written["cifar10_dvs"][0]
    plain, moved = (load("cifar10_dvs", root, frames=2, size=16, augment=augment) for augment in (False, True))
    for part in PARTS:
        first, second = (
            next(iter(batches(splits.split(part), 20, torch.Generator().manual_seed(0)))) for splits in (plain, moved)
        )
        assert torch.equal(first[1], second[1])
        assert torch.equal(first[0], second[0]) == (part != "train")
    assert torch.equal(plain.train[:][0], moved.train[:][0])


def test_what_was_made_once_is_read_again_without_the_recordings(tmp_path):
    write_n_mnist(tmp_path)
    first = load("n_mnist", tmp_path, frames=3)
    for file in (tmp_path / "extract").rglob("*.bin"):
        file.unlink()
    again = load("n_mnist", tmp_path, frames=3)
    other = load("n_mnist", tmp_path, frames=1)
    assert torch.equal(first.train[:][0], again.train[:][0])
    assert torch.equal(first.train[:][0].sum(1), other.train[:][0].sum(1))


def test_folders_that_a_process_left_unfinished_are_made_anew(tmp_path):
    write_n_mnist(tmp_path)
    whole = load("n_mnist", tmp_path, frames=3)
    for folder in ("events_np", "frames_3_by_number"):
        for file in [*(tmp_path / folder / "train" / "0").iterdir()][1:]:
            file.unlink()
        (tmp_path / f"{folder}.building").touch()
    mended = load("n_mnist", tmp_path, frames=3)
    assert rows(*mended.train[:]) == rows(*whole.train[:])
    assert not [*tmp_path.glob("*.building")]


# Refusals.


def refusal(name, root, **options):
    """The message, which has to be one line."""
    with pytest.raises(InputError) as caught:
        load(name, root, **options)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "archive", "page", "first"),
    [
        ("n_mnist", "Train.zip and Test.zip", "https://www.garrickorchard.com/datasets/n-mnist", "extract/Train"),
        ("cifar10_dvs", "airplane.zip", "https://figshare.com/", "extract/airplane"),
        ("dvs128_gesture", "DvsGesture.tar.gz", "https://ibm.ent.box.com/", "extract/DvsGesture"),
        ("n_caltech101", "Caltech101.zip", "https://www.garrickorchard.com/datasets/n-caltech101", "extract/Caltech"),
    ],
)
def test_missing_files_name_the_archive_its_page_and_the_folder(tmp_path, name, archive, page, first):
    for root in (tmp_path / "nowhere", tmp_path):
        message = refusal(name, root)
        assert f"download and unpack {archive}" in message
        assert f"from {page}" in message
        assert f"{str(root)!r} holds {first}" in message
    assert [*tmp_path.iterdir()] == []


def test_archives_that_were_not_unpacked_stay_as_they_are(tmp_path):
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "Train.zip").write_bytes(b"not the published one")
    assert "download and unpack" in refusal("n_mnist", tmp_path)
    assert (tmp_path / "download" / "Train.zip").read_bytes() == b"not the published one"


def test_broken_recordings(tmp_path):
    write_n_mnist(tmp_path)
    file = tmp_path / "extract" / "Train" / "0" / "00000.bin"
    good = file.read_bytes()
    file.write_bytes(good[:-2])
    assert f"cannot read the recording {str(file)!r}" in refusal("n_mnist", tmp_path)
    write_atis(file, [(5, 34, 0, 1)])
    events = tmp_path / "events_np" / "train" / "0" / "00000.npz"
    assert f"cannot read the recording {str(events)!r} (an event lies outside the 34 × 34 pixels)" in refusal(
        "n_mnist", tmp_path
    )
    file.write_bytes(good)
    message = refusal("n_mnist", tmp_path)
    assert f"remove {str(tmp_path / 'events_np')!r}" in message
    shutil.rmtree(tmp_path / "events_np")
    assert len(load("n_mnist", tmp_path).test) == 4


@pytest.mark.parametrize("name", WRITERS)
def test_a_recording_that_cannot_be_read_is_named(tmp_path, name):
    WRITERS[name][0](tmp_path)
    recordings = [file for file in (tmp_path / "extract").rglob("*") if file.suffix in (".bin", ".aedat")]
    worst = sorted(recordings)[len(recordings) // 2]
    worst.write_bytes(worst.read_bytes()[:-3])
    # Half an event is found out where it is converted, or where frames are made of what was converted.
    named = re.search(r"cannot read the recording '(.*?)' \(", refusal(name, tmp_path))[1]
    assert Path(named).stem == worst.stem
    assert named.startswith(str(tmp_path / "extract")) or Path(named).parent.name == worst.parent.name


@pytest.mark.parametrize("name", WRITERS)
def test_all_recordings_that_cannot_be_read_are_counted(tmp_path, name):
    WRITERS[name][0](tmp_path)
    files = sorted(file for file in (tmp_path / "extract").rglob("*") if file.suffix in (".bin", ".aedat"))
    for number in range(1, 4):
        file = files[-number]
        file.write_bytes(file.read_bytes()[:-3])
        shutil.rmtree(tmp_path / "events_np", ignore_errors=True)
        message = refusal(name, tmp_path)
        assert ("the first of" in message) == (number > 1)
        assert f", the first of {number} that cannot be read; unpack" in message or number == 1


def test_too_few_recordings_or_classes(tmp_path):
    write_n_mnist(tmp_path / "few", train=1)
    assert "samples of class '0'" in refusal("n_mnist", tmp_path / "few")
    write_n_mnist(tmp_path / "other")
    (tmp_path / "other" / "extract" / "Test" / "1").rename(tmp_path / "other" / "extract" / "Test" / "2")
    assert "are not of the same classes" in refusal("n_mnist", tmp_path / "other")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"root": ""}, "no root given"),
        ({"frames": 0}, "frames is 0; give a whole number of time bins from 1 to 1000"),
        ({"split_by": "count"}, "split_by is 'count'; give 'number' or 'time'"),
        ({"size": 0}, "size is 0; give"),
        ({"limit": 1}, "limit is 1; give"),
        ({"validation_share": 1.0}, "validation_share is 1.0; give"),
        ({"augment": 1}, "augment is 1; give true or false"),
        ({"augment": True}, "augment is true; leave it out: mirrored recordings are of another class"),
    ],
)
def test_options_that_are_not_allowed(tmp_path, option, message):
    assert message in refusal("n_mnist", **{"root": tmp_path, **option})


def test_an_unknown_option(tmp_path):
    with pytest.raises(InputError, match=r"data set 'n_mnist' does not take .*'sise': 3"):
        load("n_mnist", tmp_path, sise=3)


def test_recordings_are_read_by_one_thread(tmp_path, monkeypatch):
    """NumPy's parsing of headers may end in a SystemError where several threads are at it."""
    from spikingjelly import configure

    before, threads = configure.max_threads_number_for_datasets_preprocess, set()

    def counting(events, *arguments, **options):
        threads.add(threading.get_ident())
        return integrate(events, *arguments, **options)

    monkeypatch.setattr("bitsearch.data.sets.event_camera.integrate", counting)
    write_n_mnist(tmp_path, train=12, test=4)
    load_data("n_mnist", {"root": str(tmp_path), "frames": 2}, split_seed=0)
    # One for the training part, one for the test part, which may be the same again.
    assert 1 <= len(threads) <= 2
    assert configure.max_threads_number_for_datasets_preprocess == before
