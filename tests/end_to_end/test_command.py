"""Whole runs: the first through the installed command, what follows it in this process."""

import csv
import html
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from commands import ended, forked, started
from refusal import refused

from bitsearch.deploy.formats.hub_folder import CARD, escape
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.test_split import verdict_of

pytestmark = [pytest.mark.training, pytest.mark.processes]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_space_text):
    """(working directory, space file, the finished command) of a run with --json."""
    cwd = tmp_path_factory.mktemp("work")
    (cwd / "tiny.toml").write_text(tiny_space_text, encoding="utf-8")
    return cwd, ended(started("run", "--space", "tiny.toml", "--budget", "8x", "--json", cwd=cwd))


@pytest.fixture(scope="module")
def run(ran):
    cwd, finished = ran
    return cwd / json.loads(finished.stdout)["run"]


def test_the_json_result_is_all_there_is_on_stdout(ran):
    cwd, finished = ran
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert set(result) == {
        *("run", "plan", "report", "chosen", "one_se_trial", "drop", "sweep", "verdict"),
        *("confirmed", "baselines", "full_precision", "savings"),
    }
    assert result["run"].startswith("reports/tiny-")
    chosen = BitPlan.load(cwd / result["plan"])
    assert json.loads(chosen.to_json()) == result["chosen"]
    assert chosen.met
    assert (cwd / result["report"]).name == "pareto.html"
    assert all(plan["provenance"]["method"] == "uniform" for plan in result["baselines"])
    assert "full precision" in finished.stderr


def test_every_written_plan_is_valid_by_the_schema(run):
    paths = [run / "plan.json", *(run / "plans").iterdir()]
    assert len(paths) == 5
    for path in paths:
        jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), BitPlan.json_schema())


def test_the_table_of_trials_has_a_row_a_trial(run):
    with (run / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]


def test_the_command_is_recorded(run):
    assert RunFolder(run).settings.command == "bitsearch run --space tiny.toml --budget 8x --json"


TWO_BUDGETS = ("--budget", "memory=2KiB", "--budget", "s_ace=4x", "--target", "power_of_two")


@pytest.fixture(scope="module")
def ran_on_a_target(call, tmp_path_factory, tiny_space_text):
    """(working directory, the finished command) of a run under two budgets on a target, with --json."""
    cwd = tmp_path_factory.mktemp("target")
    (cwd / "tiny.toml").write_text(tiny_space_text, encoding="utf-8")
    return cwd, call("run", "--space", "tiny.toml", *TWO_BUDGETS, "--json", "--out", "run", cwd=cwd)


def test_two_budgets_and_a_target_are_met_by_every_plan(ran_on_a_target):
    cwd, finished = ran_on_a_target
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    plans = [BitPlan.load(path) for path in [cwd / result["plan"], *(cwd / "run/plans").iterdir()]]
    assert len(plans) == 5
    for plan in plans:
        assert plan.target == "power_of_two"
        assert [(outcome.metric, outcome.requested) for outcome in plan.budget] == [
            ("weight_memory", "2KiB"),
            ("s_ace", "4x"),
            ("weight_memory", "target power_of_two"),
            ("working_memory", "target power_of_two"),
        ]
        assert plan.met
        assert plan.costs["weight_memory"] <= 2048
        assert plan.costs["s_ace"] <= plan.baseline.costs["s_ace"] / 4
        for layer in list(plan.layers.values())[1:]:
            assert {layer.weight_bits, *layer.spike_bits} <= {1, 2, 4, 8}
        jsonschema.validate(json.loads(plan.to_json()), BitPlan.json_schema())
    assert [outcome["met"] for outcome in result["chosen"]["budget"]] == [True] * 4
    assert [line for line in finished.stderr.splitlines() if line.startswith("bitsearch: ")] == []


def test_the_table_shows_every_budget_with_its_outcome(call, ran_on_a_target):
    cwd, _ = ran_on_a_target
    again = call("run", "--space", "tiny.toml", *TWO_BUDGETS, "--out", "run", cwd=cwd)
    assert again.returncode == 0, again.stderr
    assert "tiny at weight_memory=2KiB, s_ace=4x" in again.stdout
    head = [line.split("┃")[4:6] for line in again.stdout.split("┡")[0].splitlines() if line.startswith("┃")]
    columns = [" ".join(filter(None, map(str.strip, cells))) for cells in zip(*head, strict=True)]
    assert [column.split(" in ")[0] for column in columns] == ["Weight memory", "S-ACE"]
    printed = again.stdout.replace("\xa0", " ").splitlines()
    lines = [line for line in printed if " of at most " in line]
    for line, start in zip(
        lines,
        (
            "budget 2KiB: Weight memory ",
            "budget 4x: S-ACE ",
            "target power_of_two: Weight memory ",
            "target power_of_two: Working memory, peak ",
        ),
        strict=True,
    ):
        assert line.startswith(start)
    assert lines[0].endswith(" of at most 2 KiB")
    assert lines[2].endswith(" of at most 64 KiB")


