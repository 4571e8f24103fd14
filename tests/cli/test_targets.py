import json
import subprocess
import sys
from importlib import resources

import pytest

from bitsearch.cli import main
from bitsearch.cost.figures import FIGURES
from bitsearch.cost.target import Target


@pytest.fixture
def call(monkeypatch):
    """Run ``bitsearch targets …``; gives the exit code."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["bitsearch", "targets", *arguments])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


def shipped(name):
    return resources.files("bitsearch").joinpath("cost", "targets", f"{name}.toml").read_text(encoding="utf-8")


def test_list_shows_every_shipped_target_with_its_widths(call, capsys):
    assert call("list") == 0
    rows = {}
    for line in capsys.readouterr().out.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and cells[0]:
            rows[cells[0]] = cells[1:4]
    assert rows == {
        "akida_1000": ["2, 4", "1, 2, 4", "≤ 1"],
        "artix_7": ["1–8", "1–8", "any"],
        "binary_fpga": ["1", "1–4", "≤ 8"],
        "cortex_m4": ["1–8", "1–8", "any"],
        "generic": ["1–8", "1–8", "any"],
        "loihi_2": ["1–8", "1–8", "any"],
        "neuromorphic": ["1–8", "1–8", "any"],
        "power_of_two": ["1, 2, 4, 8", "1, 2, 4, 8", "≤ 8"],
        "speck_2f": ["1–8", "1", "any"],
        "xylo_2": ["1–8", "1–5", "any"],
    }


def test_list_json_prints_every_target_whole(call, capsys):
    assert call("list", "--json") == 0
    targets = [Target.model_validate_json(json.dumps(content)) for content in json.loads(capsys.readouterr().out)]
    assert targets == [Target.load(name) for name in Target.names()]


@pytest.mark.parametrize("name", Target.names())
def test_show_gives_every_figure_with_its_unit_and_source(name, call, capsys):
    assert call("show", name) == 0
    lines = capsys.readouterr().out.splitlines()
    target = Target.load(name)
    assert lines[0] == f"{name}: {target.description}"
    for key in target.figures:
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{key} ({FIGURES[key]}): "))
        assert lines[at + 1].strip() == target.sources.get(key, "by default")


def test_show_gives_what_is_no_figure(call, capsys):
    assert call("show", "binary_fpga") == 0
    printed = capsys.readouterr().out
    assert "granularity: layer or channel\n" in printed
    assert "first layer: weight bits 8, spike bits 8\n" in printed
    assert "last layer: weight bits 8\n" in printed
    assert "memory.weight_bytes (bytes): 1,883,520\n" in printed
    assert "energy" not in printed
    assert call("show", "neuromorphic") == 0
    printed = capsys.readouterr().out
    assert "only non-zero spikes cost operations" in printed
    assert "energy.accumulate (pJ an accumulation): 23.6\n" in printed
    assert "first layer" not in printed
    assert call("show", "generic") == 0
    printed = capsys.readouterr().out
    assert "every spike costs operations" in printed
    assert "energy.bit_operation (pJ a bit operation): 0.003125\n" in printed


def test_show_prints_a_users_text_as_it_is(call, capsys, tmp_path):
    file = tmp_path / "mine.toml"
    text = shipped("generic").replace("assumption: every width that bitsearch plans", "[red]page [/] 3", 1)
    file.write_text(text, encoding="utf-8")
    assert call("show", str(file)) == 0
    assert "[red]page [/] 3\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", Target.names())
def test_show_json_prints_the_target(name, call, capsys):
    assert call("show", name, "--json") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["name"] == name
    assert Target.model_validate_json(printed) == Target.load(name)


def test_show_gives_limits_as_people_read_them(call, capsys):
    assert call("show", "speck_2f") == 0
    printed = capsys.readouterr().out
    assert "cores: a layer has to fit one\n" in printed
    assert "limits.pooling (kinds of pooling): average, sum\n" in printed
    assert "convolution.kernel_sizes (pixels a side): 1–16\n" in printed
    assert call("show", "xylo_2") == 0
    assert "limits.pooling (kinds of pooling): none\n" in capsys.readouterr().out


def test_new_writes_a_target_that_is_checked_and_shown(call, capsys, tmp_path):
    file = tmp_path / "my_chip.toml"
    assert call("new", str(file)) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert call("check", str(file)) == 0
    assert Target.load(file).name == "my_chip"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("there.toml", "there.toml is there already; give another name, or remove it"),
        ("my_chip", "my_chip does not end in .toml"),
        ("two words.toml", "target 'two words': name is 'two words': String should match pattern"),
        ("missing/mine.toml", "cannot write missing/mine.toml: No such file or directory"),
    ],
)
def test_new_writes_over_nothing_and_under_no_odd_name(name, said, call, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.toml").write_text("mine", encoding="utf-8")
    assert call("new", name) != 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]
    assert (tmp_path / "there.toml").read_text(encoding="utf-8") == "mine"


def test_check_says_that_a_target_is_valid(call, capsys, tmp_path):
    for file in (tmp_path / "mine.toml", tmp_path / "mine"):
        file.write_text(shipped("generic"), encoding="utf-8")
        assert call("check", str(file)) == 0
        assert capsys.readouterr().out == f"{file}: a valid target\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "faulty.toml"], "faulty.toml: spike_bits.7 is 9: Input should be less than or equal to 8"),
        (["show", "faulty.toml"], "faulty.toml: spike_bits.7 is 9: Input should be less than or equal to 8"),
        (["check", "generic"], "no hardware target at generic; give the path of an existing file"),
        (["show", "genric"], f"shipped: {', '.join(Target.names())}; or give the path"),
        (["show", "missing.toml"], "no hardware target at missing.toml"),
        (["show", "genric", "--json"], "no hardware target named 'genric'"),
    ],
)
def test_wrong_input_ends_with_one_line_and_exit_code_2(arguments, said, call, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = shipped("generic").replace("spike_bits = { low = 1, high = 8 }", "spike_bits = [1, 2, 3, 4, 5, 6, 7, 9]")
    (tmp_path / "faulty.toml").write_text(text, encoding="utf-8")
    assert call(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("bitsearch: ")
    assert len(printed.err.splitlines()) == 1
    assert said in printed.err


def test_without_a_command_the_help_names_all_four(call, capsys):
    assert call("--help") == 0
    printed = capsys.readouterr().out
    for command in ("list", "show", "new", "check"):
        assert f"│ {command} " in printed


@pytest.mark.parametrize("arguments", [["--help"], ["targets", "--help"], ["targets", "show", "--help"]])
def test_help_loads_no_torch(arguments):
    script = f"""
import sys
from bitsearch.cli import main
sys.argv = ["bitsearch", *{arguments!r}]
try:
    main()
except SystemExit as ended:
    assert ended.code == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "targets" in done.stdout


@pytest.mark.parametrize("name", Target.names())
def test_a_target_printed_as_toml_is_the_same_target(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["bitsearch", "targets", "show", name, "--toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert Target.from_toml(capsys.readouterr().out) == Target.load(name)
