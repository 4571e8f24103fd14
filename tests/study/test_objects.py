"""A network and data that a program has already: from objects to plans, without a space."""

import copy

import pytest
import torch
from bars import SHORT, bars, loaders, network, parts, trained_network
from spikingjelly.activation_based.neuron import IFNode
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import bitsearch
from bitsearch.data import Splits
from bitsearch.errors import InputError
from bitsearch.runs.folder import RunFolder
from bitsearch.space import SearchSpace
from bitsearch.study.objects import objects_of, space_of
from bitsearch.train.distillation import DistillationLoss

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def trained():
    return trained_network()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(parts()[1])


class Read(Dataset):
    """Samples that are read one by one."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def accuracy(one, samples):
    with torch.no_grad():
        return (one(samples.tensors[0]).argmax(1) == samples.tensors[1]).float().mean().item()


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
    return bitsearch.search(trained, loaders(), budget="4x", out=tmp_path_factory.mktemp("runs") / "run", **SHORT)


def test_the_network_is_left_as_it_is_and_full_precision_is_it(trained, tmp_path):
    before, mode = copy.deepcopy(trained.state_dict()), trained.training
    made = bitsearch.search(trained, loaders(), budget="4x", out=tmp_path / "run", **SHORT)
    assert trained.training == mode
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert type(trained[1]) is nn.Linear
    measured = made.folder.settings.full_precision
    assert measured.validation == pytest.approx(accuracy(trained, parts()[1]))
    assert measured.test == pytest.approx(accuracy(trained, parts()[2]))
    assert not any(event.get("phase") == "full precision" for event in made.folder.log())


def test_the_chosen_network_is_measured_again_as_the_run_measured_it(result):
    _, validation, test = loaders()
    assert result.evaluate(validation) == result.best.accuracy.validation
    assert result.evaluate(test) == result.best.accuracy.test
    assert result.evaluate(parts()[2]) == result.best.accuracy.test
    assert result.evaluate(Read(parts()[2])) == result.best.accuracy.test


def test_the_chosen_network_is_deployed_and_replayed(result, tmp_path):
    packed = bitsearch.read(result.deploy(tmp_path / "n.packed"))
    inputs = parts()[2].tensors[0]
    assert bitsearch.verify(packed, result.network(), inputs, parts()[2]).equal


def test_it_is_deployed_in_every_format_that_the_command_has(result, tmp_path):
    result.deploy(tmp_path / "c", format="c")
    assert "test_vectors.c" in {file.name for file in (tmp_path / "c").iterdir()}
    with pytest.raises(InputError, match=r"--format is 'onxx'; allowed: packed, .*did you mean 'onnx'"):
        result.deploy(tmp_path / "n", format="onxx")
    with pytest.raises(InputError, match=r"--share-steps is for --format .*nir.*, not c$"):
        result.deploy(tmp_path / "n", format="c", share_steps=True)
    with pytest.raises(InputError, match="is an object, which a published folder cannot name"):
        result.deploy(tmp_path / "n", format="hub-folder")


IMAGES = torch.rand(8, 4, 4)
UNMEASURED = {
    "nothing": (None, "samples is NoneType; give a torch Dataset, or a DataLoader"),
    "a stream": (Stream(), "samples is Stream; give a torch Dataset, or a DataLoader"),
    "no samples": (TensorDataset(IMAGES[:0], torch.arange(0)), "samples is empty; give at least one sample"),
    "no labels": (TensorDataset(IMAGES), "samples sample 0 is tuple of 1; a sample is a pair"),
    "other labels": (TensorDataset(IMAGES, torch.rand(8)), "samples sample 0: its label is a float32 tensor"),
    "a label too many": (
        TensorDataset(IMAGES, torch.arange(8) % 4),
        "samples sample 3: its label is 3, but there are 3",
    ),
    "read one by one": (Read(TensorDataset(IMAGES, torch.arange(8) % 4)), "sample 3: its label is 3, but there are 3"),
    "in a loader": (
        DataLoader(TensorDataset(IMAGES, torch.arange(8) % 4), 4),
        "batch 0 has the label 3; the network has",
    ),
    "not finite": (
        TensorDataset(IMAGES / torch.arange(8).view(8, 1, 1), torch.arange(8) % 3),
        "sample 0: its input is",
    ),
    "later not finite": (
        TensorDataset(IMAGES / (7 - torch.arange(8)).view(8, 1, 1), torch.zeros(8).long()),
        "sample 7",
    ),
}


@pytest.mark.parametrize("case", UNMEASURED)
def test_what_cannot_be_measured_is_one_line(case, result):
    samples, said = UNMEASURED[case]
    with pytest.raises(InputError) as caught:
        result.evaluate(samples)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trial", ["0", 1.5, [0]])
def test_a_trial_is_a_number(trial, result):
    with pytest.raises(InputError, match=r"give the number of one, as the column trial of result\.trials has it"):
        result.network(trial)


def test_what_neurons_keep_of_the_last_training_pass_stops_no_search(tmp_path):
    spiking = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), IFNode(), nn.Linear(24, 24), IFNode(), nn.Linear(24, 3))
    nn.functional.cross_entropy(spiking(parts()[0].tensors[0]), parts()[0].tensors[1]).backward()
    assert objects_of(spiking, parts()).network is not spiking


def test_the_same_objects_go_on_and_others_are_refused(trained, result):
    out = result.folder.path
    assert bitsearch.search(trained, loaders(), budget="4x", out=out, **SHORT).best == result.best
    with pytest.raises(InputError, match="a run with other weights to begin with"):
        bitsearch.search(network(), loaders(), budget="4x", out=out, **SHORT)
    fewer = (*loaders()[:2], DataLoader(bars(24, 2), 16))
    with pytest.raises(InputError, match=r"data_options\.test is 48, not 24"):
        bitsearch.search(trained, fewer, budget="4x", out=out, **SHORT)


def test_a_second_run_is_the_first_one_again(trained, result, tmp_path):
    again = bitsearch.search(trained, loaders(), budget="4x", out=tmp_path / "again", **SHORT)
    assert again.best.layers == result.best.layers
    assert again.best.accuracy == result.best.accuracy


def test_a_loaded_result_takes_the_network_again(trained, result):
    loaded = bitsearch.load(result.folder.path, trained)
    assert loaded.evaluate(loaders()[2]) == result.best.accuracy.test
    with pytest.raises(InputError, match="were objects, which a folder does not hold; deploy the result of"):
        loaded.deploy("n.packed")
    with pytest.raises(InputError, match=r"was an object, 'Sequential \(object\)'; give it again"):
        bitsearch.load(result.folder.path).network()


def test_a_result_is_not_rebuilt_in_another_network(result):
    with pytest.raises(InputError, match=r"is a run of 'Sequential \(object\)', not of 'Linear \(object\)'"):
        bitsearch.load(result.folder.path, nn.Linear(16, 3))


def test_several_processes_cannot_share_a_loaders_batches(trained, monkeypatch):
    monkeypatch.setattr("bitsearch.study.objects.launched_world_size", lambda: 2)
    with pytest.raises(InputError, match="test is a loader, whose batches 2 processes cannot share"):
        objects_of(trained, loaders())


def test_commands_say_that_they_cannot_make_an_object(result):
    with pytest.raises(InputError, match=r"use bitsearch\.load\(FOLDER, network\) there"):
        bitsearch.rebuild(result.folder.chosen_file)


def test_a_page_and_a_notebook_show_it(result):
    page = bitsearch.write_report(result.folder).read_text(encoding="utf-8")
    assert "bitsearch.search(network, data, budget=" in page
    html = result._repr_html_()
    assert "<svg" in html
    assert "<td>5</td>" in html
    assert result.verdict.headline in html
    assert result.plot().data


def test_without_a_test_part_the_result_says_what_its_figures_are(trained, tmp_path):
    made = bitsearch.search(trained, loaders()[:2], budget="4x", out=tmp_path / "run", **SHORT)
    assert made.best.accuracy.test is None
    assert "No test split was measured" in made.verdict.text
    assert bitsearch.write_report(made.folder).is_file()


def test_data_sets_and_splits_do_as_loaders_do(trained, tmp_path):
    for number, data in enumerate((parts(), dict(zip(("train", "validation", "test"), parts(), strict=True)))):
        made = bitsearch.search(trained, data, budget="4x", out=tmp_path / str(number), **SHORT)
        assert made.best.met
        assert RunFolder(tmp_path / str(number)).settings.space.data == "TensorDataset (object)"
    splits = Splits(*parts(), input_shape=(4, 4), classes=3)
    assert objects_of(trained, splits).splits.classes == 3


def test_frames_of_a_loader_are_time_steps():
    inputs = torch.rand(48, 5, 4, 4)
    data = tuple(DataLoader(TensorDataset(inputs[start::2], torch.arange(24) % 3), 8) for start in (0, 1))
    framed = nn.Sequential(nn.Flatten(2), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    objects = objects_of(framed, data, time_axis=1)
    assert (objects.splits.frames, objects.splits.classes) == (5, 3)
    space = space_of(objects, None, {})
    assert space.follow_frames == ("choices", "baseline", "start", "first_layer")
    assert space.data_options == {"train": 24, "validation": 24, "batch_size": 8, "time_axis": 1}


@pytest.mark.filterwarnings("ignore:the data have 5 frames:UserWarning")
def test_frames_of_a_data_set_are_frames_when_it_is_measured_too(tmp_path):
    generator = torch.Generator().manual_seed(5)
    inputs, labels = torch.rand(72, 5, 16, generator=generator), torch.randint(3, (72,), generator=generator)
    inputs[labels == 1] += 1
    inputs[labels == 2, 3:] += 1

    def part(start):
        return TensorDataset(inputs[start::3], labels[start::3])

    splits = Splits(part(0), part(1), part(2), input_shape=(5, 16), classes=3, frames=5)
    framed = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 3))
    made = bitsearch.search(framed, splits, budget="2x", out=tmp_path / "run", **SHORT)
    assert made.evaluate(part(2)) == made.best.accuracy.test
    with pytest.raises(InputError, match=r"samples have inputs of shape \[5, 15\]"):
        made.evaluate(TensorDataset(inputs[..., :15], labels))


def test_settings_come_from_a_space_of_ones_own(trained):
    mine = SearchSpace.load("digits").override(["choices.weight_bits=[4,8]", "name='mine'"])
    space = space_of(objects_of(trained, loaders()), mine, {"epochs": 3})
    assert (space.name, space.choices.weight_bits.values) == ("mine", (4, 8))
    assert (space.training.epochs, space.training.full_precision_epochs, space.training.batch_size) == (3, 0, 16)


def test_an_optimizer_of_the_program_is_known_by_its_name(trained, tmp_path):
    recipe = {"schedule": "one_cycle", "ema": 0.5}
    short = SHORT | {"epochs": 2}
    one = bitsearch.search(
        trained, loaders(), budget="4x", optimizer=torch.optim.RMSprop, training=recipe, out=tmp_path / "run", **short
    )
    training = one.folder.settings.space.training
    assert (training.optimizer, training.schedule, training.ema) == ("torch.optim.rmsprop:RMSprop", "one_cycle", 0.5)
    assert training.epochs == 2


def test_every_trial_learns_from_the_network_where_it_is_to(trained, tmp_path, monkeypatch):
    seen = []

    class Watched(DistillationLoss):
        def part_loss(self, loss, inputs, logits, labels):
            seen.append(self)
            assert torch.equal(self.teacher[1].weight, trained[1].weight)
            return super().part_loss(loss, inputs, logits, labels)

    monkeypatch.setattr("bitsearch.train.distillation.DistillationLoss", Watched)
    recipe = {"distillation": {"weight": 0.5, "temperature": 2.0}}
    short = SHORT | {"epochs": 2}
    one = bitsearch.search(trained, loaders(), budget="4x", training=recipe, out=tmp_path / "run", **short)
    # Six batches an epoch: uniform plans both, the trial that searches the second one.
    assert sorted(set(map(seen.count, seen))) == [6, 12]
    assert len(set(seen)) == len(one.folder.plans())


class Loader:
    """Gives a loader's batches; from its eighth pass on, when networks are being trained, ``change`` of them."""

    def __init__(self, loader, change):
        self.loader, self.change, self.passes = loader, change, 0

    def __iter__(self):
        self.passes += 1
        batches = list(self.loader)
        return iter(batches if self.passes < 8 else self.change(batches))


