import numpy as np
import pytest
import torch
from sound_files import RATE_HZ, SPEAKERS, write_fsdd
from tolerances import NORMALIZED

from bitsearch.data import load_data
from bitsearch.data.check import check_data
from bitsearch.data.sound import crossings, log_mel, read_wav
from bitsearch.errors import InputError

PARTS = ("train", "validation", "test")
EACH = 11


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eleven recordings of each speaker and of two digits."""
    return write_fsdd(tmp_path_factory.mktemp("fsdd"), each=EACH, digits=(0, 7))


def load(root, split_seed=0, **options):
    return load_data("fsdd", {"root": str(root), **options}, split_seed=split_seed)


def energies(root, name, frames, frame_ms, bands=32):
    hop = RATE_HZ * frame_ms // 1000
    samples = read_wav("fsdd", root / "recordings" / f"{name}.wav", RATE_HZ)
    return log_mel(samples, frames=frames, hop=hop, window=round(2.5 * hop), bands=bands, rate_hz=RATE_HZ)


def rows(part):
    return {(x.numpy().tobytes(), int(label)) for x, label in zip(*part[:], strict=True)}


EXPECTED = {
    "official": lambda speaker, index: "test" if index < 5 else "validation" if index < 10 else "train",
    "speaker": lambda speaker, index: {"theo": "validation", "yweweler": "test"}.get(speaker, "train"),
}


@pytest.mark.parametrize("split", EXPECTED)
def test_recordings_are_in_their_split(root, split):
    splits = load(root, features="events", split=split)
    assert (splits.input_shape, splits.classes, splits.frames) == ((32, 64), 10, 32)
    expected = {name: set() for name in PARTS}
    for digit in (0, 7):
        for speaker in SPEAKERS:
            for index in range(EACH):
                found = crossings(energies(root, f"{digit}_{speaker}_{index}", 32, 20)).astype(np.float32)
                expected[EXPECTED[split](speaker, index)].add((found.tobytes(), digit))
    assert {name: rows(splits.split(name)) for name in PARTS} == expected
    assert splits.sizes == {name: len(found) for name, found in expected.items()}


def test_energies_are_normalized_on_the_training_split_alone(root):
    splits = load(root, split="speaker", frames=12, frame_ms=15, bands=9)
    assert (splits.input_shape, splits.frames) == ((12, 9), 12)
    named = {
        part: [
            energies(root, f"{digit}_{speaker}_{index}", 12, 15, 9)
            for digit in (0, 7)
            for speaker in SPEAKERS
            for index in range(EACH)
            if EXPECTED["speaker"](speaker, index) == part
        ]
        for part in PARTS
    }
    train = torch.from_numpy(np.stack(named["train"])).flatten(0, 1)
    for part in PARTS:
        expected = (torch.from_numpy(np.stack(named[part])) - train.mean(0)) / train.std(0, correction=0)
        found = splits.split(part)[:][0]
        assert found.dtype == torch.float32
        order = [sorted(each.flatten(1).tolist()) for each in (found.double(), expected)]
        torch.testing.assert_close(*map(torch.tensor, order), **NORMALIZED)


def test_the_seed_is_that_of_the_order_alone(root):
    one, again, other = (load(root, seed, features="events") for seed in (3, 3, 4))
    for part in PARTS:
        assert torch.equal(one.split(part)[:][0], again.split(part)[:][0])
        assert rows(one.split(part)) == rows(other.split(part))
    assert not torch.equal(one.validation[:][1], other.validation[:][1])
    # Both digits are among the first samples.
    assert set(one.train[:10][1].tolist()) == {0, 7}


def test_recordings_may_lie_in_the_root_itself(root):
    assert rows(load(root / "recordings").test) == rows(load(root).test)


def test_what_is_missing_is_counted(root):
    found = check_data("fsdd", {"root": str(root)})
    assert found.sizes == {"train": 12, "validation": 60, "test": 60}
    assert found.problems == ["fsdd: all splits: samples 66 of class 0, not 300 (other classes that differ: 9)"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": "mfcc"}, "features is 'mfcc'; give 'mel' or 'events'"),
        ({"features": []}, "features is []; give 'mel' or 'events'"),
        ({"split": "random"}, "split is 'random'; give 'official' or 'speaker'"),
        ({"frames": 0}, "frames is 0; give a whole number of time bins from 1 to 1000"),
        ({"frame_ms": 0.5}, "frame_ms is 0.5; give a whole number of milliseconds from 1 to 1000"),
        ({"bands": 65}, "bands is 65; give a whole number of frequency bands from 1 to 64"),
    ],
)
def test_options_are_checked(root, options, said):
    with pytest.raises(InputError) as caught:
        load(root, **options)
    assert str(caught.value) == f"fsdd: {said}"


def test_nothing_there_says_what_to_download(tmp_path):
    with pytest.raises(InputError, match=r"no '.*recordings'; download and unpack the repository from https://github"):
        load(tmp_path)
    with pytest.raises(InputError, match="fsdd: no root given; set root in data_options to the folder that holds rec"):
        load("")


def test_a_split_without_a_recording_is_named(tmp_path):
    write_fsdd(tmp_path, each=1, digits=(3,))
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"fsdd: of the 6 recordings in '{tmp_path / 'recordings'}' none is for train when split is 'official' (0 for "
        "train, 0 for validation, 6 for test); unpack all 3,000 of https://github.com/Jakobovski/free-spoken-digit-dataset"
    )
    assert load(tmp_path, split="speaker").sizes == {"train": 4, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("name", "said"),
    [("notes.wav", "is not named DIGIT_SPEAKER_INDEX.wav; remove it"), ("4_theo_2.wav", "is no recording that can be")],
)
def test_a_file_that_is_something_else_is_named(tmp_path, name, said):
    file = write_fsdd(tmp_path, each=1, digits=(3,)) / "recordings" / name
    file.write_bytes(b"something else")
    with pytest.raises(InputError, match=said) as caught:
        load(tmp_path, split="speaker")
    assert str(file) in str(caught.value)
