"""The wrist watch's series: windows of frames, split by person; with recordings made here, as seglearn shapes them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence import watch
from bitsearch.errors import InputError
from bitsearch.space import SearchSpace


def test_a_window_is_the_means_of_its_samples():
    series = np.stack([np.arange(200.0), -np.arange(200.0)], axis=1)
    windows = watch.frames(series)
    # The second window starts 64 samples later; a frame is the mean of four.
    assert windows.shape == (2, 32, 2)
    assert windows[0, :2, 0].tolist() == [1.5, 5.5]
    assert windows[1, 0].tolist() == [65.5, -65.5]


def test_persons_are_in_one_part_alone(monkeypatch):
    # What a person's sensors say is the person's number.
    persons = np.repeat(np.arange(1.0, 11.0), 2)
    found = {
        "X": [np.full((192, 6), person) for person in persons],
        "y": np.tile([0.0, 1.0], 10),
        "y_labels": ["PEN", "ABD"],
        "subject": persons,
    }
    monkeypatch.setattr(watch, "recordings", lambda: found)
    splits = watch.watch()
    assert (splits.input_shape, splits.frames, splits.classes) == ((32, 6), 32, 2)
    deviation = np.std(np.arange(1, 7))
    seen = {
        name: {round(float(x[0, 0]) * deviation + 3.5) for x, _ in splits.split(name)}
        for name in ("train", "validation", "test")
    }
    assert seen == {"train": {1, 2, 3, 4, 5, 6}, "validation": {7, 8}, "test": {9, 10}}
    assert len(splits.train) == 6 * 2 * 2


def test_without_the_package_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "seglearn", None)
    monkeypatch.setitem(sys.modules, "seglearn.datasets", None)
    with pytest.raises(InputError, match="pip install --no-deps seglearn"):
        watch.recordings()


@pytest.mark.parametrize("name", ["watch_mlp", "watch_recurrent"])
def test_its_spaces_are_read(name):
    space = SearchSpace.load(Path(watch.__file__).with_name(f"{name}.toml"))
    assert space.name == name
