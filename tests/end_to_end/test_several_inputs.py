"""Networks of several inputs, beside the same network of one input that it takes apart itself: nothing may differ."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, StackDataset, TensorDataset

import bitsearch
from bitsearch.errors import InputError

pytestmark = pytest.mark.training

SIZES = (12, 4)
SETTINGS = {
    "budget": "4x",
    "trials": 1,
    "epochs": 2,
    "device": "cpu",
    "training": {
        "batch_size": 16,
        "micro_batch": 8,
        "mixup": 0.3,
        "distillation": {"weight": 0.5, "features": ["deep"]},
    },
}


class Joint(nn.Module):
    """An encoder for each of two inputs, and a head over both."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.narrow = nn.Linear(SIZES[0], 8), nn.Linear(SIZES[1], 8)
        self.deep, self.head, self.relu = nn.Linear(16, 12), nn.Linear(12, 3), nn.ReLU()

    def forward(self, wide, narrow):
        both = torch.cat([self.relu(self.wide(wide)), self.relu(self.narrow(narrow))], -1)
        return self.head(self.relu(self.deep(both)))


class Sliced(Joint):
    """The same of one input."""

    def forward(self, x):
        return super().forward(*x.split(SIZES, -1))


def samples(count, seed):
    """Both inputs are needed: the class is the sum of a part of each."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, sum(SIZES), generator=generator)
    return TensorDataset(x, ((x[:, 0] + x[:, 12]).sign() + 1).long())


def several(part, kind):
    x, labels = part.tensors
    wide, narrow = (piece.contiguous() for piece in x.split(SIZES, -1))
    inputs = StackDataset(wide=wide, narrow=narrow) if kind == "names" else StackDataset(wide, narrow)
    return StackDataset(inputs, labels)


def parts():
    return samples(48, 0), samples(24, 1), samples(24, 2)


def measured(result):
    """All that a run says of its trials, but for names and times."""
    rows = [(plan.layers, plan.costs, plan.accuracy, plan.provenance.trial) for plan in result.folder.plans()]
    return rows, result.folder.settings.full_precision, result.best.layers


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return bitsearch.search(Sliced(), parts(), out=tmp_path_factory.mktemp("one") / "run", **SETTINGS)


@pytest.mark.parametrize("kind", ["names", "positions"])
def test_a_search_of_several_inputs_is_that_of_one(kind, single, tmp_path):
    data = tuple(several(part, kind) for part in parts())
    result = bitsearch.search(Joint(), data, out=tmp_path / "run", **SETTINGS)
    assert measured(result) == measured(single)
    expected = single.network().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in result.network().state_dict().items())
    assert result.evaluate(data[2]) == result.best.accuracy.test
    again = bitsearch.search(Joint(), data, out=tmp_path / "run", **SETTINGS)
    assert again.best == result.best


@pytest.mark.parametrize("kind", ["names", "positions"])
def test_loaders_bring_them_as_well(kind, tmp_path):
    results = [
        bitsearch.search(network, tuple(DataLoader(part, 16) for part in data), out=tmp_path / str(index), **SETTINGS)
        for index, (network, data) in enumerate(
            [(Sliced(), parts()), (Joint(), [several(part, kind) for part in parts()])]
        )
    ]
    assert measured(results[0]) == measured(results[1])
    assert results[1].evaluate(DataLoader(several(parts()[2], kind), 5)) == results[1].best.accuracy.test


def test_a_study_of_ones_own_training_takes_them_by_name(tmp_path):
    data = tuple(several(part, "names") for part in parts())
    with bitsearch.Study(Joint(), data, "4x", trials=1, steps=3, out=tmp_path / "run", device="cpu") as study:
        for trial in study:
            optimizer = torch.optim.Adam(trial.network.parameter_groups(lr=1e-3))
            for inputs, labels in DataLoader(data[0], 16):
                loss = nn.functional.cross_entropy(trial.network(**inputs), labels) + trial.penalty()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            trial.freeze()
            study.tell(trial)
        assert study.result().best.met


def test_quantize_and_apply_take_them():
    torch.manual_seed(1)
    wide, narrow = torch.randn(8, 12), torch.randn(8, 4)
    quantized = bitsearch.quantize(Joint(), {"wide": wide, "narrow": narrow})
    joined = bitsearch.quantize(Sliced(), torch.cat([wide, narrow], -1))
    assert quantized.layer_plans == joined.layer_plans
    assert [dataclasses.replace(layer, first=False) for layer in quantized.model.layers] == [
        dataclasses.replace(layer, first=False) for layer in joined.model.layers
    ]
    x = torch.cat([wide, narrow], -1)
    assert torch.equal(quantized(wide, narrow), joined(x))
    quantized.activity = bitsearch.measure_activity(quantized, (wide, narrow))
    assert quantized.activity == bitsearch.measure_activity(joined, x)


def test_formats_of_one_input_refuse_them_by_name(tmp_path):
    data = tuple(several(part, "names") for part in parts())
    result = bitsearch.search(Joint(), data, out=tmp_path / "run", **SETTINGS)
    with pytest.raises(
        InputError, match=r"a packed file has one input, and the network takes 2, of shape wide \[32, 12"
    ):
        result.deploy(tmp_path / "n.packed")
    assert not (tmp_path / "n.packed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda wide, narrow: {"wide": wide, "small": narrow}, "unexpected keyword argument 'small'"),
        (lambda wide, narrow: (wide, narrow, narrow), "takes 3 positional arguments but 4 were given"),
        (lambda wide, narrow: {"wide": wide, "narrow": narrow.double()}, "its input 'narrow' is float64; they must be"),
        (lambda wide, narrow: {"wide": wide, "narrow": [1.0]}, "its input 'narrow' is list; give a float32 tensor"),
        (lambda wide, narrow: (wide, narrow * float("nan")), r"its input 1 is nan at \[0\]; mend"),
        (lambda wide, narrow: {"wide": wide, 3: narrow}, "has the key 3; name inputs as the network's arguments"),
        (lambda wide, narrow: {}, "its input is an empty dict; give at least one tensor"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(change, message, tmp_path):
    class Changed(torch.utils.data.Dataset):
        def __init__(self, part):
            self.part = part

        def __len__(self):
            return len(self.part)

        def __getitem__(self, index):
            x, label = self.part[index]
            return change(*x.split(SIZES, -1)), label

    with pytest.raises(InputError, match=message) as caught:
        bitsearch.search(Joint(), tuple(Changed(part) for part in parts()), out=tmp_path / "run", **SETTINGS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_samples_of_one_shape_each():
    class Growing(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"wide": torch.zeros(12), "narrow": torch.zeros(4 + index // 3)}, index % 2

    shapes = r"wide \[12\] and narrow \[4\] and, train sample 3, wide \[12\] and narrow \[5\]; bring them to one"
    with pytest.raises(InputError, match=shapes):
        bitsearch.search(Joint(), (Growing(), Growing(), Growing()), **SETTINGS)
