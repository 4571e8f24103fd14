import json

import numpy as np
import pytest

import bitsearch
from bitsearch.errors import InputError
from bitsearch.report.front_figure import front_figure
from bitsearch.runs.confirmed import confirmed, row_name, seeds_by_trial
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.test_split import verdict_of
from bitsearch.study.confirm import finalists
from bitsearch.study.run import search


def short(space):
    training = space.training.model_copy(update={"epochs": 1, "full_precision_epochs": 1})
    settings = space.search.model_copy(update={"front_share": 0.0, "uniform_trials": 1})
    return space.model_copy(update={"training": training, "search": settings})


@pytest.fixture(scope="module")
def folder(tiny_space, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return search(short(tiny_space), "8x", trials=1, confirm=2, out=out, seed=3).folder


def test_every_finalist_is_trained_with_the_seeds_after_the_runs_own(folder):
    trials = {plan.provenance.trial for plan in finalists(folder)}
    assert folder.chosen().provenance.trial in trials
    assert {result.trial: result.seeds for result in confirmed(folder)} == dict.fromkeys(trials, (4, 5))
    for result in confirmed(folder):
        assert len(result.validation) == len(result.test) == 2
        assert all(0 <= share <= 1 for share in result.validation + result.test)
    assert not list((folder.path / "checkpoints").iterdir())


def test_the_verdict_is_about_these_trainings(folder):
    verdict = verdict_of(folder)
    assert verdict.confirmed
    assert verdict.difference.seeds == 2
    means = {result.trial: np.mean(result.test) for result in confirmed(folder)}
    chosen, rival = verdict.chosen.provenance.trial, verdict.rival.provenance.trial
    assert verdict.difference.difference == pytest.approx(means[chosen] - means[rival])
    if not verdict.same_plan:
        assert "trained anew with 2 further seeds" in verdict.explanation


def test_what_is_trained_is_not_trained_again_and_more_seeds_are_added(folder, tiny_space):
    before = {file: file.read_bytes() for file in (folder.confirmed_validation_file, folder.confirmed_test_file)}
    epochs = folder.log()
    search(short(tiny_space), "8x", trials=1, confirm=2, out=folder.path, seed=3)
    assert {file: file.read_bytes() for file in before} == before
    assert len(folder.log()) == len(epochs)
    again = search(short(tiny_space), "8x", trials=1, confirm=3, out=folder.path, seed=3)
    first = seeds_by_trial(folder.confirmed_validation_file)
    assert all(set(seeds) == {4, 5, 6} for seeds in first.values())
    assert [result.seeds for result in again.confirmed] == [(4, 5, 6)] * len(first)
    assert [event["seed"] for event in folder.log() if event["event"] == "confirmed"][-1] == 6


def test_the_page_shows_the_means_with_error_bars(folder):
    results = confirmed(folder)
    figure, _ = front_figure(folder.plans(), folder.chosen(), folder.settings, None, results)
    trace = next(trace for trace in figure.data if "further seeds" in trace.name)
    assert list(trace.y) == pytest.approx([100 * np.mean(result.validation) for result in results])
    assert list(trace.error_y.array) == pytest.approx([100 * np.std(result.validation, ddof=1) for result in results])
    assert "further seeds" in bitsearch.write_report(folder).read_text(encoding="utf-8")


def test_the_results_are_json(folder):
    content = json.loads(json.dumps([result.as_json() for result in bitsearch.load(folder.path).confirmed]))
    assert {entry["trial"] for entry in content} == {plan.provenance.trial for plan in finalists(folder)}


def test_a_run_without_it_has_none(tmp_path):
    assert confirmed(RunFolder(tmp_path)) == []


def test_rows_are_read_as_they_are_named():
    assert row_name(4, 17) == "trial-0004.seed-17"


@pytest.mark.parametrize(
    ("confirm", "seed", "said"),
    [
        (0, 0, "confirm is 0; give a whole number from 1"),
        (-1, 0, "confirm is -1; give a whole number from 1"),
        (2, 2**64 - 2, "no 2 seeds above 18446744073709551614"),
    ],
)
def test_too_few_or_too_many_seeds_are_refused(tiny_space, tmp_path, confirm, seed, said):
    with pytest.raises(InputError, match=said):
        search(short(tiny_space), "8x", confirm=confirm, seed=seed, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
