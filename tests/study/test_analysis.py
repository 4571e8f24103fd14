import itertools
import math

import optuna
import pytest
from scipy.stats import spearmanr

from bitsearch.plan import Baseline, BitPlan, BudgetOutcome, LayerPlan, Provenance
from bitsearch.score import Accuracy
from bitsearch.study.analysis import hypervolumes, importances, layer_correlations, spreads


def plan(trial, bits, accuracy, cost, method="adaptive", seed=0, limit=100.0):
    layers = {name: LayerPlan(weight_bits=w, spike_bits=(2,), time_steps=1) for name, w in bits.items()}
    outcome = BudgetOutcome(metric="m", requested="4x", limit=limit, achieved=cost, met=cost <= limit)
    return BitPlan(
        space="s",
        network="n",
        budget=(outcome,),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={}),
        layers=layers,
        costs={"m": cost},
        accuracy=Accuracy(validation=accuracy),
        provenance=Provenance(bitsearch="0", torch="0", seed=seed, command="c", trial=trial, method=method),
    )


def test_correlations_are_spearmans():
    bits = [(1, 5), (3, 4), (4, 6), (8, 5), (2, 1)]
    accuracies = [0.5, 0.7, 0.65, 0.9, 0.7]
    plans = [
        plan(trial, {"a": a, "b": b, "c": 3}, accuracy, 1.0)
        for trial, ((a, b), accuracy) in enumerate(zip(bits, accuracies, strict=True))
    ]
    table = layer_correlations([*plans, plan(9, {"a": 1, "b": 1, "c": 1}, 0.1, 1.0, method="uniform")])
    for column, name in enumerate("ab"):
        expected = spearmanr([row[column] for row in bits], accuracies).statistic
        assert table.loc[name, "weight bits"] == pytest.approx(expected)
    assert math.isnan(table.loc["c", "weight bits"])
    assert table["time steps"].isna().all()
    assert len(layer_correlations(plans[:3])) == 0


def area(points):
    """Of the union of the rectangles from (cost, accuracy) to (1, 0), by inclusion and exclusion."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            total -= (-1) ** size * (1 - max(c for c, _ in chosen)) * min(a for _, a in chosen)
    return total


def test_hypervolume_is_the_dominated_area():
    points = [(0.8, 0.5), (0.4, 0.4), (1.0, 0.9), (0.5, 0.45), (0.3, 0.6)]
    plans = [plan(trial, {"a": 1}, accuracy, 10 * cost) for trial, (cost, accuracy) in enumerate(points)]
    found = hypervolumes(plans, "m")
    assert found == pytest.approx([area(points[: count + 1]) for count in range(5)])
    assert hypervolumes([], "m") == []


def trial_of(x, y, accuracy, cost):
    uniform = optuna.distributions.FloatDistribution(0, 1)
    return optuna.trial.create_trial(
        params={"x": x, "y": y}, distributions={"x": uniform, "y": uniform}, values=[accuracy, cost]
    )


def test_importances_find_what_matters():
    grid = [(x / 5, y / 5) for x in range(6) for y in range(6)]
    trials = [trial_of(x, y, 0.9 * x + 0.01 * y, 10 * y) for x, y in grid]
    uniform = optuna.trial.create_trial(values=[0.5, 3.0])
    found = importances([*trials, uniform])
    # More than all others together.
    assert found["x"][0] > 0.5
    assert found["y"][1] > 0.5
    for objective in range(2):
        assert sum(shares[objective] for shares in found.values()) == pytest.approx(1)
    assert importances(trials[:3]) == {}
    assert importances([trial_of(x, y, 0.5, y) for x, y in grid]) == {}


def test_outcomes_that_no_parameter_tells_apart_have_no_importances():
    assert importances([trial_of(0.5, 0.5, score / 8, score) for score in range(8)]) == {}


def test_importances_are_told_by_the_names_of_today():
    varied = {
        "ramp_steps": optuna.distributions.FloatDistribution(0, 1),
        "x": optuna.distributions.FloatDistribution(0, 1),
    }
    trials = [
        optuna.trial.create_trial(values=[x + y, y], params={"ramp_steps": x / 3, "x": y / 3}, distributions=varied)
        for x in range(4)
        for y in range(4)
    ]
    assert set(importances(trials)) == {"ramp.steps", "x"}


def test_spreads_are_over_each_seeds_best_plan_within_the_budget():
    plans = [
        plan(0, {"a": 1}, 0.8, 10.0, seed=0),
        plan(1, {"a": 1}, 0.6, 5.0, seed=0),
        plan(2, {"a": 1}, 0.9, 14.0, seed=1),
        plan(3, {"a": 1}, 0.99, 200.0, seed=1),
        plan(4, {"a": 1}, 0.7, 10.0, seed=1, method="uniform"),
    ]
    (found,) = spreads(plans, "m")
    assert (found.method, found.requested, found.seeds) == ("adaptive", "m=4x", 2)
    assert found.score == pytest.approx((0.85, 0.1 / math.sqrt(2)))
    assert found.costs["m"] == pytest.approx((12, 4 / math.sqrt(2)))
