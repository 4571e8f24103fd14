import re
import sys
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

import bitsearch
from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.progress import Progress
from bitsearch.runs.rebuild import evaluate_plan, rebuild
from bitsearch.runs.select import select_plan
from bitsearch.study.database.storage import open_storage
from bitsearch.study.run import search
from bitsearch.study.runtime import should_compile
from bitsearch.study.study import open_study
from bitsearch.train.evaluate import evaluate_with_activity
from bitsearch.train.task import load_task


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
    study = open_study(open_storage(finished_run.folder.storage_url), "bitsearch")
    for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        plan = finished_run.folder.plan(trial.number)
        assert trial.values == [plan.accuracy.validation, plan.costs["bit_budget"]]
        assert trial.constraints == {"bit_budget": plan.costs["bit_budget"] - 8.0}


def test_the_test_split_is_measured_for_what_is_shown_only(finished_run):
    rival = finished_run.verdict.rival
    plans = [finished_run.best, rival, *finished_run.uniform, *finished_run.folder.front()]
    shown = {plan.provenance.trial for plan in plans}
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


def test_several_budgets_and_the_targets_limits_are_all_met_by_every_trial(run_on_a_target):
    settings = run_on_a_target.folder.settings
    asked = [(budget.metric, budget.requested, budget.limit) for budget in settings.budgets]
    for plan in run_on_a_target.folder.plans():
        assert [(outcome.metric, outcome.requested, outcome.limit) for outcome in plan.budget] == asked
        assert plan.met
        for outcome in plan.budget:
            assert outcome.achieved == plan.costs[outcome.metric] <= outcome.limit
        assert plan.target == "mine"
        assert plan.unquantized == {}


def test_searched_layers_get_what_the_target_allows_alone(run_on_a_target):
    for plan in run_on_a_target.folder.plans():
        for name, layer in plan.layers.items():
            assert {layer.weight_bits, *layer.spike_bits} <= {1, 2, 4, 8}, name


def test_the_tightest_limit_of_a_metric_is_its_constraint(run_on_a_target):
    study = open_study(open_storage(run_on_a_target.folder.storage_url), "bitsearch")
    limits = {"weight_memory": 1400, "s_ace": run_on_a_target.best.budget[1].limit, "working_memory": 49152}
    for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        plan = run_on_a_target.folder.plan(trial.number)
        assert trial.values == [plan.accuracy.validation, plan.costs["weight_memory"]]
        assert trial.constraints == {metric: plan.costs[metric] - limit for metric, limit in limits.items()}


def test_a_run_folder_is_enough_once_the_targets_file_is_gone(run_on_a_target, copied):
    folder = RunFolder.open(copied(run_on_a_target).folder.path)
    assert not Path(folder.settings.space.target).exists()
    assert folder.settings.target.name == "mine"
    assert bitsearch.write_report(folder).is_file()
    assert select_plan(folder) == run_on_a_target.best
    for plan in folder.plans():
        path = folder.plan_file(plan.provenance.trial)
        assert evaluate_plan(path, split="validation") == plan.accuracy.validation
        _, task = rebuild(path)
        assert task.model.target == folder.settings.target
        known = {name: cost for name, cost in plan.costs.items() if not task.model.needs_activity(name)}
        assert task.model.costs(plan.layers) == known


def test_recorded_costs_are_those_of_the_cost_model(finished_run, tiny_space):
    model = load_task(tiny_space).model
    for plan in finished_run.folder.plans():
        for metric, cost in model.costs(plan.layers).items():
            assert plan.costs[metric] == cost
        assert 0 < plan.costs["ns_ace"] < plan.costs["s_ace"]


class _InterruptAt(Progress):
    """Ctrl-C in the middle of a given trial."""

    def __init__(self, trial):
        self.trials_left = trial

    def trial(self, label, epochs):
        self.trials_left -= 1

    def epoch(self, record):
        if self.trials_left < 0:
            raise KeyboardInterrupt