def test_another_budget_of_a_run_is_exported_in_any_metric(call, ran_on_a_target):
    finished = call("export", "run", "--budget", "s_ace=2x", cwd=ran_on_a_target[0])
    plan = BitPlan.from_json(finished.stdout)
    assert (plan.budget[0].metric, plan.budget[0].requested, plan.met) == ("s_ace", "2x", True)


def test_the_cheapest_plan_within_one_standard_error_is_exported(call, ran_on_a_target):
    plan = BitPlan.from_json(call("export", "run", "--one-se", cwd=ran_on_a_target[0]).stdout)
    chosen = BitPlan.from_json(call("export", "run", cwd=ran_on_a_target[0]).stdout)
    assert plan.met
    assert plan.costs["weight_memory"] <= chosen.costs["weight_memory"]


def test_a_target_that_the_network_does_not_fit_ends_with_one_line_and_writes_nothing(
    call, tmp_path, tiny_space_text, target_text
):
    (tmp_path / "tiny.toml").write_text(tiny_space_text, encoding="utf-8")
    text = target_text("power_of_two", "small").replace("weight_bytes = 65536", "weight_bytes = 400")
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    line = refused(call("run", "--space", "tiny.toml", "--budget", "4x", "--target", "small.toml", cwd=tmp_path))
    assert "weight_memory ≤ 400 bytes" in line
    assert "smallest feasible value is 696" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.toml", "tiny.toml"]


def test_the_same_command_on_the_same_folder_ends_at_once_with_the_same_table(call, ran, run):
    cwd, _ = ran
    before = (run / "plan.json").read_text(encoding="utf-8")
    again = call("run", "--space", "tiny.toml", "--budget", "8x", "--out", run, cwd=cwd)
    assert again.returncode == 0, again.stderr
    assert "Going on after 4 finished trials" in again.stderr
    assert (run / "plan.json").read_text(encoding="utf-8") == before
    for word in ("chosen", "uniform", "full precision", "validation", "test", "S-ACE", "memory", "pareto.html"):
        assert word in again.stdout
    line = next(line for line in again.stdout.splitlines() if line.startswith("samples: "))
    assert re.fullmatch(r"samples: 360 validation, 360 test; largest class of validation: '\d', 10\.28\xa0%", line)


def test_one_verdict_stands_in_json_terminal_page_and_model_card(call, ran, run):
    cwd, finished = ran
    verdict = verdict_of(RunFolder(run))
    assert json.loads(finished.stdout)["verdict"] == json.loads(json.dumps(verdict.as_json()))
    again = call("run", "--space", "tiny.toml", "--budget", "8x", "--out", run, cwd=cwd)
    assert " ".join(verdict.text.split()) in " ".join(again.stdout.split())
    page = html.unescape((run / "pareto.html").read_text(encoding="utf-8"))
    assert f"{verdict.headline}:</strong> {verdict.explanation}" in page
    assert call("deploy", run / "plan.json", "--format", "hub-folder", "-o", "card", cwd=cwd).returncode == 0
    assert f"best plan of the other kind: {escape(verdict.text)}\n" in (cwd / "card" / CARD).read_text(encoding="utf-8")


def test_report_writes_the_page_anew(call, ran, run):
    (run / "pareto.html").unlink()
    finished = call("report", run, cwd=ran[0])
    assert finished.returncode == 0, finished.stderr
    assert (run / "pareto.html").stat().st_size > 1000


def test_export_writes_the_chosen_plan_byte_for_byte(call, ran, run):
    finished = call("export", run, "-o", "mine.json", cwd=ran[0])
    assert finished.returncode == 0, finished.stderr
    assert (ran[0] / "mine.json").read_bytes() == (run / "plan.json").read_bytes()
    assert call("export", run, cwd=ran[0]).stdout == (run / "plan.json").read_text(encoding="utf-8")


def test_evaluate_gives_the_recorded_accuracy(call, ran, run):
    plan = BitPlan.load(run / "plan.json")
    for split in ("validation", "test"):
        finished = call("evaluate", run / "plan.json", "--split", split, cwd=ran[0])
        accuracy, samples = finished.stdout.splitlines()
        assert accuracy == f"{split} accuracy {getattr(plan.accuracy, split):.4f}", finished.stderr
        # Of 1,797 digits, with 174 to 183 of each, a fifth in each of these parts: 37 of the most frequent.
        assert re.fullmatch(r"360 samples; largest class: '[0-9]', 10\.28\xa0%", samples)


def test_evaluate_refuses_the_weights_of_another_plan(call, ran, run):
    plans = RunFolder(run).plans()
    other = next(plan for plan in plans if plan.layers != plans[0].layers)
    weights = RunFolder(run).weights_file(other.provenance.trial)
    line = refused(call("evaluate", run / "plans/trial-0000.json", "--weights", weights, cwd=ran[0]))
    assert "belongs to another" in line


def test_deploy_writes_as_many_bytes_as_the_cost_model_says(call, ran, run):
    finished = call("deploy", run / "plan.json", "-o", "packed.safetensors", cwd=ran[0])
    memory = BitPlan.load(run / "plan.json").costs["weight_memory"]
    assert f"{memory:.0f} bytes" in finished.stdout, finished.stderr


