import re

import optuna
import pytest
from filelock import FileLock

import bitsearch
from bitsearch.allocate.setting import make_setting
from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.search.evaluate import evaluate_plan
from bitsearch.search.progress import Silent
from bitsearch.search.run import _compiles, search
from bitsearch.search.run_folder import RunFolder
from bitsearch.search.study import open_study


def test_the_folder_holds_everything_that_a_run_writes(finished_run):
    folder = finished_run.folder
    names = {path.name for path in folder.path.iterdir()}
    assert {"study.db", "run.toml", "trials.csv", "plan.json", "log.jsonl", "plans", "weights"} <= names
    for plan in folder.plans():
        assert folder.weights_file(plan.provenance.trial).is_file()


def test_adaptive_and_uniform_trials_take_turns_and_all_meet_the_budget(finished_run):
    plans = finished_run.folder.plans()
    assert [plan.provenance.method for plan in plans] == ["adaptive", "uniform", "adaptive", "uniform"]
    for plan in plans:
        assert plan.met
        assert plan.costs["bit_budget"] <= 8.0


def test_adaptive_plans_are_not_uniform(finished_run):
    for plan in finished_run.folder.plans():
        searched = [
            layer.model_copy(update={"signed_input": False}) for name, layer in plan.layers.items() if name != "conv1"
        ]
        assert (len(set(searched)) == 1) == (plan.provenance.method == "uniform")


def test_the_chosen_plan_is_the_best_on_validation(finished_run):
    accuracies = [plan.accuracy.validation for plan in finished_run.folder.plans()]
    assert finished_run.best.accuracy.validation == max(accuracies)
    assert bitsearch.BitPlan.load(finished_run.folder.chosen_file) == finished_run.best


def test_the_budget_is_an_optuna_constraint_and_the_values_are_the_objectives(finished_run):
    study = open_study(finished_run.folder.storage_url, "bitsearch")
    for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        plan = finished_run.folder.plan(trial.number)
        assert trial.values == [plan.accuracy.validation, plan.costs["bit_budget"]]
        assert trial.constraints == {"bit_budget": plan.costs["bit_budget"] - 8.0}


def test_the_test_split_is_measured_for_what_is_shown_only(finished_run):
    shown = {plan.provenance.trial for plan in [finished_run.best, *finished_run.uniform, *finished_run.folder.front()]}
    for plan in finished_run.folder.plans():
        assert (plan.accuracy.test is not None) == (plan.provenance.trial in shown)
    assert finished_run.folder.settings.full_precision.test is not None


def test_weights_loaded_into_an_applied_plan_give_exactly_the_recorded_accuracy(finished_run):
    folder = finished_run.folder
    for plan in folder.plans():
        path = folder.plan_file(plan.provenance.trial)
        assert evaluate_plan(path, split="validation") == plan.accuracy.validation
        if plan.accuracy.test is not None:
            assert evaluate_plan(path, split="test") == plan.accuracy.test


def test_recorded_costs_are_those_of_the_cost_model(finished_run, tiny_space):
    model = make_setting(tiny_space).model
    for plan in finished_run.folder.plans():
        for metric, cost in model.costs(plan.layers).items():
            assert plan.costs[metric] == cost
        assert 0 < plan.costs["ns_ace"] < plan.costs["s_ace"]


class _InterruptAt(Silent):
    """Ctrl-C in the middle of a given trial."""

    def __init__(self, trial):
        self.trials_left = trial

    def trial(self, label, epochs):
        self.trials_left -= 1

    def epoch(self, record):
        if self.trials_left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("interrupted", [0, 1, 2, 3])
