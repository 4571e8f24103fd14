"""The comparison of weightings: that they are what is in force, and how a study is summed up."""

import pandas as pd
import pytest

from benchmarks.evidence.weighting import WEIGHTINGS, studies, weighted
from bitsearch.allocation.loss_model import LevelCount, layer_loss, loss_prices
from bitsearch.allocation.solvers import greedy

PRICES = {"weight": 2.0, "spike": 3.0, "time": 12.0}


@pytest.mark.parametrize(
    ("name", "weight_price", "spike_price"), [("w, √(s·T)", 2.0, 6.0), ("w, s", 2.0, 3.0), ("none", 1.0, 1.0)]
)
def test_a_weighting_is_in_force_until_it_ends(name, weight_price, spike_price):
    # 4^-2 of the weights, and 8^-2 of two time steps with two bits each.
    with weighted(WEIGHTINGS[name]):
        loss = layer_loss(LevelCount(), "", 2, (2, 2), PRICES)
        assert greedy.loss_prices(PRICES) == (weight_price, spike_price)
    assert loss == pytest.approx(1 / 16 / weight_price + 1 / 64 / spike_price)
    assert layer_loss(LevelCount(), "", 2, (2, 2), PRICES) == pytest.approx(1 / 16 / 2 + 1 / 64 / 6)


def test_the_first_weighting_is_the_one_in_use():
    assert next(iter(WEIGHTINGS.values()))(PRICES) == loss_prices(PRICES)


def test_a_study_by_hand():
    shared = {"method": "adaptive", "budget": "4x", "weighting": "none", "seed": 0, "limit": 10.0}
    trials = [(0, 10.0, 0.9, 0.7), (1, 5.0, 0.6, 0.5), (2, 8.0, 0.9, 0.8)]
    table = pd.DataFrame([shared | {"attempt": a, "cost": c, "validation": v, "test": t} for a, c, v, t in trials])
    (study,) = studies(table, "cost").to_dict("records")
    # Of equal ones the cheaper; the first trial does not count in the mean.
    assert (study["validation"], study["test"]) == (0.9, 0.8)
    assert study["mean"] == pytest.approx(0.75)
    # From half to four fifths of the limit 0.6, from there to the limit 0.9.
    assert study["volume"] == pytest.approx(0.3 * 0.6 + 0.2 * 0.9)
