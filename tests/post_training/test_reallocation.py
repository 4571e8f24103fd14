"""Kept scores give plans for other budgets, metrics and targets, without data."""

import json
import shutil
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

import bitsearch
from bitsearch.cli import main
from bitsearch.cost import METRICS
from bitsearch.errors import InputError

pytestmark = pytest.mark.training


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """The command in an empty folder: its exit code, and what it prints on stdout and on stderr."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["bitsearch", "allocate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def no_data(allocated, monkeypatch):
    def refused(*arguments, **options):
        raise AssertionError("data or a network were asked for")

    monkeypatch.setattr("bitsearch.train.task.load_data", refused)
    monkeypatch.setattr("bitsearch.train.task.make_network", refused)


def test_the_runs_own_budgets_give_its_own_plans(allocated):
    for stop, trial in zip(allocated.folder.settings.sweep, (0, 2), strict=True):
        plan = bitsearch.reallocate(allocated.folder.path, f"s_ace={stop.requested}")
        own = allocated.folder.plan(trial)
        assert plan.layers == own.layers
        assert plan.costs["s_ace"] == own.costs["s_ace"]
        assert (plan.budget[0].limit, plan.baseline.costs) == (stop.limit, own.baseline.costs)
        assert (plan.accuracy.validation, plan.provenance.trial) == (None, None)


def test_other_budgets_metrics_and_targets(allocated):
    run = allocated.folder.path
    both = bitsearch.reallocate(run, ["memory=1100", "s_ace=300000"])
    assert both.met
    assert [outcome.metric for outcome in both.budget] == ["weight_memory", "s_ace"]
    assert bitsearch.reallocate(run, "3x", metric="s_ace").costs["s_ace"] <= both.baseline.costs["s_ace"] / 3
    chip = bitsearch.reallocate(run, "s_ace=4x", target="power_of_two")
    assert chip.target == "power_of_two"
    widths = [layer.weight_bits for layer in chip.layers.values()]
    assert set(widths) <= {1, 2, 4, 8}
    spikes = bitsearch.reallocate(run, "ns_ace=200000")
    assert spikes.met
    assert "ns_ace" not in both.costs


def test_a_plan_of_scores_is_trained_by_its_own_run(allocated, monkeypatch, tmp_path):
    bitsearch.reallocate(allocated.folder.path, "s_ace=3x").save(tmp_path / "plan.json")
    monkeypatch.undo()
    trained = bitsearch.train_plan(
        tmp_path / "plan.json",
        epochs=1,
        start=allocated.folder.full_precision_weights,
        space=str(allocated.folder.path),
    )
    assert trained.plan.accuracy.validation is not None


def test_the_command(allocated, call, tmp_path):
    run = str(allocated.folder.path)
    code, printed, errors = call("--from", run, "--budgets", "s_ace=3x")
    assert (code, errors) == (0, "")
    _, paths, told = call("--from", run, "--metric", "s_ace", "--budgets", "2x,3x", "-o", "plans", "--no-calibrate")
    assert paths.splitlines() == ["plans/plan-2x.json", "plans/plan-3x.json"]
    assert told.count("not calibrated, and without weights, as asked") == 2
    assert sorted(path.name for path in (tmp_path / "plans").iterdir()) == ["plan-2x.json", "plan-3x.json"]
    plan = bitsearch.BitPlan.load(tmp_path / "plans" / "plan-3x.json")
    assert plan.layers == bitsearch.BitPlan.model_validate(json.loads(printed)).layers


def test_a_plan_is_calibrated_as_its_run_has_calibrated_its_own(allocated, monkeypatch, call, tmp_path):
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in allocated.folder.path.rglob("*") if path.is_file()}
    own = allocated.folder.plan(2)
    run = str(allocated.folder.path)
    code, printed, told = call("--from", run, "--budgets", "s_ace=6x", "-o", "plan-6x.json")
    assert (code, printed) == (0, "plan-6x.json\n")
    plan, weights = bitsearch.BitPlan.load(tmp_path / "plan-6x.json"), tmp_path / "plan-6x.safetensors"
    assert "plan-6x.json: calibrated, " in told
    assert told.rstrip().endswith("on validation; its weights are in plan-6x.safetensors")
    assert (plan.layers, plan.costs, plan.accuracy.validation) == (own.layers, own.costs, own.accuracy.validation)
    expected = load_file(allocated.folder.weights_file(2))
    assert all(torch.equal(value, expected[name]) for name, value in load_file(weights).items())
    score = bitsearch.evaluate_plan(tmp_path / "plan-6x.json", weights=weights, space=run, split="validation")
    assert score == plan.accuracy.validation
    assert {path: path.read_bytes() for path in allocated.folder.path.rglob("*") if path.is_file()} == before


def test_a_plan_whose_runs_data_are_gone_is_written_uncalibrated_and_says_why(allocated, monkeypatch, call, tmp_path):
    def gone(*arguments, **options):
        raise InputError("no images in 'photos'")

    monkeypatch.setattr("bitsearch.train.task.load_data", gone)
    code, printed, told = call("--from", str(allocated.folder.path), "--budgets", "s_ace=3x", "-o", "plan.json")
    assert (code, printed) == (0, "plan.json\n")
    assert told == "plan.json: not calibrated, and without weights: no images in 'photos'\n"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert bitsearch.BitPlan.load(tmp_path / "plan.json").accuracy.validation is None


def test_a_network_of_the_users_own_is_not_run_unasked(allocated, copied):
    run = copied(allocated).folder
    settings = run.settings
    space = settings.space.model_copy(update={"network": "mynets:CSNN"})
    run.write_settings(settings.model_copy(update={"space": space}))
    with pytest.raises(InputError, match=r"runs code .* network 'mynets:CSNN'; if you trust it, add --trust"):
        bitsearch.reallocate(run.path, "s_ace=3x", weights=run.path / "weights.safetensors")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--budgets", "2x,3x"], "give one budget with --budgets, or a folder for all with --output"),
        (["--budgets", "s_ace=1000x"], "the smallest feasible value is"),
        (["--budgets", "ns_ace=4x"], "depends on how often neurons fire"),
        (["--budgets", "3x", "--weights", "csnn.pth"], "--weights does not go with --from"),
        (["--budgets", "3x", "--samples", "256"], "--samples does not go with --from"),
        (["--budgets", "3x", "--out", "run"], "--out does not go with --from"),
    ],
)
def test_what_cannot_be_solved_is_said_in_a_line(arguments, line, allocated, call):
    code, printed, errors = call("--from", str(allocated.folder.path), *arguments)
    assert (code, printed) == (2, "")
    assert line in errors
    assert len(errors.splitlines()) == 1


def test_a_run_without_scores_and_an_output_without_a_run_are_refused(finished_run, call, tmp_path):
    with pytest.raises(InputError, match="holds no scores; give a run that `bitsearch allocate` wrote"):
        bitsearch.reallocate(finished_run.folder.path, "4x")
    code, _, errors = call("-o", "plan.json")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "--output is for plans of --from" in errors
    code, _, errors = call("--no-calibrate")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "--no-calibrate is for plans of --from" in errors


@pytest.fixture
def with_metric(allocated, tmp_path, monkeypatch):
    """The run as a space with a metric of its own would have left it."""
    path = shutil.copytree(allocated.folder.path, tmp_path / "own_metric")
    file = path / "run.toml"
    table = '[space.metrics.own_steps]\nfunction = "own_costs:steps"\ndescription = "Steps."\n'
    file.write_text(file.read_text(encoding="utf-8") + "\n" + table, encoding="utf-8")
    module = ModuleType("own_costs")
    module.steps = lambda geometry, bits: geometry.inputs * bits.time_steps
    monkeypatch.setitem(sys.modules, "own_costs", module)
    before = dict(METRICS)
    yield path
    METRICS.clear()
    METRICS.update(before)


def test_a_metric_of_the_spaces_own_is_counted_where_it_is_trusted(with_metric):
    plan = bitsearch.reallocate(with_metric, ["own_steps=2x", "s_ace=2x"], trust=True)
    assert plan.met
    assert plan.costs["own_steps"] <= plan.baseline.costs["own_steps"] / 2
    with pytest.warns(UserWarning, match="own_steps of the run's search space not counted, .* add --trust"):
        assert "own_steps" not in bitsearch.reallocate(with_metric, "s_ace=2x").costs


def test_code_of_a_run_is_not_run_unasked(with_metric, monkeypatch):
    monkeypatch.delitem(sys.modules, "own_costs")
    with pytest.raises(InputError, match=r"metrics\.own_steps of the run is code .*'own_costs:steps'.* add --trust"):
        bitsearch.reallocate(with_metric, "own_steps=2x")


def test_scores_of_layers_that_no_plan_can_have_are_refused(allocated, copied):
    run = copied(allocated).folder
    content = json.loads(run.scores_file.read_text())
    content["geometry"][0]["in_place"] = True
    run.scores_file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"scores\.json: .*in_place is true.*; put the run's own file back"):
        bitsearch.reallocate(run.path, "s_ace=3x")