NONE = (torch.zeros(0, 4, 4), torch.zeros(0).long())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda batches: batches[:4], "train gave 64 samples in one pass and has 96; give a loader whose passes are"),
        (lambda batches: [*batches, NONE], "train batch 6 is empty; give batches of at least one sample"),
        (lambda batches: [], "train gives no batch; give at least one sample"),
    ],
)
def test_a_loader_that_changes_fails_a_trial_in_one_line_and_the_run_goes_on(change, said, trained, tmp_path):
    train, *others = loaders()
    odd = Loader(train, change)
    with pytest.raises(InputError, match=said):
        bitsearch.search(trained, (odd, *others), budget="4x", out=tmp_path / "run", **SHORT)
    assert (tmp_path / "run" / "run.toml").is_file()
    odd.change = list
    more = SHORT | {"trials": 2}
    assert bitsearch.search(trained, (odd, *others), budget="4x", out=tmp_path / "run", **more).best.met


def test_frozen_weights_are_quantized_and_stay_as_they_are(trained, tmp_path):
    frozen = copy.deepcopy(trained)
    frozen[3].requires_grad_(False)
    one = bitsearch.search(frozen, loaders(), budget="4x", neuron={"reset": "zero"}, out=tmp_path / "run", **SHORT)
    assert one.best.layers["3"].neuron.reset == "zero"
    assert "neuron={'reset': 'zero'}" in one.best.provenance.command
    state, before = one.network().state_dict(), trained.state_dict()
    assert torch.equal(state["3.weight"], before["3.weight"])
    assert not torch.equal(state["5.weight"], before["5.weight"])


