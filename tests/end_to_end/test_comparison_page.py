"""A comparison through the real command, and what it says against its trials."""

import html
import json
import statistics

import pandas as pd
import pytest

from bitsearch.report.comparison import comparison_table
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.test_split import verdict_of
from bitsearch.study.compare import compare

pytestmark = pytest.mark.training

SPACE = """
schema_version = 1
name = "tiny"
network = "digits_cnn"
data = "digits"
[network_options]
width = 4
classifier = "gap"
[choices]
weight_bits = [1, 2, 4, 8]
spike_bits = [1, 2, 4]
time_steps = [1, 2]
[training]
full_precision_epochs = 2
epochs = 2
[allocation]
start = { weight_bits = 4, spike_bits = 4, time_steps = 2 }
ramp.steps = 2
refine.tries = 1
"""
METHODS = ["adaptive", "local_binary", "sensitivity", "ramp", "refine", "uniform", "random", "full_precision"]


@pytest.fixture(scope="module")
def compared(call, tmp_path_factory):
    """(folder, what the command printed) of every method on two seeds, one trial each."""
    cwd = tmp_path_factory.mktemp("compare")
    (cwd / "tiny.toml").write_text(SPACE, encoding="utf-8")
    options = ["--space", "tiny.toml", "--budget", "s_ace=4x", "--seeds", 2, "--trials", 1, "--out", "found"]
    finished = call("compare", "--methods", ",".join(METHODS), *options, cwd=cwd, columns=160)
    assert finished.returncode == 0, finished.stderr
    return cwd / "found", finished.stdout


def test_every_method_has_a_row_a_seed_that_is_its_best_trial(compared):
    folder, _ = compared
    table = pd.read_csv(folder / "comparison.csv")
    assert list(table["method"]) == METHODS * 2
    for row in table.itertuples():
        run = RunFolder.open(folder / f"seed-{row.seed}")
        if row.method == "full_precision":
            assert row.validation_accuracy == run.settings.full_precision.validation
            continue
        plan = run.plan(int(row.trial))
        assert plan.provenance.method == row.method
        assert plan.met
        assert (row.validation_accuracy, row.test_accuracy) == (plan.accuracy.validation, plan.accuracy.test)
        assert row.s_ace == plan.costs["s_ace"]
        assert row.seconds > 0
        rivals = [other for other in run.plans() if other.provenance.method == row.method and other.met]
        assert row.validation_accuracy == max(other.accuracy.validation for other in rivals)


def test_the_seeds_are_whole_runs_of_one_trial_a_method_and_what_the_ramp_left(compared):
    folder, _ = compared
    for seed in range(2):
        plans = RunFolder.open(folder / f"seed-{seed}").plans()
        # The ramp's trial has the number of its last plan; the one on the way is added once that is written.
        ran = [*METHODS[:4], "ramp", *METHODS[4:7]]
        assert [plan.provenance.method for plan in plans] == ran
        last, way = (plan.costs["s_ace"] for plan in plans if plan.provenance.method == "ramp")
        assert last < way
        assert {plan.provenance.seed for plan in plans} == {seed}


def test_the_printed_table_is_the_mean_and_the_deviation_of_the_rows(compared):
    folder, printed = compared
    table = pd.read_csv(folder / "comparison.csv")
    for method in METHODS:
        values = [100 * value for value in table[table["method"] == method]["test_accuracy"]]
        # A name of two words may take two lines, the numbers stand in the first.
        line = next(line for line in printed.splitlines() if line.startswith(f"│ {method.partition('_')[0]} "))
        assert f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}" in line


def test_the_page_needs_nothing_else_and_names_every_method(compared):
    folder, _ = compared
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    for method in METHODS:
        assert method.replace("_", " ") in page
    assert "<script src" not in page
    assert '<link rel="stylesheet"' not in page


def test_every_seed_has_the_verdict_of_its_run_in_terminal_page_and_json(compared, call):
    folder, printed = compared
    page = html.unescape((folder / "comparison.html").read_text(encoding="utf-8"))
    lines = " ".join(printed.split())
    options = ["--space", "tiny.toml", "--budget", "s_ace=4x", "--seeds", 2, "--trials", 1, "--out", "found", "--json"]
    finished = call("compare", "--methods", ",".join(METHODS), *options, cwd=folder.parent)
    found = json.loads(finished.stdout)
    assert [row["method"] for row in found["results"]] == METHODS * 2
    for seed, said in enumerate(found["verdicts"]):
        verdict = verdict_of(RunFolder.open(folder / f"seed-{seed}"))
        assert said == {"seed": seed} | json.loads(json.dumps(verdict.as_json()))
        assert verdict.rival.provenance.method != verdict.chosen.provenance.method
        assert " ".join(f"seed {seed}: {verdict.text}".split()) in lines
        assert f"{verdict.headline}:</strong> {verdict.explanation}" in page


def test_a_second_call_trains_nothing_and_finds_the_same(compared):
    folder, _ = compared
    space = RunFolder.open(folder / "seed-0").settings.space
    before = (folder / "comparison.csv").read_text(encoding="utf-8")
    found = compare(space, "s_ace=4x", METHODS, seeds=2, trials=1, out=folder)
    assert (folder / "comparison.csv").read_text(encoding="utf-8") == before
    heads, rows = comparison_table(found)
    # Full precision is set beside methods that do not name it.
    assert len(rows) == len({*METHODS, "full_precision"})
    assert {len(row.cells) for row in rows} == {len(heads)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "adaptive,magic"], "'magic' is no method; allowed: adaptive, local_binary"),
        (["--methods", "adaptive"], "give at least two, each once"),
        (["--methods", "uniform,uniform"], "give at least two, each once"),
    ],
)
def test_wrong_methods_end_with_one_line_and_write_nothing(call, tmp_path, arguments, message):
    finished = call("compare", *arguments, cwd=tmp_path)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_method_of_a_run_is_chosen_on_the_command_line(call, tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    options = ["--space", "tiny.toml", "--budget", "s_ace=4x", "--set", "search.uniform_trials=1", "--trials", 1]
    finished = call("run", "--method", "random", *options, "--set", "allocation.quantizer.form=sigmoid", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    run = RunFolder.open(next((tmp_path / "reports").iterdir()))
    assert [plan.provenance.method for plan in run.plans()] == ["random", "uniform"]
    assert all(plan.met and plan.accuracy.soft_validation is not None for plan in run.plans())
