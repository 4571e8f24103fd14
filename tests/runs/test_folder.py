import json
import math
from datetime import UTC, date, datetime, time

import optuna
import pytest
import tomli_w

from bitsearch.choices import Choices
from bitsearch.cost import METRICS, Target
from bitsearch.declared_metric import DeclaredMetric
from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.report.definitions import definition
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.rebuild import run_folder_of
from bitsearch.runs.resume import check_resumable
from bitsearch.score import Accuracy
from bitsearch.study.shared_study import _ATTRIBUTE, WorkerConfig, read_worker_config
from bitsearch.text import cost, title
from bitsearch.validation import to_toml


def test_new_folders_are_numbered_and_never_shared(tmp_path):
    first, second = RunFolder.new(tmp_path, "digits"), RunFolder.new(tmp_path, "digits")
    assert first.path != second.path
    assert first.path.name.startswith("digits-")
    assert (first.path.name[-1], second.path.name[-1]) == ("1", "2")


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not a run folder.*give the folder"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("name", ["pareto.html", "log.jsonl", "plans/trial-0000.json", "figures", "artifacts"])
def test_a_run_with_a_link_is_neither_read_nor_written(name, finished_run, copied, tiny_space, tmp_path):
    path = copied(finished_run).folder.path
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(tmp_path / "victim")
    for use in (
        lambda: RunFolder.open(path),
        lambda: run_folder_of(path / "plan.json"),
        lambda: check_resumable(RunFolder(path), finished_run.folder.settings),
        lambda: RunFolder(path).make(),
    ):
        with pytest.raises(InputError, match=f"{name} is a link"):
            use()
    assert not (tmp_path / "victim").exists()


def test_settings_come_back_as_written(finished_run, tiny_space):
    settings = RunFolder.open(finished_run.folder.path).settings
    assert settings.space == tiny_space
    (budget,) = settings.budgets
    assert (budget.metric, budget.requested, budget.of_target) == ("bit_budget", "8x", False)
    assert budget.limit == settings.baseline_costs["bit_budget"] / 8
    assert settings.metric == "bit_budget"
    assert settings.request == "8x"
    assert settings.target == Target.load("generic")
    assert settings.full_precision.validation is not None


def test_a_list_of_choices_and_a_target_come_back_as_written(finished_run, tiny_space, tmp_path):
    choices = Choices.model_validate({"weight_bits": [1, 2, 4, 8], "time_steps": [1, 2, 4]})
    written = finished_run.folder.settings.model_copy(
        update={
            "space": tiny_space.model_copy(update={"choices": choices, "target": "binary_fpga"}),
            "target": Target.load("binary_fpga"),
        }
    )
    folder = RunFolder(tmp_path)
    folder.write_settings(written)
    assert RunFolder(tmp_path).settings == written
    assert RunFolder(tmp_path).settings.space.choices.weight_bits.values == (1, 2, 4, 8)


def test_units_and_titles_are_those_of_the_run_that_is_read(finished_run, tmp_path):
    """Of two that declare other metrics by one name, in either order."""
    known = dict(METRICS)
    folders = [RunFolder(tmp_path / unit) for unit in ("um2", "gates")]
    try:
        for folder in folders:
            unit = folder.path.name
            metric = DeclaredMetric(function="mycosts:area", unit=unit, title=f"in {unit}", description=f"Of {unit}.")
            folder.make()
            space = finished_run.folder.settings.space.model_copy(update={"metrics": {"area": metric}})
            folder.write_settings(finished_run.folder.settings.model_copy(update={"space": space}))
        for folder in (*folders, *folders):
            unit = folder.path.name
            assert folder.settings.metric == "bit_budget"
            assert (cost("area", 3), title("area")) == (f"3 {unit}", f"in {unit}")
            assert definition("area") == f"Of {unit}."
    finally:
        METRICS.clear()
        METRICS.update(known)


@pytest.mark.parametrize("name", Target.names())
def test_every_shipped_target_comes_back_as_written(name, finished_run, tmp_path):
    RunFolder(tmp_path).write_settings(finished_run.folder.settings.model_copy(update={"target": Target.load(name)}))
    assert RunFolder(tmp_path).settings.target == Target.load(name)


def test_several_budgets_come_back_with_those_of_the_target(run_on_a_target):
    settings = RunFolder.open(run_on_a_target.folder.path).settings
    assert [(budget.metric, budget.requested, budget.limit, budget.of_target) for budget in settings.budgets] == [
        ("weight_memory", "2KiB", 2048, False),
        ("s_ace", "4x", settings.baseline_costs["s_ace"] / 4, False),
        ("weight_memory", "target mine", 1400, True),
        ("working_memory", "target mine", 49152, True),
    ]
    assert settings.metric == "weight_memory"
    assert settings.request == "weight_memory=2KiB, s_ace=4x"
    assert {metric: budget.limit for metric, budget in settings.limits.items()} == {
        "weight_memory": 1400,
        "s_ace": settings.baseline_costs["s_ace"] / 4,
        "working_memory": 49152,
    }


