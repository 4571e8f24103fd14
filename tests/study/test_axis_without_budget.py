"""A run whose budget limits one cost, and whose front is of another: that is aimed at as well."""

from itertools import product

import pytest
from bars import loaders

from bitsearch.allocation.loss_model import LevelCount
from bitsearch.choices import NUMBERS
from bitsearch.plan import UniformBits
from bitsearch.study.run import search
from bitsearch.study.study import UNIFORM, finished_trials

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return search(trained, loaders(), "memory=2KiB", objective="s_ace", epochs=1, trials=4, out=out)


def test_every_trial_has_a_target_on_the_axis_within_the_budget(result):
    trials = [trial for trial in finished_trials(result.folder) if UNIFORM not in trial.user_attrs]
    targets = [trial.params["cost_target"] for trial in trials]
    assert len(set(targets)) == len(targets) == 4
    for trial in trials:
        assert trial.values[1] <= trial.params["cost_target"]
        assert trial.user_attrs["costs"]["weight_memory"] <= 2048


def test_uniform_plans_are_the_cheapest_on_the_axis_with_their_levels(result):
    space, levels = result.folder.settings.space, LevelCount(result.folder.settings.space.allocation.weight_tolerance)

    def error(bits):
        return levels.weight_loss("", bits.weight_bits) + levels.spike_loss("", (bits.spike_bits,) * bits.time_steps)

    trials = [trial for trial in finished_trials(result.folder) if UNIFORM in trial.user_attrs]
    assert len(trials) > 2
    spans = [getattr(space.choices, name).values for name in NUMBERS]
    for trial in trials:
        bits = UniformBits.parse(trial.user_attrs[UNIFORM])
        assert trial.user_attrs["costs"]["weight_memory"] <= 2048
        # One network of linear layers: s_ace grows with w·s·T, in every layer alike.
        product_of_bits = bits.weight_bits * bits.spike_bits * bits.time_steps
        for weight_bits, spike_bits, time_steps in product(*spans):
            other = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
            if weight_bits <= bits.weight_bits and weight_bits * spike_bits * time_steps < product_of_bits:
                assert error(other) > error(bits)
