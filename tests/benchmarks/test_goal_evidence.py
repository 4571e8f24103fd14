"""What the measurement of accuracy goals says of runs; the measurement itself is no test."""

import pandas as pd
import pytest
from bars import loaders, trained_network

from benchmarks.evidence.goal import measured, page
from bitsearch.study.run import search

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return search(trained_network(), loaders(), max_drop="40", epochs=1, trials=2, out=out)


def test_a_row_is_what_the_run_recorded(run):
    row, best, settings = measured(run.folder), run.best, run.folder.settings
    assert row["held"]
    for part in ("validation", "test"):
        lost = getattr(settings.full_precision, part) - getattr(best.accuracy, part)
        assert row[f"{part} lost"] == pytest.approx(100 * lost)
        assert row[f"{part} low"] <= row[f"{part} lost"] <= row[f"{part} high"]
    assert row["cost"] == best.costs["bit_budget"] == min(p.costs["bit_budget"] for p in run.folder.plans() if p.met)


def test_the_page_counts_seeds_within_the_goal_on_validation_and_above_it_on_test(run):
    row = measured(run.folder)
    rows = [row | {"seed": seed, "test lost": lost} for seed, lost in enumerate((0.25, 0.75, 1.25))]
    rows[1]["held"] = False
    text = " ".join(page(pd.DataFrame(rows), run.folder.settings.space, "bit_budget", "0.5").split())
    assert "The goal holds on validation in 2 of 3 seeds" in text
    assert "0.75 ± 0.50 on test. On test it is above the goal in 2 of them." in text
    assert "above the goal" not in page(pd.DataFrame(rows), run.folder.settings.space, "bit_budget", "2%")
