"""What `bitsearch allocate --help` and its page say of tight budgets is what was measured."""

from pathlib import Path

import pandas as pd
import pytest

from bitsearch.cli.allocate import allocate

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "reports" / "evidence" / "minutes" / "runs.csv"


def percent(kind, epochs, budget=None):
    runs = pd.read_csv(RUNS)
    rows = runs[(runs["space"] == "digits") & (runs["kind"] == kind) & (runs["epochs"] == epochs)]
    return f"{100 * rows[rows['budget'] == budget if budget else rows['budget'].isna()]['test'].mean():.1f}"


@pytest.mark.parametrize("text", [allocate.__doc__, (ROOT / "docs" / "allocate.md").read_text()], ids=["help", "page"])
def test_figures_of_tight_budgets_are_the_measured_ones(text):
    words = " ".join(text.split())
    first, second, third, last = (percent("searched", 0, budget) for budget in ("4x", "8x", "16x", "32x"))
    assert f"full precision has {percent('full precision', 0)} % on test" in words
    assert f"have {first}, {second}, {third} and {last} %" in words
    assert f"{percent('searched', 1, '32x')} % after" in words
    assert f"{percent('searched', 18, '32x')} % after 18" in words
