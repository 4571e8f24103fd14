import json

import pytest

from bitsearch.errors import InputError
from bitsearch.search.run_folder import RunFolder


def test_new_folders_are_numbered_and_never_shared(tmp_path):
    first, second = RunFolder.new(tmp_path, "digits"), RunFolder.new(tmp_path, "digits")
    assert first.path != second.path
    assert first.path.name.startswith("digits-")
    assert (first.path.name[-1], second.path.name[-1]) == ("1", "2")


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not a run folder.*give the folder"):
        RunFolder.open(tmp_path)


def test_settings_come_back_as_written(finished_run, tiny_space):
    settings = RunFolder.open(finished_run.folder.path).settings
    assert settings.space == tiny_space
    assert settings.limit == settings.baseline_costs["bit_budget"] / 8
    assert settings.full_precision.validation is not None


def test_a_wrong_setting_is_named(finished_run, tmp_path):
    text = finished_run.folder.settings_file.read_text(encoding="utf-8")
    (tmp_path / "run.toml").write_text(text.replace("seed = 0", "seed = -1", 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.toml: seed is -1"):
        _ = RunFolder.open(tmp_path).settings


def test_an_unknown_trial_is_refused_with_those_there_are(finished_run):
    with pytest.raises(InputError, match=r"trial 99 .* trials with one: 0, 1, 2, 3"):
        finished_run.folder.plan(99)


def test_a_log_line_cut_short_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_log({"epoch": 1})
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"epoch": 2})[:5])
    assert folder.log() == [{"epoch": 1}]