class Locked(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("no")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": (1, 2)}, "train is int; give a torch Dataset or a DataLoader"),
        ({"data": "digits"}, "data is str; give (train, validation, test)"),
        ({"data": loaders()[:1]}, "data is tuple of 1"),
        ({"data": (loaders()[0], parts()[1])}, "train is a DataLoader, validation is a TensorDataset; give all"),
        ({"data": {"train": 1}}, "data has the keys train"),
        ({"data": (lambda part: (part, part))(loaders()[0])}, "two of train, validation are the same object"),
        ({"time_axis": 2}, "time_axis is 2; give 0 or 1"),
        ({"data": parts(), "time_axis": 1}, "time_axis is for loaders"),
        ({"network": nn.Linear(5, 3)}, "network 'Linear (object)' cannot run inputs of shape [4, 4, 4]"),
        ({"network": network(outputs=2)}, "has the label 2; the network has 2 outputs"),
        ({"network": Locked(16, 3)}, "the network cannot be copied: no"),
        ({"network": network().double()}, "its 1.weight is float64, inputs are float32; convert the network by"),
        ({"network": nn.Sequential(nn.Flatten(), nn.LazyLinear(3))}, "its 1.weight has no shape yet; call the network"),
        ({"network": nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d())}, "its 1.weight has no shape yet; call the"),
        ({"network": network().requires_grad_(False)}, "has nothing to train"),
        ({"optimizer": "sdg"}, "optimizer is 'sdg': no such optimizer; known: adam, adamw, sgd"),
        (
            {"optimizer": lambda params: None},
            "<lambda>' cannot be imported by a run that goes on; define it at the top",
        ),
        ({"optimizer": "sgd", "training": {"momentum": 2}}, "momentum is 2: Input should be less than 1"),
        ({"training": {"optimiser": "sgd"}}, "unknown field 'optimiser'; remove it or correct its spelling; did you"),
        ({"neuron": {"reset": "hard"}}, "neuron: reset is 'hard'"),
        ({"budget": None}, "a network comes with its data and a budget"),
    ],
)
def test_what_cannot_be_searched_is_one_line_and_nothing_is_written(change, said, tmp_path):
    arguments = {"network": network(), "data": loaders(), "budget": "4x", "time_axis": None} | change
    one, data = arguments.pop("network"), arguments.pop("data")
    with pytest.raises(InputError) as caught:
        bitsearch.search(one, data, **arguments, out=tmp_path / "run", **SHORT)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_network_whose_weight_an_old_hook_has_computed_is_copied():
    with pytest.warns(FutureWarning):
        one = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(16, 3)))
    images = parts()[0].tensors[0]
    logits = one(images)
    assert torch.equal(objects_of(one, parts()).network(images), logits)
