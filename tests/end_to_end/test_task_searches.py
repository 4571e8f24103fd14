"""Whole searches of the tasks that have several labels a sample, and of a loss and a metric of the user's own."""

import json
import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitsearch
from bitsearch.errors import InputError
from bitsearch.plan import SCORE_DROP
from bitsearch.runs.drop import drop_text
from bitsearch.study.run import search

pytestmark = pytest.mark.training

SHORT = {"trials": 1, "epochs": 2, "full_precision_epochs": 15, "learning_rate": 0.01, "device": "cpu"}


def pinball(outputs, targets):
    """Of the 90 % quantile: a value below the target costs nine times as much."""
    below = targets.view_as(outputs) - outputs
    return torch.maximum(0.9 * below, -0.1 * below).mean(1)


def coverage_error(outputs, targets):
    """One number for all samples: how far the share below the outputs is from 90 %."""
    return (targets.view_as(outputs) <= outputs).double().mean().sub(0.9).abs()


def network(outputs, *shape):
    torch.manual_seed(0)
    layers = nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, outputs)
    return nn.Sequential(*layers, *([nn.Unflatten(1, shape)] if shape else []))


def numbers(count, seed, targets):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 8, generator=generator)
    return TensorDataset(x, targets(x, torch.randn(count, generator=generator)))


def parts(targets):
    return tuple(numbers(count, seed, targets) for seed, count in enumerate((128, 64, 64)))


def flags(x, noise):
    return (x[:, :3] > 0).float()


def sequence(x, noise):
    return (x[:, :4] > 0).long() + (x[:, :4] > 1).long()


def noisy(x, noise):
    return x[:, 0] + 0.3 * noise


@pytest.fixture(scope="module")
def quantile(tmp_path_factory):
    """The cheapest plan whose own metric is at most 0.3 above full precision's."""
    out = tmp_path_factory.mktemp("runs") / "run"
    task = {"name": "own", "loss": pinball, "metric": coverage_error, "direction": "down", "unit": "of samples"}
    loaders = tuple(DataLoader(part, 32) for part in parts(noisy))
    with pytest.warns(UserWarning, match="has no Hessian here; its bits are weighed by the empirical Fisher"):
        return bitsearch.search(network(1), loaders, max_drop="0.3", task=task, out=out, **SHORT | {"trials": 2})


def test_a_loss_and_a_metric_of_the_users_own_are_searched_by(quantile):
    space = quantile.folder.settings.space
    assert (space.task.loss, space.task.metric) == ("test_task_searches:pinball", "test_task_searches:coverage_error")
    x, targets = parts(noisy)[1].tensors
    with torch.no_grad():
        expected = coverage_error(quantile.network()(x), targets)
    assert quantile.best.score.validation == pytest.approx(float(expected), abs=1e-9)
    assert quantile.best.score.score.name == "coverage error"
    x, targets = parts(noisy)[2].tensors
    with torch.no_grad():
        expected = coverage_error(quantile.network()(x), targets)
    assert quantile.best.score.test == pytest.approx(float(expected), abs=1e-12)
    # Half of the targets are below their mean: a network that had learned squared error would be 0.4 off.
    assert quantile.folder.settings.full_precision.validation < 0.3