def test_a_run_without_a_budget_is_refused(finished_run, tmp_path):
    settings = finished_run.folder.settings.model_dump(mode="json", exclude_none=True)
    (tmp_path / "run.toml").write_text(tomli_w.dumps(settings | {"budgets": []}), encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.toml: budgets is \[\].*at least 1"):
        _ = RunFolder.open(tmp_path).settings


def test_a_wrong_setting_is_named(finished_run, tmp_path):
    text = finished_run.folder.settings_file.read_text(encoding="utf-8")
    (tmp_path / "run.toml").write_text(text.replace("seed = 0", "seed = -1", 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.toml: seed is -1"):
        _ = RunFolder.open(tmp_path).settings


def test_an_unknown_trial_is_refused_with_those_there_are(finished_run):
    with pytest.raises(InputError, match=r"trial 99 .* trials with one: 0, 1, 2, 3"):
        finished_run.folder.plan(99)


def test_a_plan_is_validated_once_and_again_when_its_file_has_changed(finished_run, copied, monkeypatch):
    folder = RunFolder(copied(finished_run).folder.path)
    plans, reads = folder.plans(), []
    validated = BitPlan.from_json
    monkeypatch.setattr(BitPlan, "from_json", lambda *arguments: reads.append(arguments) or validated(*arguments))
    assert folder.plans() == plans
    assert reads == []
    changed = plans[0].with_measured(Accuracy(validation=0.125))
    folder.plan_file(0).write_text(changed.to_json())
    assert folder.plans() == [changed, *plans[1:]] == RunFolder(folder.path).plans()
    assert len(reads) == 1 + len(plans)
    folder.plan_file(0).write_text("{")
    with pytest.raises(InputError, match=r"trial-0000\.json: not JSON"):
        folder.plans()


def test_a_log_line_cut_short_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_log({"epoch": 1})
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"epoch": 2})[:5])
    assert [event["epoch"] for event in folder.log()] == [1]


def test_a_log_is_read_as_far_as_it_can_be(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_log({"event": "first"})
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n[1]\n3\n{"event":' + b"[" * 100_000 + b'\n{"event": "cut\n')
    folder.append_log({"event": "last"})
    assert [record["event"] for record in folder.log()] == ["first", "last"]


def test_a_run_whose_plans_are_gone_is_not_to_be_run_again(finished_run, copied):
    folder = copied(finished_run).folder
    for path in (folder.path / "plans").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"has no plans, though \d+ trials have finished; put the files back into"):
        folder.chosen()


def test_a_plan_without_a_cost_of_the_run_is_refused_by_name(finished_run, copied):
    folder = copied(finished_run).folder
    plan = folder.plan(0)
    costs = {name: value for name, value in plan.costs.items() if name != "bit_budget"}
    plan.model_copy(update={"costs": costs}).save(folder.plan_file(0))
    for use in (folder.plans, folder.chosen, lambda: folder.plan(0)):
        with pytest.raises(InputError, match=r"trial-0000\.json has no cost 'bit_budget', by which .*run\.toml judges"):
            use()


OPTIONS = {
    "largest": math.inf,
    "least": -math.inf,
    "absent": math.nan,
    "day": date(2024, 5, 1),
    "moment": datetime(2024, 5, 1, 12, 30, tzinfo=UTC),
    "hour": time(12, 30),
    "nested": {"list": [1, 2.5, math.inf, "text", {"deep": date(2024, 5, 2)}], "flag": True},
}


def test_options_are_written_as_toml_has_them_and_go_on_with(finished_run, tmp_path):
    settings = finished_run.folder.settings
    space = settings.space.model_copy(update={"network_options": OPTIONS, "data_options": {"noise": math.nan}})
    folder = RunFolder(tmp_path)
    folder.write_settings(settings.model_copy(update={"space": space}))
    options = dict(folder.settings.space.network_options)
    assert math.isnan(options.pop("absent"))
    assert options == {name: value for name, value in OPTIONS.items() if name != "absent"}
    check_resumable(folder, settings.model_copy(update={"space": space}))
    other = space.model_copy(update={"network_options": OPTIONS | {"day": date(2024, 5, 3)}})
    with pytest.raises(InputError, match=r"another search space: network_options\.day is .* 5, 1\), not .* 5, 3\)"):
        check_resumable(folder, settings.model_copy(update={"space": other}))


def test_workers_get_them_as_they_are(finished_run):
    settings = finished_run.folder.settings
    space = settings.space.model_copy(update={"network_options": OPTIONS})
    study = optuna.create_study(directions=["maximize", "minimize"])
    config = WorkerConfig(settings=settings.model_copy(update={"space": space}), searched=1, uniform=(), artifacts="x")
    study.set_user_attr(_ATTRIBUTE, to_toml(config))
    options = dict(read_worker_config(study).settings.space.network_options)
    assert math.isnan(options.pop("absent"))
    assert options == {name: value for name, value in OPTIONS.items() if name != "absent"}
    # Studies of earlier versions.
    plain = config.model_copy(update={"settings": settings})
    study.set_user_attr(_ATTRIBUTE, plain.model_dump(mode="json", exclude_none=True))
    assert read_worker_config(study).settings.defining() == settings.defining()
