import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.data.stratified import Part, split_one_part, stratified
from bitsearch.errors import InputError

LABELS = st.lists(st.integers(4, 9), min_size=2, max_size=5).flatmap(
    lambda counts: st.permutations([label for label, count in enumerate(counts) for _ in range(count)])
)


def split(train, test, *, split_seed=0, validation_share=0.25, limit=None):
    train, test = (Part(name, np.array(labels)) for name, labels in (("there/train", train), ("there/test", test)))
    names = [f"class {label}" for label in range(max(train.labels) + 1)]
    options = {"split_seed": split_seed, "validation_share": validation_share, "limit": limit}
    return stratified("mine", train, test, names, **options)


@given(LABELS, st.integers(0, 5), st.floats(0.01, 0.5), st.none() | st.integers(2, 12))
def test_classes_have_their_shares_and_no_sample_is_twice(labels, seed, share, limit):
    options = {"split_seed": seed, "validation_share": share, "limit": limit}
    found = split(labels, labels, **options)
    assert all(map(np.array_equal, found.values(), split(labels, labels, **options).values()))
    both = [*found["train"], *found["validation"]]
    assert len(both) == len(set(both))
    assert len(found["test"]) == len(set(found["test"]))
    for label in set(labels):
        kept = min(labels.count(label), limit or len(labels))
        held_back, trained, tested = (
            sum(labels[index] == label for index in found[name]) for name in ("validation", "train", "test")
        )
        assert held_back == max(1, round(share * kept))
        assert trained == kept - held_back
        assert tested == kept


def test_the_order_is_random_and_the_seed_s():
    labels = [0] * 50 + [1] * 50
    first, other = split(labels, labels), split(labels, labels, split_seed=1)
    for name in ("train", "validation", "test"):
        assert set(np.array(labels)[first[name][:12]]) == {0, 1}
        assert not np.array_equal(first[name], other[name])


@pytest.mark.parametrize(
    ("train", "test", "fault"),
    [
        ([0, 0, 1], [0, 1], "mine: samples of class 'class 1' in 'there/train': 1; at least 2 needed"),
        ([0, 0, 1, 1], [1], "mine: samples of class 'class 0' in 'there/test': 0; at least 1 needed"),
    ],
)
def test_a_class_with_too_few_samples_is_named(train, test, fault):
    with pytest.raises(InputError) as caught:
        split(train, test)
    assert str(caught.value) == fault


def test_a_share_that_leaves_none_for_training():
    with pytest.raises(
        InputError, match=r"mine: validation_share 0\.9 of the 3 samples of class 'class 0' leaves none"
    ):
        split([0, 0, 0, 1, 1, 1], [0, 1], validation_share=0.9)


def test_a_data_set_of_one_part_is_dealt_out_by_class():
    labels = np.array([0] * 20 + [1] * 11 + [2] * 2)
    train, test = split_one_part(labels, 0.1, split_seed=0)
    assert sorted([*train, *test]) == list(range(33))
    assert np.bincount(labels[test]).tolist() == [2, 1, 1]
    again, other = (split_one_part(labels, 0.1, split_seed=seed)[1] for seed in (0, 1))
    assert test.tolist() == again.tolist() != other.tolist()
