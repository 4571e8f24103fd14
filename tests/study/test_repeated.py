from dataclasses import replace

import pytest

from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.runs.progress import Progress
from bitsearch.study.jobs import Allocate, Start
from bitsearch.study.repeated import training_checksum
from bitsearch.study.run import search
from bitsearch.study.study import ROLE, SEARCHED, finished_trials

BUDGET = Budget("bit_budget", "8x", 8.0)


class Told(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def short_space(tiny_space):
    """One epoch, all trials at the budget."""
    training = tiny_space.training.model_copy(update={"epochs": 1, "full_precision_epochs": 1})
    changes = {"front_share": 0.0, "uniform_trials": 1, "sampler": "random"}
    search_settings = tiny_space.search.model_copy(update=changes)
    return tiny_space.model_copy(update={"training": training, "search": search_settings})


def test_what_a_finished_trial_trained_is_taken_from_there(short_space, tmp_path):
    estimator = short_space.search.parameters["estimator"]
    only = short_space.search.model_copy(update={"parameters": {"estimator": estimator}})
    told = Told()
    space = short_space.model_copy(update={"search": only})
    folder = search(space, "8x", trials=4, out=tmp_path / "run", progress=told).folder
    all_trials = finished_trials(folder)
    trials = [trial for trial in all_trials if trial.user_attrs[ROLE] == SEARCHED]
    first = {}
    for trial in trials:
        first.setdefault(trial.params["estimator"], trial.number)
    # Four draws of two choices repeat at least two.
    assert len(trials) == 4
    assert len(first) <= 2
    started = [event for event in folder.log() if event["event"] == "started"]
    assert [event["trial"] for event in started if event["method"] != "uniform"] == sorted(first.values())
    for trial in trials:
        earlier = first[trial.params["estimator"]]
        plan, same = folder.plan(trial.number), folder.plan(earlier)
        assert plan.provenance.trial == trial.number
        assert (plan.layers, plan.costs) == (same.layers, same.costs)
        assert trial.values == all_trials[earlier].values == [plan.accuracy.validation, plan.costs["bit_budget"]]
        assert trial.constraints == all_trials[earlier].constraints
        assert folder.weights_file(trial.number).read_bytes() == folder.weights_file(earlier).read_bytes()
        if trial.number != earlier:
            assert f"trial {trial.number} is trial {earlier} again, and is not trained twice" in told.notes
            assert trial.user_attrs["seconds"] == 0


def test_one_trial_is_trained_where_nothing_varies_and_the_user_is_told(short_space, tmp_path):
    nothing = short_space.search.model_copy(update={"parameters": {}})
    told = Told()
    result = search(short_space.model_copy(update={"search": nothing}), "8x", trials=3, out=tmp_path, progress=told)
    assert sorted(plan.provenance.method for plan in result.folder.plans()) == ["adaptive", "uniform"]
    assert [note for note in told.notes if "lets nothing vary" in note]


def test_a_training_is_told_from_another_by_what_it_depends_on():
    job = Allocate(Allocation(), 0, (BUDGET,), epochs=4)
    start = Start(3, {})
    others = [
        replace(job, settings=Allocation(weight_price=2.0)),
        replace(job, budgets=(Budget("bit_budget", "8x", 7.0),)),
        replace(job, budgets=(Budget("s_ace", "8x", 8.0),)),
        replace(job, settings=Allocation(method="random")),
        replace(job, settings=Allocation(method="random"), attempt=1),
        replace(job, start=start),
        replace(job, start=start, epochs=5),
        replace(job, start=Start(4, {})),
    ]
    assert len({training_checksum(other) for other in [job, *others]}) == 9
    # What a budget is called changes nothing, nor how often a method without a choice of its own was asked.
    assert training_checksum(replace(job, budgets=(Budget("bit_budget", "8", 8.0),))) == training_checksum(job)
    assert training_checksum(replace(job, attempt=3)) == training_checksum(job)
