"""Whole searches of networks that learn numbers and maps of labels instead of classes."""

import json
import re
from io import StringIO

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitsearch
from bitsearch.cli.terminal.tables import print_result
from bitsearch.deploy.formats.hub_folder import card
from bitsearch.errors import InputError
from bitsearch.report.page import render
from bitsearch.score import Score
from bitsearch.text import score_text
from bitsearch.train.evaluate import evaluate
from bitsearch.train.tasks import make_learning_task

pytestmark = pytest.mark.training

SHORT = {"trials": 1, "epochs": 2, "full_precision_epochs": 12, "device": "cpu"}


def tones(count, seed):
    """Sounds of 64 samples and their pitch in octaves: a spoken digit's vowel at its simplest."""
    generator = torch.Generator().manual_seed(seed)
    pitch = 2 * torch.rand(count, generator=generator)
    phase = 6.28 * torch.rand(count, 1, generator=generator)
    time = torch.arange(64) / 64
    sounds = torch.sin(phase + 6.28 * 2 * 2 ** pitch.unsqueeze(1) * time)
    return TensorDataset(torch.fft.rfft(sounds).abs()[:, :16] / 16, pitch)


def listener():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


class UNet(nn.Module):
    """Down once, up once, and the fine map beside the coarse one."""

    def __init__(self, channels=6):
        super().__init__()
        torch.manual_seed(0)
        self.down, self.deep = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Conv2d(2 * channels, 3, 3, padding=1)
        self.relu1, self.relu2, self.pool, self.up = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x):
        fine = self.relu1(self.down(x))
        return self.head(torch.cat([fine, self.up(self.relu2(self.deep(self.pool(fine))))], 1))


