import shlex
import shutil
import sys

import pytest

from bitsearch.cli import main
from bitsearch.plan import BitPlan
from bitsearch.report.commands import commands
from bitsearch.runs.folder import RunFolder


@pytest.fixture
def finished_folder(finished_run, tmp_path):
    """A copy to write into, with a space in its name."""
    path = tmp_path / "a run"
    shutil.copytree(finished_run.folder.path, path)
    return RunFolder.open(path)


def test_every_command_of_a_plan_works(finished_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = finished_folder.plans()
    plan = before[0]
    found = dict(commands(finished_folder, plan))
    assert found.pop("Run the whole search again") == plan.provenance.command
    assert len(found) == 5
    for command in found.values():
        program, *arguments = shlex.split(command)
        assert program == "bitsearch"
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, command
    assert (tmp_path / "plan.json").read_bytes() == finished_folder.plan_file(0).read_bytes()
    trained = BitPlan.load(finished_folder.path / "trial-0000.trained.json")
    assert trained.layers == plan.layers
    assert f"test accuracy {plan.accuracy.test or trained.accuracy.test:.4f}" in capsys.readouterr().out
    assert finished_folder.plans() == before


def test_a_plan_without_weights_is_trained_from_the_start(run_folder):
    plan = run_folder.chosen()
    file = run_folder.plan_file(9)
    found = dict(commands(run_folder, plan))
    trained = run_folder.path / "trial-0009.trained.json"
    assert (
        found["Train it"] == f"bitsearch train {file} --epochs {run_folder.settings.space.training.epochs} -o {trained}"
    )
    assert not any("deploy" in command for command in found.values())
    unknown = plan.model_copy(update={"provenance": plan.provenance.model_copy(update={"trial": None})})
    assert commands(run_folder, unknown) == [("Run the whole search again", plan.provenance.command)]


def test_code_of_the_users_own_is_trusted_on_the_command_line(make_run_folder, make_settings):
    settings = make_settings()
    space = settings.space.model_copy(update={"network": "mynets:CSNN"})
    folder = make_run_folder(space=space)
    folder.weights_file(9).touch()
    for title, command in commands(folder, folder.chosen()):
        assert ("--trust" in command) == (title not in ("Write its plan", "Run the whole search again"))
