"""Runs of one network on the same data become one run; others are refused by name."""

import shutil

import pytest
import torch
from bars import SHORT, bars, loaders, network
from torch.utils.data import DataLoader

import bitsearch
from bitsearch.cli import main
from bitsearch.cost import Target
from bitsearch.errors import InputError
from bitsearch.layers.weights import save_weights
from bitsearch.plan import Accuracy
from bitsearch.runs.folder import RunFolder
from bitsearch.study.merge import merge

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """Two runs of one network at two budgets."""
    folder = tmp_path_factory.mktemp("runs")
    for name, budget, seed in (("a", "4x", 0), ("b", "8x", 1)):
        bitsearch.search(trained, loaders(), budget=budget, out=folder / name, seed=seed, **SHORT)
    return folder / "a", folder / "b"


def test_all_plans_are_there_judged_by_the_first_runs_budget(trained, runs, tmp_path):
    merged = merge(runs, tmp_path / "merged", network=trained, data=loaders())
    first, second = (RunFolder(run).plans() for run in runs)
    plans = merged.folder.plans()
    assert [plan.provenance.trial for plan in plans] == list(range(len(first) + len(second)))
    assert [plan.layers for plan in plans] == [plan.layers for plan in [*first, *second]]
    limit = RunFolder(runs[0]).settings.budgets[0].limit
    for plan in plans:
        (outcome,) = plan.budget
        assert (outcome.requested, outcome.limit) == ("4x", limit)
        assert outcome.met == (plan.costs["bit_budget"] <= limit)
    assert merged.best.accuracy.validation == max(plan.accuracy.validation for plan in plans if plan.met)
    assert bitsearch.BitPlan.load(merged.folder.chosen_file) == merged.best
    for plan in merged.folder.front():
        assert plan.accuracy.test is not None
        assert merged.evaluate(loaders()[1], plan.provenance.trial) == plan.accuracy.validation
        assert merged.evaluate(loaders()[2], plan.provenance.trial) == plan.accuracy.test
    assert merged.within_one_standard_error is not None
    assert merged.verdict.difference is not None
    page = bitsearch.write_report(merged.folder).read_text(encoding="utf-8")
    assert "bitsearch.merge([" in page
    assert merge([merged.folder.path, runs[1]], tmp_path / "again", network=trained, data=loaders()).best.met


def test_it_has_no_study_to_go_on_with(trained, runs, tmp_path):
    merge(runs, tmp_path / "merged", network=trained, data=loaders())
    with pytest.raises(InputError, match=r"was merged from .*a, .*b and has no study to go on with"):
        bitsearch.search(trained, loaders(), budget="4x", out=tmp_path / "merged", **SHORT)


def refused(said, folders, out, **options):
    with pytest.raises(InputError, match=said) as caught:
        merge(folders, out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".draft")]


def in_space(**change):
    return lambda settings: {"space": settings.space.model_copy(update=change)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (in_space(network="Other (object)"), "network is 'Sequential .object.', not 'Other .object.'"),
        (in_space(split_seed=1), "split_seed is 0, not 1"),
        (in_space(data_options={"train": 95}), "data_options.train is 96, not 95"),
        (lambda settings: {"weights_sha256": "0" * 64}, "they began with other weights"),
        (lambda settings: {"target": Target.load("neuromorphic")}, "targets, 'generic' and 'neuromorphic', are not"),
        (lambda settings: {"full_precision": Accuracy(validation=0.5)}, "so that their validation data differ"),
    ],
)
def test_runs_of_other_networks_or_data_are_refused_by_name(change, said, runs, tmp_path):
    other = RunFolder(shutil.copytree(runs[1], tmp_path / "other"))
    other.write_settings(other.settings.model_copy(update=change(other.settings)))
    refused(said, [runs[0], other.path], tmp_path / "merged")


def test_networks_with_other_tensors_are_refused(runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    save_weights(torch.nn.Linear(2, 3), RunFolder(other).full_precision_weights)
    refused("their networks have other tensors", [runs[0], other], tmp_path / "merged")


def test_what_cannot_be_merged_is_one_line(trained, runs, tmp_path):
    out = tmp_path / "merged"
    refused("give at least two, each once", runs[:1], out)
    refused("give at least two, each once", [runs[0], runs[0]], out)
    refused("not a run folder", [runs[0], tmp_path], out)
    refused("was an object, 'Sequential .object.'; give it and its data again", runs, out)
    refused("is another one than the runs began with", runs, out, network=network(), data=loaders())
    fewer = (*loaders()[:2], DataLoader(bars(24, 2), 16))
    refused("data_options.test is 48, not 24", runs, out, network=trained, data=fewer)
    with pytest.raises(InputError, match="is not empty; give a new or an empty folder"):
        merge(runs, runs[0], network=trained, data=loaders())


def test_a_named_network_is_made_again_and_the_command_writes_the_page(finished_run, copied, tmp_path, monkeypatch):
    """A run of another seed, which the same plans stand for here."""
    other = copied(finished_run).folder
    out = tmp_path / "merged"
    arguments = ["merge", str(finished_run.folder.path), str(other.path), "-o", str(out)]
    monkeypatch.setattr("sys.argv", ["bitsearch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    merged = RunFolder.open(out)
    assert merged.report_file.is_file()
    assert len(merged.plans()) == 2 * len(finished_run.folder.plans())
    trial = merged.plans()[-1].provenance.trial
    measured = bitsearch.evaluate_plan(merged.plan_file(trial), split="validation")
    assert measured == merged.plan(trial).accuracy.validation
