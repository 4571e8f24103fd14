"""Powers of two beside free step sizes: how pairs of trainings are set beside each other."""

import pandas as pd
import pytest

from benchmarks.evidence.step_sizes import differences, summary


def test_pairs_by_hand():
    shared = {"space": "digits", "budget": "8x", "method": "uniform"}
    trainings = [
        (0, "free", 0.9, 0.8),
        (0, "power_of_two", 0.88, 0.81),
        (1, "free", 0.7, 0.6),
        (1, "power_of_two", 0.7, 0.56),
    ]
    names = ("seed", "step_sizes", "validation", "test")
    unpaired = shared | {"seed": 2, "step_sizes": "free", "validation": 0.1, "test": 0.1}
    table = pd.DataFrame([*(shared | dict(zip(names, one, strict=True)) for one in trainings), unpaired])
    pairs = differences(table)
    assert pairs["seed"].tolist() == [0, 1]
    assert pairs["validation"].tolist() == pytest.approx([-2, 0])
    assert pairs["test"].tolist() == pytest.approx([1, -4])
    # Means of −1 and −1.5; √2 and √12.5 are the deviations of two.
    assert "-1.00 ± 1.00 (2)" in summary(table)
    assert "-1.50 ± 2.50 (2)" in summary(table)
