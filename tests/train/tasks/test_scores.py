"""Scores of a task over a split, added up batch by batch, against torchmetrics on everything at once."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics import classification, regression

from bitsearch.errors import InputError
from bitsearch.runs.paired import row_difference, score_of, standard_error
from bitsearch.task_settings import TaskSettings
from bitsearch.train.evaluate import evaluate, score_row
from bitsearch.train.tasks import make_learning_task
from bitsearch.train.tasks.scores import RESAMPLES

SAMPLES = 23


class Same(nn.Module):
    """Its inputs are its outputs."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x


def draw(*shape, seed=0):
    return torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(seed))


def task(name, classes, axes, **settings):
    return make_learning_task(TaskSettings(name=name, **settings), classes, axes)


def score(one, outputs, targets, batch=5):
    return evaluate(Same(), TensorDataset(outputs, targets), batch, task=one)


LABELS = torch.arange(SAMPLES) % 3
MAPS = (torch.arange(SAMPLES * 4) % 3).view(SAMPLES, 2, 2).masked_fill(torch.arange(4).view(2, 2) == 3, 255)


def test_every_metric_is_that_of_torchmetrics_on_all_samples_at_once():
    numbers, values = draw(2), draw(2, seed=1)
    flat = numbers.flatten().double(), values.flatten().double()
    assert score(task("regression", 2, 1), numbers, values) == pytest.approx(
        float(regression.MeanAbsoluteError()(*flat))
    )
    assert score(task("regression", 2, 1, metric="r2"), numbers, values) == pytest.approx(
        float(regression.R2Score()(*flat))
    )
    ranks = [numbers.argsort().argsort() for numbers in flat]
    rank = float(torch.corrcoef(torch.stack(ranks).double())[0, 1])
    assert score(task("regression", 2, 1, metric="SpearmanCorrCoef"), numbers, values) == pytest.approx(rank, abs=1e-6)
    logits = draw(3)
    top = (logits.topk(2).indices == LABELS.unsqueeze(1)).any(1).double().mean()
    assert score(task("classification", 3, 0, top_k=2), logits, LABELS) == pytest.approx(float(top))
    f1 = float(classification.MulticlassF1Score(3)(logits, LABELS))
    assert score(task("classification", 3, 0, metric="MulticlassF1Score"), logits, LABELS) == pytest.approx(f1)
    pixels = draw(3, 2, 2)
    iou = float(classification.MulticlassJaccardIndex(3, ignore_index=255)(pixels, MAPS))
    assert score(task("segmentation", 3, 2, ignored_label=255), pixels, MAPS) == pytest.approx(iou)
    flags = (draw(2, seed=2) > 0).long()
    right = ((numbers > 0) == flags.bool()).double().mean()
    assert score(task("multi_label", 2, 1), numbers, flags) == pytest.approx(float(right))


def test_a_row_has_the_score_and_replicates_of_pairs():
    """Two networks that differ by a constant in every sample differ by it in every replicate."""
    one, values = task("regression", 1, 0), draw()
    rows = [
        score_row(Same(), TensorDataset(values.unsqueeze(1) + shift, values), 5, one).numpy() for shift in (0.5, 1.0)
    ]
    assert rows[0].shape == (1 + RESAMPLES,)
    assert [score_of(row) for row in rows] == pytest.approx([0.5, 1.0])
    found = row_difference(*rows, one.score)
    assert (found.difference, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert standard_error(*rows) == pytest.approx(0.0, abs=1e-6)


def test_replicates_have_the_standard_error_of_a_mean():
    one, values = task("regression", 1, 0), torch.zeros(SAMPLES)
    errors = draw().abs()
    row = score_row(Same(), TensorDataset(errors.unsqueeze(1), values), 5, one).numpy()
    expected = float(errors.std(correction=0)) / SAMPLES**0.5
    # The deviation of 1000 draws is within 7 % of the true one in 99.8 of 100 cases.
    assert np.std(row[1:]) == pytest.approx(expected, rel=0.07)


def test_a_metric_that_is_no_sum_has_no_replicates():
    one = task("regression", 1, 0, metric="SpearmanCorrCoef")
    row = score_row(Same(), TensorDataset(draw(1), draw(seed=1)), 5, one).numpy()
    assert row.shape == (1,)
    assert row_difference(row, row, one.score) is None


@pytest.mark.parametrize(
    ("settings", "name", "share", "direction"),
    [
        ({"name": "classification"}, "accuracy", True, "up"),
        ({"name": "classification", "top_k": 2}, "top-2 accuracy", True, "up"),
        ({"name": "segmentation"}, "mean IoU", True, "up"),
        ({"name": "regression"}, "mean absolute error", False, "down"),
        ({"name": "regression", "metric": "r2"}, "R²", False, "up"),
        (
            {"name": "regression", "metric": "MeanAbsolutePercentageError"},
            "mean absolute percentage error",
            False,
            "down",
        ),
    ],
)
def test_a_score_knows_its_name_and_its_direction(settings, name, share, direction):
    found = make_learning_task(TaskSettings(**settings), 3, {"segmentation": 2}.get(settings["name"], 0)).score
    assert (found.name, found.share, found.direction) == (name, share, direction)


def squares(outputs, targets):
    return (outputs.squeeze(1) - targets) ** 2


def broken(outputs, targets):
    return torch.tensor(float("nan"))


def rows_too_many(outputs, targets):
    return torch.zeros(len(outputs) + 1)


def own(metric, **settings):
    return task("own", 1, 0, loss=f"{__name__}:squares", metric=f"{__name__}:{metric}", **settings)


def test_a_metric_of_ones_own_is_averaged_over_the_samples():
    outputs, targets = draw(1), draw(seed=1)
    one = own("squares", direction="down", unit="s²")
    assert score(one, outputs, targets) == pytest.approx(float(squares(outputs, targets).mean()))
    assert (one.score.name, one.score.unit) == ("squares", "s²")
    row = score_row(Same(), TensorDataset(outputs, targets), 5, one)
    assert len(row) == 1 + RESAMPLES


def test_a_metric_that_cannot_be_used_is_named():
    outputs, targets = draw(1), draw(seed=1)
    with pytest.raises(InputError, match=r"does not say whether a higher score is better; set task\.direction"):
        own("squares")
    with pytest.raises(InputError, match="the broken is nan on 23 samples; a metric has to be a finite number"):
        score(own("broken", direction="up"), outputs, targets)
    with pytest.raises(
        InputError, match=r"returned a tensor \[24\] for 23 samples; return one number a sample, or one"
    ):
        score(own("rows_too_many", direction="up"), outputs, targets)
    with pytest.raises(InputError, match=r"no metric 'MeanAbsolutError'.*did you mean 'MeanAbsoluteError'"):
        task("regression", 1, 0, metric="MeanAbsolutError")
    with pytest.raises(InputError, match="no loss 'hubber' in task 'regression'; known: mse, l1, huber"):
        task("regression", 1, 0, loss="hubber")