def test_verify_finds_every_spike_of_the_test_split_equal(call, ran, run):
    deployed = call("deploy", run / "plan.json", "--format", "packed", cwd=ran[0])
    assert deployed.returncode == 0, deployed.stderr
    finished = call("verify", run / "plan.packed.safetensors", cwd=ran[0])
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "of 360 test samples; outputs equal" in finished.stdout
    assert "UNEQUAL" not in finished.stdout


def test_verify_tells_another_trials_weights_from_the_files_own(call, ran, run):
    plans = RunFolder(run).plans()
    one, other = (plan for plan in plans if plan.provenance.method == "uniform")
    weights = [RunFolder(run).weights_file(plan.provenance.trial) for plan in (one, other)]
    path = run / "plans" / weights[0].with_suffix(".json").name
    assert call("deploy", path, weights[0], "-o", "one.packed", cwd=ran[0]).returncode == 0
    line = refused(call("verify", "one.packed", "--weights", weights[1], "--space", "tiny.toml", cwd=ran[0]))
    assert "belongs to another" in line
    assert "give its weights too, a .safetensors file" in refused(
        call("verify", "one.packed", "--space", "tiny.toml", cwd=ran[0])
    )


def test_a_plan_is_trained_on_and_deployed_outside_of_its_run(call, ran, run):
    cwd = ran[0]
    (cwd / "plan.json").write_bytes((run / "plan.json").read_bytes())
    start = RunFolder(run).weights_file(BitPlan.load(run / "plan.json").provenance.trial)
    space = ("--space", "tiny.toml")
    finished = call("train", "plan.json", "--epochs", 1, "--from", start, *space, cwd=cwd)
    accuracy = BitPlan.load(cwd / "plan.trained.json").accuracy
    assert f"test accuracy {accuracy.test:.4f}" in finished.stdout, finished.stderr
    weights = "plan.trained.safetensors"
    deployed = call("deploy", "plan.trained.json", weights, "-o", "mine.packed", *space, cwd=cwd)
    assert deployed.returncode == 0, deployed.stderr
    verified = call("verify", "mine.packed", "--weights", weights, *space, cwd=cwd)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert f"accuracy {accuracy.test:.4f}" in verified.stdout


def test_a_checkout_runs_without_the_installed_command(ran):
    command = [sys.executable, str(ROOT / "cli.py"), "spaces"]
    finished = subprocess.run(command, cwd=ran[0], capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "digits" in finished.stdout


def test_doctor_finds_everything(call, ran):
    finished = call("doctor", cwd=ran[0])
    assert finished.returncode == 0, finished.stdout
    for word in ("torch", "spikingjelly", "optuna", "cpu", "Everything is there"):
        assert word in finished.stdout


def test_wrong_input_ends_with_one_line_and_exit_code_2_and_writes_nothing(call, tmp_path):
    assert "smallest feasible value is 1.24" in refused(call("run", "--budget", "100x", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_wrong_plans_name_the_field(call, ran, run):
    cwd = ran[0]
    content = json.loads((run / "plan.json").read_text(encoding="utf-8"))

    def line(**changes):
        (cwd / "wrong.json").write_text(json.dumps(content | changes), encoding="utf-8")
        weights = RunFolder(run).weights_file(content["provenance"]["trial"])
        return refused(call("evaluate", "wrong.json", "--weights", weights, "--space", "tiny.toml", cwd=cwd))

    assert "unknown field 'colour'" in line(colour="red")
    assert "schema_version is 9" in line(schema_version=9)
    layers = content["layers"]
    assert "layers.conv2.weight_bits" in line(layers=layers | {"conv2": layers["conv2"] | {"weight_bits": 0}})
    misspelt = line(layers=layers | {"conv9": layers["conv2"]})
    assert "no layer 'conv9'" in misspelt
    assert "it has: conv1, conv2, conv3, conv4, classifier" in misspelt


def test_a_killed_run_goes_on_with_the_same_command(call, ran, run, tmp_path):
    arguments = ["run", "--space", str(ran[0] / "tiny.toml"), "--budget", "8x", "--out", "run"]
    killed = forked(*arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/plans/trial-0001.json").exists():
        assert time.monotonic() < deadline, "the run never finished its second trial"
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    finished = call(*arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    resumed, undisturbed = RunFolder(tmp_path / "run").plans(), RunFolder(run).plans()
    assert [plan.layers for plan in resumed] == [plan.layers for plan in undisturbed]
    assert [plan.accuracy for plan in resumed] == [plan.accuracy for plan in undisturbed]


def test_the_default_space_meets_its_budget_and_its_accuracy(call, tmp_path):
    finished = call("run", "--budget", "4x", "--trials", "1", "--timeout", "1", "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    chosen = json.loads(finished.stdout)["chosen"]
    assert chosen["baseline"]["costs"]["bit_budget"] == 64.0
    assert chosen["costs"]["bit_budget"] <= 16.0
    assert chosen["accuracy"]["test"] >= 0.96