def shapes(count, seed):
    """Images of a bright square and a dark one in noise, and maps of them; the border counts as nothing (255)."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.2 * torch.randn(count, 1, 12, 12, generator=generator)
    maps = torch.zeros(count, 12, 12, dtype=torch.int64)
    for index in range(count):
        for label, brightness in ((1, 1.0), (2, -1.0)):
            top, left = torch.randint(1, 8, (2,), generator=generator).tolist()
            images[index, 0, top : top + 4, left : left + 4] += brightness
            maps[index, top : top + 4, left : left + 4] = label
    maps[:, 0], maps[:, -1] = 255, 255
    return TensorDataset(images, maps)


def parts(make):
    return make(128, 0), make(64, 1), make(64, 2)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    loaders = tuple(DataLoader(part, 32) for part in parts(tones))
    task = {"name": "regression", "loss": "huber", "unit": "octaves"}
    out = tmp_path_factory.mktemp("runs") / "run"
    return bitsearch.search(listener(), loaders, budget="4x", task=task, out=out, learning_rate=0.01, **SHORT)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    task = {"name": "segmentation", "ignored_label": 255}
    out = tmp_path_factory.mktemp("runs") / "run"
    return bitsearch.search(UNet(), parts(shapes), budget="4x", task=task, out=out, learning_rate=0.01, **SHORT)


def test_a_regression_is_judged_by_its_error(regression):
    best, reference = regression.best, regression.folder.settings.full_precision
    assert best.met
    assert (best.score.score.name, best.score.score.direction) == ("mean absolute error", "down")
    # Guessing the mean of two octaves, evenly spread, is half an octave off.
    assert reference.validation < 0.25
    assert best.score.validation < 0.25
    sums = regression.folder.plans()
    assert best.score.validation == min(plan.score.validation for plan in sums if plan.met)
    assert "validation_score" in regression.trials.columns
    assert {"validation_score", "test_score"} <= set(
        (regression.folder.path / "trials.csv").read_text().split("\n")[0].split(",")
    )


def test_its_network_is_measured_again_as_the_run_measured_it(regression):
    _, validation, test = (DataLoader(part, 32) for part in parts(tones))
    assert regression.evaluate(validation) == pytest.approx(regression.best.score.validation, abs=1e-6)
    by_hand = (regression.network()(test.dataset.tensors[0]).squeeze(1) - test.dataset.tensors[1]).abs().mean()
    assert float(by_hand.detach()) == pytest.approx(regression.best.score.test, abs=1e-6)


def test_its_network_is_deployed_and_replayed_with_the_same_error(regression, tmp_path):
    test = parts(tones)[2]
    packed = bitsearch.read(regression.deploy(tmp_path / "n.packed"))
    task = make_learning_task(regression.folder.settings.space.task, 1)
    found = bitsearch.verify(packed, regression.network(), test.tensors[0], test, task=task)
    assert found.equal
    assert found.float_score == pytest.approx(regression.best.score.test, abs=1e-6)
    assert found.score == pytest.approx(found.float_score, abs=0.02)


def test_its_verdict_is_of_pairs_and_speaks_of_its_error(regression):
    verdict = regression.verdict
    assert verdict.difference is not None
    assert verdict.difference.low <= verdict.difference.difference <= verdict.difference.high
    assert "octaves" in verdict.explanation
    assert "accura" not in verdict.text
    assert regression.within_one_standard_error is not None


def test_no_page_no_plan_and_no_model_card_of_a_regression_speaks_of_accuracy(regression):
    plan = json.loads(regression.folder.chosen_file.read_text())
    assert plan["score"]["score"] == {
        "name": "mean absolute error",
        "share": False,
        "unit": "octaves",
        "direction": "down",
    }
    assert set(plan.get("accuracy", {})) == set()
    whole = re.sub(r"<(script|template|style)\b.*?</\1>", "", render(regression.folder), flags=re.DOTALL)
    model_card = card(regression.best, regression.folder.settings.space)
    for page in (whole, regression._repr_html_(), model_card):
        assert "mean absolute error" in page.lower()
        assert "accura" not in page.lower()
    assert bitsearch.BitPlan.load(regression.folder.chosen_file) == regression.best


def test_eighty_columns_hold_its_table_with_a_word_of_the_score_a_line(regression):
    printed = StringIO()
    print_result(regression, regression.folder.report_file, Console(file=printed, width=80))
    table = printed.getvalue().split("└")[0].splitlines()
    assert all(cell_len(line) <= 80 and line.endswith(("┓", "┃", "┩", "│")) for line in table[1:])
    heads = "\n".join(table[1 : table.index(next(line for line in table if line.startswith("┡")))])
    assert heads.count("absolute") == heads.count("octaves") == 2
    assert score_text(regression.best.score.validation, Score(share=False)) in printed.getvalue()


def test_a_segmentation_is_judged_by_the_mean_iou(segmentation):
    best, reference = segmentation.best, segmentation.folder.settings.full_precision
    assert best.met
    assert best.score.score.name == "mean IoU"
    # Answering the ground everywhere: its share of the pixels for one class, nothing for the other two.
    assert reference.validation > 0.5
    assert best.score.validation > 1 / 3
    task = make_learning_task(segmentation.folder.settings.space.task, 3, 2)
    again = evaluate(segmentation.network(), parts(shapes)[2], 16, task=task)
    assert again == pytest.approx(best.score.test, abs=1e-9)
    uniform = [plan.score.test for plan in segmentation.uniform if plan.met and plan.score.test is not None]
    assert uniform
    assert best.score.test >= max(uniform) or not segmentation.verdict.headline.startswith("Better")


@pytest.mark.parametrize(
    ("make", "task", "message"),
    [
        (lambda x, y: (x, y.double().round().long()), "regression", r"its target is int64 \[\d*\]; give a float"),
        (lambda x, y: (x, y * float("nan")), "regression", "its target holds nan; mend or leave out such samples"),
        (lambda x, y: (x, y), "multi_label", "give a tensor of one 0 or 1 a label"),
        (lambda x, y: (x, y), "segmentation", "give an int64 tensor of class numbers"),
        (
            lambda x, y: (x, y.unsqueeze(1).repeat(1, 3)),
            "regression",
            r"for targets of shape \[4, 3\]; it must return values",
        ),
        (lambda x, y: (x, y), "regresion", "regression"),
    ],
)
def test_targets_that_do_not_fit_are_refused_in_one_line(make, task, message, tmp_path):
    data = tuple(TensorDataset(*make(*part.tensors)) for part in parts(tones))
    with pytest.raises(InputError, match=message) as caught:
        bitsearch.search(listener(), data, budget="4x", task=task, out=tmp_path / "run", **SHORT)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
