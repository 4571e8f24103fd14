import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bitsearch.errors import InputError
from bitsearch.runs.one_standard_error import cheapest_within_one_standard_error
from bitsearch.runs.select import select_plan

SAMPLES = 400


def row(folder, plan):
    return folder.weights_file(plan.provenance.trial).stem


@pytest.fixture
def stairs(finished_run, copied):
    """A run of which three plans make a front: the last one the chosen, the others cheaper and less accurate."""
    folder = copied(finished_run).folder
    plans = folder.plans()[:3]
    for path in (folder.path / "plans").glob("*.json"):
        path.unlink()
    ordered = []
    for index, plan in enumerate(plans):
        accuracy = plan.accuracy.model_copy(update={"validation": 0.90 + 0.02 * index})
        plan = plan.model_copy(update={"accuracy": accuracy, "costs": plan.costs | {"bit_budget": 2.0 + index}})
        folder.write_plan(plan)
        ordered.append(plan)
    return folder, ordered


def record(folder, plans, wrong):
    """Which samples each plan gets wrong, as (first, last) of the split."""
    table = {}
    for plan, (first, last) in zip(plans, wrong, strict=True):
        table[row(folder, plan)] = np.array([not first <= index < last for index in range(SAMPLES)])
    save_file(table, folder.validation_file)


def test_a_run_records_its_chosen_plan_and_what_is_cheaper(finished_run):
    folder, chosen = finished_run.folder, finished_run.best
    table = load_file(folder.validation_file)
    assert row(folder, chosen) in table
    for plan in folder.plans():
        if row(folder, plan) in table:
            assert table[row(folder, plan)].mean() == pytest.approx(plan.accuracy.validation, abs=1e-12)
            assert plan.costs["bit_budget"] <= chosen.costs["bit_budget"]
    assert cheapest_within_one_standard_error(folder).costs["bit_budget"] <= chosen.costs["bit_budget"]


def test_the_cheapest_that_is_close_enough(stairs):
    folder, plans = stairs
    # Nested errors: of 400 samples 20, 24 and 40 are wrong. The differences are 4 and 20, their standard errors
    # about 2.0 and 4.4 samples: neither comes close.
    record(folder, plans, [(0, 40), (0, 24), (0, 20)])
    assert cheapest_within_one_standard_error(folder) == plans[2]
    # Disjoint errors of 24 and 20: a difference of 4 samples, a standard error of √44 = 6.6.
    record(folder, plans, [(0, 40), (100, 124), (0, 20)])
    assert cheapest_within_one_standard_error(folder) == plans[1]
    record(folder, plans, [(200, 224), (100, 124), (0, 20)])
    assert cheapest_within_one_standard_error(folder) == plans[0]
    assert select_plan(folder, one_standard_error=True) == plans[0]


def test_what_is_not_recorded_is_not_guessed(stairs):
    folder, _ = stairs
    folder.validation_file.unlink()
    assert cheapest_within_one_standard_error(folder) is None
    with pytest.raises(InputError, match="does not record which validation samples"):
        select_plan(folder, one_standard_error=True)


def test_another_choice_beside_it_is_refused(finished_run):
    with pytest.raises(InputError, match="--trial and --one-se were both given"):
        select_plan(finished_run.folder, trial=0, one_standard_error=True)
