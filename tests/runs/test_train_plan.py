import pytest
import torch
from learning import guessed
from safetensors.torch import load_file, save_file

from bitsearch.errors import InputError
from bitsearch.layers.weights import save_weights
from bitsearch.plan import Baseline, BitPlan, BudgetOutcome, Provenance, UniformBits
from bitsearch.runs.progress import Progress
from bitsearch.runs.rebuild import evaluate_plan
from bitsearch.runs.train_plan import train_plan
from bitsearch.train.distillation import DistillationLoss
from bitsearch.train.predict import predict
from bitsearch.train.task import load_task
from bitsearch.training import Distillation


class Stopping(Progress):
    """Is told of epochs, and stops the training at one of them, as Ctrl-C does."""

    def __init__(self, at=None):
        self.at, self.epochs, self.announced = at, [], None

    def trial(self, label, epochs):
        self.announced = epochs

    def epoch(self, record):
        self.epochs.append(record.epoch)
        if record.epoch == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def task(tiny_space):
    return load_task(tiny_space, device="cpu")


@pytest.fixture
def plan(task, tiny_space_text, tmp_path):
    """A plan and its space in a folder of their own."""
    (tmp_path / "tiny.toml").write_text(tiny_space_text, encoding="utf-8")
    bits = UniformBits(weight_bits=3, spike_bits=2, time_steps=2)
    layers = task.rules.nearest(task.model, bits, granularity="layer", decay=1.0)
    costs = task.model.costs(layers)
    budget = BudgetOutcome(
        metric="bit_budget", requested="4x", limit=16.0, achieved=costs["bit_budget"], met=costs["bit_budget"] <= 16
    )
    BitPlan(
        space="tiny",
        network="digits_cnn",
        budget=(budget,),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={}),
        layers=layers,
        costs=costs,
        provenance=Provenance(bitsearch="0", torch="0", seed=3, command="by hand", trial=5),
    ).save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def trained(plan, **options):
    return train_plan(plan, space=str(plan.with_name("tiny.toml")), device="cpu", **options)


def test_training_writes_weights_and_the_accuracies_that_evaluating_them_gives(plan):
    found = trained(plan, epochs=4, command="bitsearch train plan.json")
    assert found.plan_file == plan.with_name("plan.trained.json")
    assert BitPlan.load(found.plan_file) == found.plan
    assert found.plan.accuracy.test > guessed(360, 10)
    for split in ("validation", "test"):
        again = evaluate_plan(
            found.plan_file,
            weights=found.weights_file,
            space=str(plan.with_name("tiny.toml")),
            split=split,
            device="cpu",
        )
        assert again == getattr(found.plan.accuracy, split)
    before = BitPlan.load(plan)
    assert found.plan.layers == before.layers
    assert found.plan.budget[0].achieved == before.budget[0].achieved
    # Weights of the run's trial are not this plan's.
    assert found.plan.provenance.trial is None
    assert found.plan.provenance.command == "bitsearch train plan.json"
    assert sorted(path.name for path in plan.parent.iterdir()) == [
        "plan.json",
        "plan.trained.json",
        "plan.trained.safetensors",
        "tiny.toml",
    ]


def test_a_training_stopped_twice_ends_with_the_weights_of_an_undisturbed_one(plan, tmp_path):
    whole = trained(plan, epochs=4, output=tmp_path / "whole.json")
    for at, expected in ((1, [1]), (3, [1, 2, 3])):
        with pytest.raises(KeyboardInterrupt):
            trained(plan, epochs=4, progress=(progress := Stopping(at)))
        assert progress.epochs == expected
    assert plan.with_name("plan.trained.checkpoint.safetensors").exists()
    torch.manual_seed(99)
    rest = trained(plan, epochs=4, progress=(progress := Stopping()))
    assert progress.epochs == [3, 4]
    assert progress.announced == 2
    one, other = load_file(whole.weights_file), load_file(rest.weights_file)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert rest.plan == whole.plan


def test_training_starts_from_full_precision_or_from_the_plans_own_weights(plan, task):
    network = task.fresh_network()
    save_weights(network, plan.with_name("float.safetensors"))
    first = trained(plan, epochs=1, start=plan.with_name("float.safetensors"))
    own = plan.with_name("own.safetensors")
    first.weights_file.rename(own)
    second = trained(plan, epochs=1, start=own)
    before, after = load_file(own), load_file(second.weights_file)
    moved = {name: float((after[name] - before[name]).abs().mean()) for name in before if "conv" in name}
    assert 0 < moved["conv2.weight"] < float(before["conv2.weight"].abs().mean()) / 2
    assert after["conv2.weight_step_bits"] == 3


def test_what_does_not_fit_is_refused(plan, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(plan, epochs=3, progress=Stopping(2))
    with pytest.raises(InputError, match="is of another training; delete it"):
        trained(plan, epochs=2)
    checkpoint = plan.with_name("plan.trained.checkpoint.safetensors")
    tensors = {name: tensor.clone() for name, tensor in load_file(checkpoint).items()}
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match="is not a checkpoint"):
        trained(plan, epochs=3)
    save_file(tensors, checkpoint)
    with pytest.raises(InputError, match="is not a checkpoint; delete it to start anew, or write to another place"):
        trained(plan, epochs=3)
    checkpoint.unlink()
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    with pytest.raises(InputError, match="is not a safetensors file"):
        trained(plan, epochs=1, start=tmp_path / "text")
    with pytest.raises(InputError, match="no weights at"):
        trained(plan, epochs=1, start=tmp_path / "missing")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(InputError, match="belongs to another network"):
        trained(plan, epochs=1, start=tmp_path / "foreign")
    with pytest.raises(InputError, match="learns from the full-precision network of a run, and there is none here"):
        trained(plan, epochs=1, overrides=["training.distillation.weight=0.5"])
    assert not plan.with_name("plan.trained.json").exists()


def test_a_plan_in_its_run_learns_from_the_runs_full_precision(finished_run, copied, monkeypatch):
    folder, teachers = copied(finished_run).folder, []

    class Watched(DistillationLoss):
        def __init__(self, teacher, settings, *arguments):
            super().__init__(teacher, settings, *arguments)
            teachers.append((teacher.state_dict(), settings))

    monkeypatch.setattr("bitsearch.train.distillation.DistillationLoss", Watched)
    train_plan(folder.chosen_file, epochs=1, overrides=["training.distillation.weight=0.7"], device="cpu")
    ((weights, settings),) = teachers
    assert settings == Distillation(weight=0.7)
    for name, value in load_file(folder.full_precision_weights).items():
        assert torch.equal(weights[name], value), name


def test_no_more_samples_are_measured_at_once_than_a_micro_batch_has(plan, monkeypatch):
    sizes = []

    def counting(network, inputs, form):
        sizes.append(len(inputs))
        return predict(network, inputs, form)

    for module in ("evaluate", "loop"):
        monkeypatch.setattr(f"bitsearch.train.{module}.predict", counting)
    trained(plan, epochs=1, overrides=["training.micro_batch=16"])
    assert max(sizes) == 16