def test_an_interrupted_run_goes_on_to_the_trials_of_an_undisturbed_one(
    interrupted, finished_run, tiny_space, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        search(tiny_space, "8x", out=tmp_path / "run", progress=_InterruptAt(interrupted))
    resumed = search(tiny_space, "8x", out=tmp_path / "run").folder.plans()
    undisturbed = finished_run.folder.plans()
    assert [plan.layers for plan in resumed] == [plan.layers for plan in undisturbed]
    assert [plan.accuracy for plan in resumed] == [plan.accuracy for plan in undisturbed]


class _InterruptAfterFiles(Silent):
    """Ctrl-C once a trial's files are written, before Optuna has its result."""

    def trial_done(self, label, accuracy, cost):
        if cost is not None:
            raise KeyboardInterrupt


def test_a_trial_interrupted_after_its_files_were_written_does_not_count_twice(finished_run, tiny_space, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        search(tiny_space, "8x", out=tmp_path / "run", progress=_InterruptAfterFiles())
    assert len(RunFolder(tmp_path / "run").plans()) == 1
    resumed = search(tiny_space, "8x", out=tmp_path / "run").folder.plans()
    assert [plan.layers for plan in resumed] == [plan.layers for plan in finished_run.folder.plans()]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_what_a_killed_process_left_half_done_is_cleared_and_done_again(finished_run, tiny_space, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        search(tiny_space, "8x", out=folder.path, progress=_InterruptAt(3))
    killed = open_study(folder.storage_url, "bitsearch").ask()
    folder.weights_file(killed.number).write_bytes(b"half")
    resumed = search(tiny_space, "8x", out=folder.path)
    assert not folder.weights_file(killed.number).exists()
    assert [plan.layers for plan in resumed.folder.plans()] == [plan.layers for plan in finished_run.folder.plans()]


def test_a_finished_run_is_not_run_again(finished_run, tiny_space):
    before = finished_run.folder.chosen_file.stat().st_mtime_ns, len(finished_run.folder.log())
    result = search(tiny_space, "8x", out=finished_run.folder.path)
    assert result.best == finished_run.best
    assert len(result.folder.log()) == before[1]


def test_another_search_in_the_same_folder_is_refused(finished_run, tiny_space):
    with pytest.raises(InputError, match="holds a run with budget '8x', not '4x'"):
        search(tiny_space, "4x", out=finished_run.folder.path)
    other = tiny_space.model_copy(update={"split_seed": 1})
    with pytest.raises(InputError, match="another search space"):
        search(other, "8x", out=finished_run.folder.path)


def test_a_folder_with_something_else_in_it_is_left_alone(tiny_space, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not empty and not a run folder"):
        search(tiny_space, "8x", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_another_process_runs_is_refused(tiny_space, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another process"):
        search(tiny_space, "8x", out=tmp_path)


def test_an_infeasible_budget_names_the_smallest_feasible_and_writes_nothing(tiny_space, tmp_path):
    with pytest.raises(InputError, match="smallest feasible value is") as caught:
        search(tiny_space, "64x", out=tmp_path / "run")
    smallest = re.search(r"smallest feasible value is ([\d.]+)", str(caught.value))[1]
    assert not (tmp_path / "run").exists()
    setting = make_setting(tiny_space)
    budget = Budget.parse(smallest, "bit_budget", setting.model, tiny_space.baseline)
    budget.check_feasible(setting.model, tiny_space.choices.smallest, tiny_space.first_layer)


def test_a_timeout_ends_the_run_with_a_plan(tiny_space, tmp_path):
    result = search(tiny_space, "8x", timeout=0, trials=5, out=tmp_path / "run")
    assert len(result.folder.plans()) == 1
    assert result.best.met


def test_other_metrics_can_be_bound(tiny_space, tmp_path):
    result = search(tiny_space, "3x", metric="weight_memory", trials=1, timeout=0, out=tmp_path / "run")
    outcome = result.best.budget[0]
    assert outcome.metric == "weight_memory"
    assert outcome.achieved <= outcome.limit == result.best.baseline.costs["weight_memory"] / 3


def test_the_room_is_called_like_its_function(tiny_space):
    with pytest.raises(bitsearch.InputError, match="not positive"):
        bitsearch.search(tiny_space, budget="0x")


def test_only_a_long_run_compiles_by_itself(tiny_space, monkeypatch):
    setting = make_setting(tiny_space)
    monkeypatch.setattr("bitsearch.search.run.can_compile", lambda device: True)
    assert not _compiles(setting, trials=12)
    assert _compiles(setting, trials=1_000_000)
    monkeypatch.setattr("bitsearch.search.run.can_compile", lambda device: False)
    assert not _compiles(setting, trials=1_000_000)


def test_a_run_that_must_compile_and_cannot_is_refused(tiny_space, monkeypatch, tmp_path):
    monkeypatch.setattr("bitsearch.search.run.can_compile", lambda device: False)
    training = tiny_space.training.model_copy(update={"compile": "always"})
    with pytest.raises(InputError, match="install g"):
        search(tiny_space.model_copy(update={"training": training}), "8x", out=tmp_path / "run")
