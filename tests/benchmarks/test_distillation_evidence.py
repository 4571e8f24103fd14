"""What pairs of trainings say of distillation, from a table by hand."""

import pandas as pd
import pytest

from benchmarks.evidence.distillation import KEYS, LABELS, LOSSES, METHODS, gain, missing, pairs, summary
from benchmarks.evidence.runs import Ledger

DISTILLED = next(loss for loss in LOSSES if loss != LABELS)


@pytest.fixture
def table():
    rows = [
        ("digits", 0, "8x", "adaptive", LABELS, 0.90),
        ("digits", 0, "8x", "adaptive", DISTILLED, 0.92),
        ("digits", 1, "8x", "adaptive", LABELS, 0.80),
        ("digits", 1, "8x", "adaptive", DISTILLED, 0.78),
        ("events", 0, "8x", "uniform", LABELS, 0.60),
        ("events", 0, "8x", "uniform", DISTILLED, 0.63),
        # Without a partner it is compared with nothing.
        ("events", 1, "8x", "uniform", LABELS, 0.10),
        ("events", 2, "8x", "uniform", DISTILLED, 0.10),
    ]
    return pd.DataFrame(rows, columns=["space", "seed", "budget", "method", "loss", "validation"])


def test_trainings_that_differ_in_the_loss_alone_are_paired(table):
    found = pairs(table)
    assert found[["space", "seed", "loss"]].values.tolist() == [
        ["digits", 0, DISTILLED],
        ["digits", 1, DISTILLED],
        ["events", 0, DISTILLED],
    ]
    assert found["distilled"].tolist() == [0.92, 0.78, 0.63]
    assert found[LABELS].tolist() == [0.90, 0.80, 0.60]


def test_the_gain_is_in_points_with_its_standard_error(table):
    # +2, −2 and +3 points: mean 1, and a standard deviation of √7 over √3.
    assert gain(pairs(table)) == "+1.00 ± 1.53 (3)"
    assert gain(pairs(table).query("space == 'events'")) == "+3.00 (1)"
    assert gain(pairs(table).query("space == 'none'")) == "—"


def test_a_row_for_each_case_each_space_and_all(table):
    lines = summary(table).splitlines()[2:]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == ["digits", "events", "digits", "events", "all"]
    assert "85.00 ± 7.07" in lines[0]


def test_what_is_missing_is_counted_by_space_and_seed(tmp_path):
    ledger, losses = Ledger(tmp_path / "runs.csv", KEYS), [LABELS]
    for method in METHODS:
        ledger.add(dict(zip(KEYS, ("digits", 0, "8x", method, LABELS), strict=True)), [{"validation": 0.9}])
    assert missing(ledger, ["digits"], 1, ["8x"], losses) == "Nothing is missing."
    said = missing(ledger, ["digits", "events"], 1, ["8x", "4x"], losses)
    assert said == "Still missing: digits, seed 0 (2 runs); events, seed 0 (4 runs)."