def test_a_goal_is_in_the_metrics_own_unit(quantile):
    reference = quantile.folder.settings.full_precision.validation
    for plan in quantile.folder.plans():
        (outcome,) = plan.budget
        assert (outcome.metric, outcome.requested, outcome.limit) == (SCORE_DROP, "max drop 0.3", 0.3)
        assert outcome.achieved == pytest.approx(max(0.0, plan.score.validation - reference), abs=1e-9)
    within = [plan for plan in quantile.folder.plans() if plan.met]
    cost = quantile.folder.settings.metric
    assert quantile.best.costs[cost] == min(plan.costs[cost] for plan in within)
    assert quantile.best.accuracy_goal.met
    said = drop_text(quantile.folder)
    assert said.startswith("max drop 0.3: ")
    assert "of at most 0.3 of samples lost on validation" in said.replace("\N{NO-BREAK SPACE}", " ")
    page = bitsearch.write_report(quantile.folder).read_text(encoding="utf-8")
    assert "<dt>Coverage error goal</dt>" in page
    assert "the cheapest that keeps the coverage error goal" in page
    shown = re.sub(r"<(script|template|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "accura" not in shown.lower()


def test_labels_that_are_not_exclusive(tmp_path):
    task = {"name": "multi_label", "metric": "f1"}
    result = bitsearch.search(network(3), parts(flags), budget="4x", task=task, out=tmp_path / "run", **SHORT)
    x, targets = parts(flags)[2].tensors
    with torch.no_grad():
        named = result.network()(x) > 0
    true = targets.bool()
    # F1 over all labels together, by hand.
    expected = 2 * int((named & true).sum()) / (int(named.sum()) + int(true.sum()))
    assert result.best.score.test == pytest.approx(expected, abs=1e-9)
    assert result.best.met


def test_a_label_at_every_place(tmp_path):
    longer = SHORT | {"full_precision_epochs": 40}
    result = bitsearch.search(
        network(12, 3, 4), parts(sequence), budget="4x", task="sequence", out=tmp_path / "run", **longer
    )
    x, targets = parts(sequence)[2].tensors
    with torch.no_grad():
        right = result.network()(x).argmax(1) == targets
    assert result.best.score.score.name == "label accuracy"
    assert result.best.score.test == pytest.approx(float(right.double().mean()), abs=1e-9)
    # Answering the commonest label everywhere is right in half of the places.
    assert result.best.score.validation > 0.6


def test_a_study_of_ones_own_training_has_the_tasks_score(tmp_path):
    data, task = parts(noisy), {"name": "regression", "loss": "huber", "unit": "V"}
    out = tmp_path / "run"
    with bitsearch.Study(network(1), data, "4x", task=task, trials=1, steps=2, out=out, device="cpu") as study:
        for trial in study:
            for _ in range(2):
                outputs = trial.network(data[0].tensors[0]).squeeze(1)
                (nn.functional.huber_loss(outputs, data[0].tensors[1]) + trial.penalty()).backward()
            trial.freeze()
            study.tell(trial)
        best = study.result().best
    assert (best.score.score.name, best.score.score.direction) == ("mean absolute error", "down")
    assert json.loads((out / "plan.json").read_text())["score"]["score"]["unit"] == "V"


def test_a_function_that_no_import_finds_is_refused(tmp_path):
    task = {"name": "own", "loss": lambda x, y: x, "metric": coverage_error, "direction": "down"}
    with pytest.raises(InputError, match=r"loss .* cannot be imported by a run that goes on; define it at the top"):
        bitsearch.search(network(1), parts(noisy), budget="4x", task=task, out=tmp_path / "run", **SHORT)


def test_a_task_that_is_spelled_out_is_the_default_bit_by_bit(tiny_space, finished_run, tmp_path):
    spelled = tiny_space.with_task(
        {"name": "classification", "loss": "cross_entropy", "metric": "accuracy", "top_k": 1, "label_smoothing": 0.0}
    )
    made = search(spelled, "8x", out=tmp_path / "run", command="bitsearch run --budget 8x")
    files = ["plan.json", *(f"plans/{file.name}" for file in finished_run.folder.path.glob("plans/*.json"))]
    for name in files:
        assert (made.folder.path / name).read_bytes() == (finished_run.folder.path / name).read_bytes(), name
    for before, after in zip(finished_run.folder.log(), made.folder.log(), strict=True):
        timeless = [
            {key: value for key, value in event.items() if key not in ("time", "seconds")} for event in (before, after)
        ]
        assert timeless[0] == timeless[1]
    tables = [result.folder.path / "trials.csv" for result in (finished_run, made)]
    assert tables[0].read_bytes() == tables[1].read_bytes()
