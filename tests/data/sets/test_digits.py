import pytest
import torch
from tolerances import NORMALIZED

from bitsearch.data import Splits, batches, load_data
from bitsearch.data.sets.digits import digits
from bitsearch.errors import InputError

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def splits():
    return digits()


def labels(part):
    return part.tensors[1]


def test_sizes_and_shapes(splits):
    assert [len(splits.split(name)) for name in PARTS] == [1077, 360, 360]
    for name in PARTS:
        inputs, targets = splits.split(name).tensors
        assert inputs.shape[1:] == splits.input_shape == (1, 8, 8)
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert set(targets.tolist()) == set(range(splits.classes)) == set(range(10))


def test_parts_share_no_sample(splits):
    seen = [{tuple(row) for row in splits.split(name).tensors[0].flatten(1).tolist()} for name in PARTS]
    assert sum(len(rows) for rows in seen) == 1797
    assert len(set.union(*seen)) == 1797


def test_classes_have_the_same_share_in_every_part(splits):
    shares = [torch.bincount(labels(splits.split(name))) / len(splits.split(name)) for name in PARTS]
    whole = torch.bincount(torch.cat([labels(splits.split(name)) for name in PARTS])) / 1797
    for share in shares:
        # A class's samples are whole: at most one too many or too few of the smallest part's.
        torch.testing.assert_close(share, whole, rtol=0, atol=1 / 179)


def test_the_seed_fixes_the_split(splits):
    again, other = digits(split_seed=0), digits(split_seed=1)
    for name in PARTS:
        assert torch.equal(splits.split(name).tensors[0], again.split(name).tensors[0])
        assert torch.equal(labels(splits.split(name)), labels(again.split(name)))
        assert not torch.equal(labels(splits.split(name)), labels(other.split(name)))


def test_inputs_are_normalized_on_the_training_part(splits):
    inputs = splits.train.tensors[0].double()
    assert inputs.mean().item() == pytest.approx(0, abs=NORMALIZED["atol"])
    assert inputs.std().item() == pytest.approx(1, abs=NORMALIZED["atol"])
    assert splits.test.tensors[0].mean().item() != pytest.approx(0, abs=NORMALIZED["atol"])


def test_batches_in_order_cover_every_sample_once(splits):
    parts = list(batches(splits.validation, 50))
    assert [len(inputs) for inputs, _ in parts] == [50] * 7 + [10]
    assert torch.equal(torch.cat([inputs for inputs, _ in parts]), splits.validation.tensors[0])
    assert torch.equal(torch.cat([targets for _, targets in parts]), labels(splits.validation))


def test_shuffled_batches_follow_their_generator(splits):
    first, again, other = (
        torch.cat([targets for _, targets in batches(splits.validation, 64, torch.Generator().manual_seed(seed))])
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first.sort().values, labels(splits.validation).sort().values)


def test_a_data_set_that_indexes_single_samples_is_batched_as_well():
    class Counting(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return torch.full((2,), float(index)), torch.tensor(index)

    assert [targets.tolist() for _, targets in batches(Counting(), 2)] == [[0, 1], [2, 3], [4]]


def test_load_data_by_name():
    loaded = load_data("digits", {}, split_seed=1)
    assert torch.equal(labels(loaded.test), labels(digits(split_seed=1).test))


def test_wrong_names_and_options_are_refused():
    with pytest.raises(InputError, match="no data set named 'digit'; known: cifar10, cifar100, cifar10_dvs, digits"):
        load_data("digit", {}, split_seed=0)
    with pytest.raises(InputError, match=r"data set 'digits' does not take .*'size': 3"):
        load_data("digits", {"size": 3}, split_seed=0)


def test_a_users_own_data_set(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(
        "import torch\n"
        "from bitsearch.data import Splits\n"
        "def make(*, split_seed, size=3):\n"
        "    parts = [[(torch.ones(1), 1)] * count for count in (size, split_seed, 1)]\n"
        "    return Splits(*parts, input_shape=(1,), classes=2)\n"
        "def wrong():\n"
        "    return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_data("own_data:make", {"size": 7}, split_seed=2)
    assert isinstance(loaded, Splits)
    assert (len(loaded.train), len(loaded.validation)) == (7, 2)
    with pytest.raises(InputError, match=r"'own_data:wrong' returned int; return bitsearch\.data\.Splits, or three"):
        load_data("own_data:wrong", {}, split_seed=2)
