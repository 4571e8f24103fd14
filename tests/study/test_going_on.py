"""A run that has ended gets more trials, and everything that it shows is of all of them."""

import pytest
from bars import SHORT, loaders

import bitsearch

pytestmark = pytest.mark.training


def test_more_trials_are_added_to_a_run_that_has_ended(trained, tmp_path):
    first = bitsearch.search(trained, loaders(), budget="4x", out=tmp_path / "run", command="first", **SHORT)
    page = bitsearch.write_report(first.folder).read_bytes()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "plans").iterdir()}
    more = SHORT | {"trials": 3}
    second = bitsearch.search(trained, loaders(), budget="4x", out=tmp_path / "run", command="more", **more)
    methods = [plan.provenance.method for plan in second.folder.plans()]
    assert methods.count("adaptive") == 3
    assert len(methods) == len(before) + 2
    kept = {name: content for name, content in before.items() if (tmp_path / "run" / "plans" / name).is_file()}
    # Of the earlier plans, those that the front and the choice now show may have been measured on the test split.
    assert kept.keys() == before.keys()
    plans = second.folder.plans()
    assert [plan.provenance.command for plan in plans] == ["first"] * len(before) + ["more"] * 2
    assert second.folder.settings.command == "more"
    best = max(plan.accuracy.validation for plan in plans if plan.met)
    assert bitsearch.BitPlan.load(second.folder.chosen_file).accuracy.validation == best
    assert second.verdict.chosen_from + second.verdict.rival_from == sum(plan.met for plan in plans)
    assert bitsearch.write_report(second.folder).read_bytes() != page
    rows = (tmp_path / "run" / "trials.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(plans)


def test_fewer_trials_than_there_are_take_none_away(trained, tmp_path):
    two = SHORT | {"trials": 2}
    first = bitsearch.search(trained, loaders(), budget="4x", out=tmp_path / "run", **two)
    again = bitsearch.search(trained, loaders(), budget="4x", out=tmp_path / "run", **SHORT)
    assert again.folder.plans() == first.folder.plans()
    assert again.folder.settings == first.folder.settings