# The first trial and the last of a run are interrupted in the tests below.
@pytest.mark.parametrize("interrupted", [1, 2])
def test_an_interrupted_run_goes_on_to_the_trials_of_an_undisturbed_one(
    interrupted, finished_run, tiny_space, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        search(tiny_space, "8x", out=tmp_path / "run", progress=_InterruptAt(interrupted))
    resumed = search(tiny_space, "8x", out=tmp_path / "run").folder.plans()
    undisturbed = finished_run.folder.plans()
    assert [plan.layers for plan in resumed] == [plan.layers for plan in undisturbed]
    assert [plan.accuracy for plan in resumed] == [plan.accuracy for plan in undisturbed]


class _InterruptAfterFiles(Progress):
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
    killed = open_study(open_storage(folder.storage_url), "bitsearch").ask()
    folder.weights_file(killed.number).write_bytes(b"half")
    resumed = search(tiny_space, "8x", out=folder.path)
    assert (
        folder.weights_file(killed.number).read_bytes() == finished_run.folder.weights_file(killed.number).read_bytes()
    )
    assert [plan.layers for plan in resumed.folder.plans()] == [plan.layers for plan in finished_run.folder.plans()]


def test_a_finished_run_is_not_run_again(finished_run, copied, tiny_space):
    run = copied(finished_run)
    before = run.folder.chosen_file.stat().st_mtime_ns, len(run.folder.log())
    result = search(tiny_space, "8x", out=run.folder.path)
    assert result.best == run.best
    assert len(result.folder.log()) == before[1]


def test_another_search_in_the_same_folder_is_refused(finished_run, copied, tiny_space):
    run = copied(finished_run)
    with pytest.raises(InputError, match="holds a run with budget '8x', not '4x'"):
        search(tiny_space, "4x", out=run.folder.path)
    other = tiny_space.model_copy(update={"split_seed": 1})
    with pytest.raises(InputError, match="another search space: split_seed is 0, not 1; give another --out"):
        search(other, "8x", out=run.folder.path)
    pinned = {"layers": [{"match": "conv2", "weight_bits": 3}]}
    with pytest.raises(
        InputError, match=r"layers\[0\] is None, not {'match': \['conv2'\], 'weight_bits': {'low': 3, 'high': 3}}"
    ):
        search(tiny_space, "8x", **pinned, out=run.folder.path)
    with pytest.raises(InputError, match=r"another search space: ties\[0\] is None, not {'match': "):
        search(tiny_space, "8x", ties=[{"match": "conv[34]", "share": ["weight_bits"]}], out=run.folder.path)
    with pytest.raises(InputError, match="holds a run with budget '8x', not 'bit_budget=8x, s_ace=2x'"):
        search(tiny_space, ["8x", "s_ace=2x"], out=run.folder.path)
    for asked in ({"budget": "s_ace=8x"}, {"budget": "8x", "objective": "s_ace"}):
        with pytest.raises(InputError, match="holds a run with metric 'bit_budget', not 's_ace'"):
            search(tiny_space, **asked, out=run.folder.path)
    with pytest.raises(InputError, match="another hardware target, 'generic'"):
        search(tiny_space, "8x", target="power_of_two", out=run.folder.path)


def test_a_run_goes_on_with_the_same_target_and_no_other(run_on_a_target, copied, tiny_space, target_text, tmp_path):
    """What counts is what the target says, not how its file is named."""
    folder = copied(run_on_a_target).folder
    text = target_text("power_of_two", "mine").replace("weight_bytes = 65536", "weight_bytes = 1400")
    (tmp_path / "moved.toml").write_text(text, encoding="utf-8")
    budgets = ["memory=2KiB", "s_ace=4x"]
    before = folder.log()
    assert search(tiny_space, budgets, target=tmp_path / "moved.toml", out=folder.path).best == run_on_a_target.best
    assert folder.log() == before
    (tmp_path / "moved.toml").write_text(text.replace("accumulate = 0.1", "accumulate = 0.2"), encoding="utf-8")
    for other in (tmp_path / "moved.toml", "power_of_two", None):
        with pytest.raises(InputError, match="another hardware target, 'mine'; give another --out") as caught:
            search(tiny_space, budgets, target=other, out=folder.path)
        assert len(str(caught.value)) < 300
    assert folder.log() == before


def test_a_folder_with_something_else_in_it_is_left_alone(tiny_space, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not empty and not a run folder"):
        search(tiny_space, "8x", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_another_process_runs_is_refused(tiny_space, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another process"):
        search(tiny_space, "8x", out=tmp_path)


@pytest.mark.parametrize(
    ("asked", "metric"),
    [
        (["64x"], "bit_budget"),
        (["4x", "memory=600"], "weight_memory"),
        (["working_memory=16", "memory=64KiB"], "working_memory"),
        (["s_ace=4x", "bit_budget_mac=64x"], "bit_budget_mac"),
        (["energy=1pJ"], "energy"),
    ],
)
def test_an_infeasible_budget_names_the_smallest_feasible_and_writes_nothing(tiny_space, tmp_path, asked, metric):
    for where in ({"out": tmp_path / "run"}, {"reports": tmp_path / "reports"}):
        with pytest.raises(InputError, match=f"{metric} ≤ .*smallest feasible value is") as caught:
            search(tiny_space, asked, **where)
    assert list(tmp_path.iterdir()) == []
    smallest = re.search(r"smallest feasible value is ([\d.e+-]+)", str(caught.value))[1]
    task = load_task(tiny_space)
    for factor, feasible in ((1.0, True), (0.999, False)):
        limit = str(float(smallest) * factor) if factor != 1 else smallest
        budget = Budget.parse(f"{metric}={limit}", "bit_budget", task.model, tiny_space.baseline)
        if feasible:
            budget.check_feasible(task.model, task.rules)
        else:
            with pytest.raises(InputError, match="infeasible"):
                budget.check_feasible(task.model, task.rules)


@pytest.mark.parametrize(("key", "metric"), [("weight_bytes", "weight_memory"), ("working_bytes", "working_memory")])
def test_a_target_whose_memory_is_too_small_is_named_and_nothing_written(
    tiny_space, target_text, tmp_path, key, metric
):
    text = re.sub(rf"^{key} = \d+", f"{key} = 16", target_text("power_of_two", "small"), flags=re.MULTILINE)
    file = tmp_path / "small.toml"
    file.write_text(text, encoding="utf-8")
    for where in ({"out": tmp_path / "run"}, {"reports": tmp_path / "reports"}):
        said = f"^target small \\({metric} ≤ 16 bytes\\) .*smallest feasible value is \\d+"
        with pytest.raises(InputError, match=said):
            search(tiny_space, "4x", target=file, **where)
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_a_timeout_ends_the_run_with_a_plan(tiny_space, tmp_path):
    result = search(tiny_space, "8x", timeout=0, trials=5, out=tmp_path / "run")
    assert len(result.folder.plans()) == 1
    assert result.best.met


def test_other_metrics_can_be_bound(tiny_space, tmp_path):
    result = search(tiny_space, "3x", metric="weight_memory", trials=1, timeout=0, out=tmp_path / "run")
    outcome = result.best.budget[0]
    assert outcome.metric == "weight_memory"
    assert outcome.achieved <= outcome.limit == result.best.baseline.costs["weight_memory"] / 3


SPIKES = ("spike_bits", "time_steps")


def test_a_targets_rules_for_the_first_and_the_last_layer_hold_and_those_of_the_space(tiny_space, tmp_path):
    rules = {"layers": ["conv2:spike_bits=2", "conv2:time_steps=1"], "ties": [{"match": "conv[34]", "share": SPIKES}]}
    result = search(tiny_space, "4x", target="binary_fpga", trials=1, out=tmp_path / "run", **rules)
    plans = result.folder.plans()
    settings = RunFolder.open(tmp_path / "run").settings
    assert settings.space.layers == tuple(map(LayerRule.parse, rules["layers"]))
    assert settings.space.ties == (TieRule(match="conv[34]", share=SPIKES),)
    assert {plan.provenance.method for plan in plans} == {"adaptive", "uniform"}
    for plan in plans:
        assert plan.met
        first, *inner, last = plan.layers.values()
        assert (first.weight_bits, first.spike_bits) == (8, (8,))
        assert [layer.weight_bits for layer in inner] == [1, 1, 1]
        assert last.weight_bits == 8
        assert inner[0].spike_bits == (2,)
        assert inner[1].spike_bits == inner[2].spike_bits
        for layer in (*inner, last):
            assert set(layer.spike_bits) <= {1, 2, 3, 4}


def test_the_objective_is_the_axis_of_the_front_and_no_limit(tiny_space, tmp_path):
    result = search(tiny_space, "3x", metric="memory", objective="s_ace", trials=2, timeout=0, out=tmp_path / "run")
    settings = result.folder.settings
    assert settings.metric == "s_ace"
    assert [budget.metric for budget in settings.budgets] == ["weight_memory"]
    assert settings.request == "weight_memory=3x"
    study = open_study(result.folder.storage_url, "bitsearch")
    (trial,) = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert trial.values == [result.best.accuracy.validation, result.best.costs["s_ace"]]
    assert trial.constraints == {"weight_memory": result.best.costs["weight_memory"] - settings.budgets[0].limit}
    searched = [record["measures"] for record in result.folder.log() if record.get("phase") == "search"]
    assert len(searched) == 1
    assert searched[0]["s_ace"] > 0
    assert bitsearch.write_report(result.folder).is_file()


def test_a_budget_on_what_neurons_spend_is_met_as_measured_on_validation(tiny_space, tmp_path):
    space = tiny_space.model_copy(update={"target": "neuromorphic"})
    result = search(space, "energy=500nJ", trials=1, out=tmp_path / "run")
    assert result.folder.settings.metric == "energy"
    assert {plan.provenance.method for plan in result.folder.plans()} == {"adaptive", "uniform"}
    network, task = rebuild(result.folder.plan_file(0))
    quantized = QuantizedNetwork(network, task.model, task.rules, space.baseline)
    _, activity = evaluate_with_activity(quantized, task.splits.validation, space.training.batch_size)
    plan = result.folder.plan(0)
    assert task.model.cost("energy", plan.layers, activity) == plan.costs["energy"] == plan.budget[0].achieved
    assert result.best.met
    assert result.best.costs["energy"] <= 500e3
    assert [(outcome.metric, outcome.requested) for outcome in result.best.budget] == [
        ("energy", "500nJ"),
        ("cores", "target neuromorphic"),
    ]


def test_a_budget_on_what_neurons_spend_that_nothing_meets_says_so(tiny_space, tmp_path):
    """Only trained plans tell; the nearest miss says how far it is."""
    space = tiny_space.model_copy(update={"target": "neuromorphic"})
    with pytest.raises(InputError, match=r"1nJ: energy is at most 1.nJ, the nearest plan has [\d.]+.[pn]J; "):
        search(space, "energy=1nJ", trials=1, out=tmp_path / "run")
    plans = RunFolder(tmp_path / "run").plans()
    assert plans
    assert not any(plan.met for plan in plans)


def test_the_room_is_called_like_its_function(tiny_space):
    with pytest.raises(bitsearch.InputError, match="not positive"):
        bitsearch.search(tiny_space, budget="0x")


def test_only_a_long_run_compiles_by_itself(tiny_space, monkeypatch):
    task = load_task(tiny_space)
    monkeypatch.setattr("bitsearch.study.runtime.can_compile", lambda device: True)
    assert not should_compile(task, trials=12)
    assert should_compile(task, trials=1_000_000)
    monkeypatch.setattr("bitsearch.study.runtime.can_compile", lambda device: False)
    assert not should_compile(task, trials=1_000_000)


def test_a_run_that_must_compile_and_cannot_is_refused(tiny_space, monkeypatch, tmp_path):
    monkeypatch.setattr("bitsearch.study.runtime.can_compile", lambda device: False)
    training = tiny_space.training.model_copy(update={"compile": "always"})
    with pytest.raises(InputError, match="install g"):
        search(tiny_space.model_copy(update={"training": training}), "8x", out=tmp_path / "run")


def test_threads_are_limited_before_anything_is_compiled(tiny_space, tmp_path, monkeypatch):
    """Compiled kernels have the number of threads built in."""
    entered = []

    def recording(name):
        @contextmanager
        def enter(*_):
            entered.append(name)
            yield

        return enter

    for name in ("limited_threads", "compiled_quantizers"):
        monkeypatch.setattr(f"bitsearch.study.runtime.{name}", recording(name))
    run_module = sys.modules["bitsearch.study.run"]
    monkeypatch.setattr("bitsearch.study.request.should_compile", lambda *_: True)
    monkeypatch.setattr(run_module, "_run", lambda *_: entered.append("run"))
    search(tiny_space, "4x", out=tmp_path / "run")
    assert entered == ["limited_threads", "compiled_quantizers", "run"]
