import errno
import itertools
import math
import os
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from safetensors.torch import save

from bitsearch.errors import InputError, StorageError
from bitsearch.train import checkpoint
from bitsearch.train.checkpoint import Checkpoint, read_state, state_bytes

PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.integers())


@examples(20)
@given(
    state=st.dictionaries(
        st.text(),
        st.recursive(
            PLAIN,
            lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
            max_leaves=8,
        ),
    )
)
def test_plain_state_comes_back_as_written(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    path.write_bytes(state_bytes(state))
    assert read_state(path) == state


def test_tensors_come_back_bit_by_bit_with_their_types_and_shared_memory_is_no_hindrance(tmp_path):
    values = torch.tensor([0.1, -0.0, math.inf, math.nan])
    tensors = [values, values[:2], values.bool(), values.to(torch.bfloat16), torch.get_rng_state(), torch.tensor(7)]
    (tmp_path / "state").write_bytes(state_bytes({"tensors": tensors, "by": {(0, (3, 2)): values.long()}}))
    found = read_state(tmp_path / "state")
    assert [tensor.dtype for tensor in found["tensors"]] == [tensor.dtype for tensor in tensors]
    for was, now in zip(tensors, found["tensors"], strict=True):
        torch.testing.assert_close(now, was, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found["by"][0, (3, 2)], values.long())


class Counter:
    """A part with state."""

    def __init__(self, value=0):
        self.value = value

    def state_dict(self):
        return {"value": torch.tensor(self.value) if isinstance(self.value, int) else self.value}

    def load_state_dict(self, state):
        self.value = int(state["value"])


def kept(path, phases, training="mine", **options):
    """A checkpoint of phases, each (what it is, epochs done, value)."""
    with Checkpoint(path, training, **options) as checkpoint:
        for about, epochs, value in phases:
            assert checkpoint.restore({"phase": about}, {"part": Counter()}) == 0
            for epoch in range(1, epochs + 1):
                checkpoint.keep({"part": Counter(value)}, epoch)


def restored(checkpoint, about):
    """(epochs done, value) of the next phase."""
    part = Counter(-1)
    return checkpoint.restore({"phase": about}, {"part": part}), part.value


def test_what_no_file_can_hold_is_refused_and_the_file_before_stays(tmp_path):
    path = tmp_path / "a.safetensors"
    with Checkpoint(path, "mine") as checkpoint:
        checkpoint.restore({"phase": "search"}, {})
        checkpoint.keep({"part": Counter(5)}, 1)
        with pytest.raises(TypeError, match="holds a object"):
            checkpoint.keep({"part": Counter(object())}, 2)
    assert restored(Checkpoint(path, "mine"), "search") == (1, 5)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_full_disk_is_told_by_the_next_epoch_or_the_end_and_leaves_nothing(epochs, monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*a\.safetensors: No space left on device"):
        kept(tmp_path / "a.safetensors", [("search", epochs, 5)])
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_is_on_the_disk_when_a_stop_comes_through(tmp_path):
    path = tmp_path / "a.safetensors"

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(path, [("search", 2, 5)], after=stop)
    assert restored(Checkpoint(path, "mine"), "search") == (1, 5)


def test_every_phase_comes_back_and_what_is_new_starts(tmp_path):
    path = tmp_path / "a.safetensors"
    kept(path, [("search", 2, 5), ("tune", 1, 6)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.1.safetensors", "a.safetensors"]
    again = Checkpoint(path, "mine")
    assert again.done == 2
    assert [restored(again, about) for about in ("search", "tune", "more")] == [(2, 5), (1, 6), (0, -1)]


def test_a_phase_of_another_course_is_not_taken_nor_any_after_it(tmp_path):
    path, told = tmp_path / "a.safetensors", []
    kept(path, [("search", 2, 5), ("tune", 1, 6), ("tune", 1, 7)])
    again = Checkpoint(path, "mine", misfit=told.append)
    assert [restored(again, about) for about in ("search", "refine", "tune")] == [(2, 5), (0, -1), (0, -1)]
    assert told == [f"{tmp_path / 'a.1.safetensors'} is of another training"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_another_trainings_file_is_told(tmp_path):
    path, told = tmp_path / "a.safetensors", []
    kept(path, [("search", 2, 5)])
    assert restored(Checkpoint(path, "other", misfit=told.append), "search") == (0, -1)
    assert told == [f"{path} is of another training"]


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    kept(path, [("search", 2, 5)])
    with pytest.raises(InputError, match="does not fit this training: 'part'; delete it to start anew"):
        Checkpoint(path, "mine").restore({"phase": "search"}, {"other": Counter()})


def test_removing_takes_every_phase_and_no_other_file(tmp_path):
    path = tmp_path / "trial-0001.safetensors"
    kept(path, [("search", 1, 5), ("tune", 1, 6)])
    others = ["trial-00011.safetensors", "trial-0001.json", "trial-0001.a.safetensors"]
    for name in others:
        (tmp_path / name).write_text("")
    path.unlink()
    Checkpoint(path).remove()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others)


def test_the_time_before_an_interruption_counts(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    clock = itertools.count(0.0, 7.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    kept(path, [("search", 1, 5)])
    saved = read_state(path)
    path.write_bytes(state_bytes(saved | {"seconds": 1000.0}))
    again = Checkpoint(path, "mine")
    restored(again, "search")
    # The clock that is asked says seven seconds more every time.
    assert again.seconds == 1007.0


@pytest.mark.parametrize("left", [0, 1, 8, 100])
def test_half_a_file_is_no_checkpoint(left, tmp_path):
    path, told = tmp_path / "a.safetensors", []
    kept(path, [("search", 1, 5)])
    path.write_bytes(path.read_bytes()[:left])
    assert restored(Checkpoint(path, "mine", misfit=told.append), "search") == (0, -1)
    assert told == [f"{path} is not a checkpoint"]


@pytest.mark.parametrize(
    "tree",
    ['{"tensor": ["float32", [9, 9]]}', '{"tensor": [3]}', "[[1]]", '{"dict": [[{"dict": []}, 1]]}', "7", "[" * 9999],
)
def test_a_hostile_file_is_no_checkpoint(tree, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"float32": torch.zeros(2)}, metadata={"state": tree}))
    assert read_state(path) is None


@pytest.mark.parametrize("parts", [3, {"a": []}, {"search": None}, {"search": {"x": {}}}])
def test_a_checkpoint_with_other_parts_is_told(parts, tmp_path):
    path = tmp_path / "a.safetensors"
    kept(path, [("search", 1, 5)])
    path.write_bytes(state_bytes(read_state(path) | {"parts": parts}))
    with pytest.raises(InputError, match=r"does not fit this training: .*; delete it to start anew"):
        restored(Checkpoint(path, "mine"), "search")
