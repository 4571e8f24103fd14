"""``bitsearch sensitivity``: its tables, its files, and what it refuses."""

import json

import pytest

from bitsearch.allocation.sensitivity.records import Sensitivities
from bitsearch.cli import main
from bitsearch.cli.sensitivity import _short
from bitsearch.report import write_report

pytestmark = pytest.mark.training


@pytest.fixture
def call(monkeypatch, capsys):
    def called(*arguments):
        monkeypatch.setattr("sys.argv", ["bitsearch", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    return called


def test_a_run_is_measured_into_its_folder(call, finished_run, copied):
    folder = copied(finished_run).folder
    write_report(folder)
    code, printed = call("sensitivity", folder.path, "--samples", 20)
    assert code == 0, printed.err
    assert all(len(line) <= 80 or line.startswith(str(folder.path)) for line in printed.out.splitlines())
    measured = Sensitivities.load(folder.sensitivity_file)
    assert measured.samples == 20
    for layer in measured.layers:
        assert f"│ {layer:<10} │ w │" in printed.out
    worst = measured.worst(measured.layers[0])
    assert _short(worst.increase) in printed.out
    assert "What each layer's bits are worth" in folder.report_file.read_text(encoding="utf-8")


def test_json_has_everything(call, finished_run, tmp_path):
    code, printed = call("sensitivity", finished_run.folder.path, "--samples", 8, "--out", tmp_path, "--json", "-q")
    assert code == 0
    content = json.loads(printed.out)
    assert content["samples"] == 8
    assert content["layers"] == Sensitivities.load(tmp_path / "sensitivity.json").layers
    assert {row["layer"] for row in content["widths"]} == set(content["layers"])
    assert printed.err == ""


def test_refusals_are_one_line_and_leave_nothing(call, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = call("sensitivity", "digits")
    assert code == 2
    assert printed.err.count("\n") == 1
    assert "has no trained weights" in printed.err
    code, printed = call("sensitivity", finished_run.folder.path, "--model", "resnet20")
    assert code == 2
    assert "is a run folder" in printed.err
    code, printed = call("sensitivity", tmp_path)
    assert code == 2
    assert "is not a run folder" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_numbers_fit_five_characters():
    assert [
        _short(value) for value in (0.12345, -0.0004, -0.001, -0.51, -1.23456, 12.3456, -12.3456, 1234.5, 1e8, None)
    ] == [
        "0.123",
        "0.000",
        "-.001",
        "-.510",
        "-1.23",
        "12.35",
        "-12.3",
        "1e+03",
        "1e+08",
        "–",
    ]
