import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from bitsearch.errors import InputError
from bitsearch.report.dashboard import LiveStudy, front_note
from bitsearch.report.page import render
from bitsearch.study.study_copy import StudyCopy

ROOT = Path(__file__).parents[2]


def test_a_folder_without_a_study_is_refused(run_folder):
    with pytest.raises(InputError, match="has no study yet"):
        LiveStudy(run_folder, run_folder.path)
    assert not (run_folder.path / "study.db").exists()


def test_the_note_is_the_front(run_folder):
    links = {"pareto.html": "/artifacts/1/a", "trial-0009.json": "/artifacts/1/b"}
    note = front_note(run_folder.plans(), run_folder, links)
    assert note.count("\n| ") == len(run_folder.front()) + 1
    assert "| [trial 9](/artifacts/1/b) | 98.61 % | 15.15 bits | yes |" in note.replace("\xa0", " ")
    assert "the report is [pareto.html](/artifacts/1/a)" in note


@pytest.fixture
def study_folder(run_folder):
    """With a study of the first three trials."""
    study = optuna.create_study(
        storage=run_folder.storage_url, study_name="bitsearch", directions=["maximize", "minimize"]
    )
    for plan in run_folder.plans()[:3]:
        study.add_trial(optuna.trial.create_trial(values=[plan.accuracy.validation, plan.costs["bit_budget"]]))
    return run_folder


def test_plans_and_figures_are_attached_once(study_folder, tmp_path_factory):
    pytest.importorskip("optuna_dashboard")
    before = {path: path.read_bytes() for path in study_folder.path.rglob("*") if path.is_file()}
    live = LiveStudy(study_folder, tmp_path_factory.mktemp("dashboard"))
    front = {plan.provenance.trial for plan in study_folder.front()}
    assert live.update() == len(front)
    assert live.update() == 0
    assert live.study.metric_names == ["validation accuracy", "Bit Budget W̄·S̄·T̄"]
    values = [[plan.accuracy.validation, plan.costs["bit_budget"]] for plan in study_folder.plans()[:3]]
    assert [trial.values for trial in live.study.trials] == values
    metas = get_all_artifact_meta(live.study)
    assert {meta.filename for meta in metas} == {"pareto.html", *(f"trial-{trial:04d}.json" for trial in front)}
    for meta in metas:
        with live.artifacts.open_reader(meta.artifact_id) as file:
            page = render(study_folder).encode() if meta.filename == "pareto.html" else None
            assert file.read() == (page or (study_folder.path / "plans" / meta.filename).read_bytes())
    plots = pytest.importorskip("optuna_dashboard._custom_plot_data")
    graphs = plots.get_plotly_graph_objects(live.study._storage.get_study_system_attrs(live.study._study_id))
    assert set(graphs) == {"bitsearch-front", "bitsearch-bits", "bitsearch-hypervolume"}
    for graph in map(json.loads, graphs.values()):
        # A card shows 450 pixels; the legend stands below what is drawn, and the title above.
        assert graph["layout"]["height"] <= 450
        assert graph["layout"]["legend"]["y"] < 0 < graph["layout"]["title"]["y"]
    assert {path: path.read_bytes() for path in study_folder.path.rglob("*") if path.is_file()} == before


def test_the_attached_page_is_replaced_when_a_plan_is_new(study_folder, make_plan, tmp_path_factory):
    pytest.importorskip("optuna_dashboard")
    live = LiveStudy(study_folder, tmp_path_factory.mktemp("dashboard"))
    live.update()
    study_folder.write_plan(make_plan(study_folder.settings, 77, [(4, [4])] * 4, 0.999))
    assert live.update() == 1
    pages = [meta for meta in get_all_artifact_meta(live.study) if meta.filename == "pareto.html"]
    assert len(pages) == 1
    with live.artifacts.open_reader(pages[0].artifact_id) as file:
        assert "Trial 77" in file.read().decode()


def test_a_running_trial_is_followed_to_its_end(study_folder):
    study = optuna.load_study(study_name="bitsearch", storage=study_folder.storage_url)
    copy = StudyCopy(study, ["accuracy", "cost"])
    copy.follow()
    trial = study.ask()
    copy.follow()
    assert copy.study.trials[3].state == optuna.trial.TrialState.RUNNING
    drawn = trial.suggest_float("budget_share", 0.5, 1)
    trial.set_user_attr("role", "searched")
    study.tell(trial, [0.9, 3.0])
    copy.follow()
    copy.follow()
    ended = copy.study.trials[3]
    assert (ended.values, ended.params, ended.user_attrs) == (
        [0.9, 3.0],
        {"budget_share": drawn},
        {"role": "searched"},
    )
    assert len(copy.study.trials) == 4


def fetched(url):
    """The server says that it listens a moment before it does."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            time.sleep(0.1)
    return None


def test_the_command_serves_the_study_on_this_machine_only(study_folder):
    pytest.importorskip("optuna_dashboard")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "cli.py"), "dashboard", str(study_folder.path), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            # The server says so once it listens.
            for line in server.stderr:
                if "Listening on" in line:
                    break
            assert f"127.0.0.1:{port}" in line
            answer = fetched(f"http://127.0.0.1:{port}/api/studies")
            (summary,) = answer["study_summaries"]
            assert summary["study_name"] == "bitsearch"
            identity = summary["study_id"]
            study = fetched(f"http://127.0.0.1:{port}/api/studies/{identity}")
            shown = {figure["id"] for figure in study["plotly_graph_objects"]}
            assert shown == {"bitsearch-front", "bitsearch-bits", "bitsearch-hypervolume"}
            files = {one["filename"]: one["artifact_id"] for one in study["artifacts"]}
            plan = fetched(f"http://127.0.0.1:{port}/artifacts/{identity}/{files['trial-0009.json']}")
            assert plan == json.loads(study_folder.plan_file(9).read_text(encoding="utf-8"))
            assert f"/artifacts/{identity}/{files['pareto.html']}" in study["note"]["body"]
            rebound = urllib.request.Request(
                f"http://127.0.0.1:{port}/api/studies/{identity}", method="DELETE", headers={"Host": "evil.example"}
            )
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(rebound, timeout=20)
            assert len(fetched(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]) == 1
        finally:
            server.terminate()
