import shutil
import warnings

import pytest

import bitsearch
from bitsearch.cli import COMMANDS, FIRST_SPEAKS, app, doctor, main
from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.runs.plan_names import full_name
from bitsearch.space import SearchSpace


def call(arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bitsearch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--budget", "0x"], "not positive"),
        (["run", "--budget", "-4x"], "not positive"),
        (["run", "--budget", "four"], "4x"),
        (["run", "--budget", "100x"], "smallest feasible value is 1.24"),
        (["run", "--space", "digit"], "no search space named 'digit'; shipped: "),
        (["run", "--set", "training.epoch=3"], "digits with training.epoch=3: unknown field 'training.epoch'"),
        (["run", "--set", "training.epochs=0"], "training.epochs is 0: Input should be greater than or equal to 1"),
        (["run", "--set", "training.epochs"], "'training.epochs' sets nothing; give KEY=VALUE"),
        (["run", "--set", "name.x=3"], "name is 'digits', no table"),
        (["run", "--set", "data=digit"], "no data set named 'digit'"),
        (["run", "--space", "missing.toml"], "no search space at missing.toml"),
        (["run", "--metric", "watts"], "bit_budget, bit_budget_mac, s_ace, ns_ace, synops, weight_memory"),
        (["run", "--metric", "ns_ace"], "ns_ace depends on how often neurons fire"),
        (["run", "--max-drop", "little"], "max drop 'little' is not understood; give points of accuracy above 0"),
        (["run", "--minimize", "energy"], "minimize is for an accuracy goal; give max_drop too"),
        (
            ["worker", "--study", "s", "--storage", "sqlite://", "--logger", "wandb"],
            "which is a temporary one; give --folder",
        ),
        (["compare", "--logger", "tensorbord"], "no logger named 'tensorbord'; known: tensorboard"),
        (["run", "--sweep", "4x"], "give at least two budgets, each once, such as 4x,8x,16x"),
        (["merge", "nowhere", "elsewhere", "-o", "both"], "nowhere is not a run folder"),
        (["run", "--device", "tpu9"], "allowed: auto, cpu"),
        (["run", "--study", "mine"], "study and artifacts are for a study in a database; give its URL with --storage"),
        (["run", "--storage", "sqlite:///a.db"], "allowed: postgresql://user@host/database"),
        (["worker", "--study", "mine"], "no storage is given; give --storage"),
        (["worker", "--study", "mine", "--storage", "grpc://host"], "give a proxy as grpc://host:port"),
        (["proxy"], "no storage is given; give --storage"),
        (["export", "nowhere"], "not a run folder"),
        (["report", "."], "not a run folder"),
        (["evaluate", "nothing.json"], "no plan at nothing.json"),
        (["evaluate", "nothing.json", "--split", "exam"], "allowed: train, validation, test"),
        (["deploy", "nothing.json", "-o", "packed"], "no plan at nothing.json"),
        (["deploy", "nothing.json", "--format", "tflite"], "allowed: packed"),
        (["train", "nothing.json"], "no plan at nothing.json"),
        (["verify", "nothing.packed"], "cannot read the packed file nothing.packed: No such file or directory"),
        (["verify", "nothing.packed", "--split", "exam"], "allowed: train, validation, test"),
    ],
)
def test_wrong_input_ends_with_one_line_and_exit_code_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(arguments, monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert said in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--trials", "0"], "'--trials'"),
        (["run", "--seed", "-1"], "'--seed'"),
        (["run", "--seed", str(2**64)], "'--seed'"),
        (["fly"], "No such command 'fly'"),
        (["export"], "'RUN'"),
        (["run", "--budgt", "4x"], "--budget"),
        (["run", "--quiet", "--verbose"], "give one of them"),
        (["profile", "digits_cnn", "--input-shape", "3,100000,100000"], "more than 268,435,456 values"),
        (["profile", "digits_cnn", "--input-shape", "9" * 30], "give positive sizes"),
    ],
)
def test_wrong_options_end_with_one_line_and_exit_code_2(arguments, said, monkeypatch, capsys):
    assert call(arguments, monkeypatch) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("bitsearch: ")
    assert said in line
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["run", "--space", "digts"], "digits"),
        (["run", "--method", "adaptiv"], "adaptive"),
        (["run", "--target", "neuromorfic"], "neuromorphic"),
        (["run", "--metric", "memry"], "memory"),
        (["run", "--objective", "S_ACE1"], "s_ace"),
        (["run", "--budget", "enery=2nJ"], "energy"),
        (["run", "--model", "resnet-20"], "resnet20"),
        (["run", "--data", "digit_events"], "digits_events"),
        (["run", "--model-arg", "widht=3"], "width"),
        (["run", "--set", "training.epoch=3"], "epochs"),
        (["run", "--set", "allocation.ramp.step=3"], "steps"),
        (["run", "--set", "search.sampler=tbe"], "tpe"),
        (["compare", "--methods", "uniform,adaptve"], "adaptive"),
        (["deploy", "run", "--format", "onxx"], "onnx"),
        (["targets", "show", "generik"], "generic"),
        (["data", "check", "n_minst"], "n_mnist"),
        (["profile", "vgg_snn"], "vggsnn"),
    ],
)
def test_a_misspelt_name_is_told_the_one_that_may_be_meant(arguments, meant, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call(arguments, monkeypatch) == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {meant!r}?\n")


def test_a_name_that_is_close_to_none_is_told_those_there_are(monkeypatch, capsys):
    assert call(["run", "--objective", "accuracy"], monkeypatch) == 2
    assert capsys.readouterr().err == (
        "bitsearch: 'accuracy' is not a cost metric; allowed on 'generic': bit_budget, bit_budget_mac, s_ace, ns_ace, "
        "synops, weight_memory, working_memory, energy\n"
    )


def test_version_and_short_help(monkeypatch, capsys):
    assert call(["--version"], monkeypatch) == 0
    assert capsys.readouterr().out == f"bitsearch {bitsearch.__version__}\n"
    for arguments in (["-h"], ["run", "-h"], ["targets", "show", "-h"]):
        assert call(arguments, monkeypatch) == 0
        assert "Usage" in capsys.readouterr().out


def test_a_folder_stands_for_its_chosen_plan(finished_run, monkeypatch, capsys, tmp_path):
    run = str(finished_run.folder.path)
    outputs = []
    for path in (run, f"{run}/plan.json"):
        assert call(["evaluate", path], monkeypatch) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "accuracy" in outputs[0]
    assert call(["evaluate", str(tmp_path)], monkeypatch) == 2
    assert "is a folder without a run; give a plan.json" in capsys.readouterr().err


def test_help_names_every_command(monkeypatch, capsys):
    assert call(["--help"], monkeypatch) == 0
    printed = capsys.readouterr().out
    for command in ("run", "report", "export", "evaluate", "train", "deploy", "verify", "spaces", "doctor"):
        assert command in printed


def test_budgets_objective_target_and_settings_reach_the_search(monkeypatch, capsys):
    given = {}

    def stopped(space, budget, **options):
        given.update(options, space=space, budget=budget)
        raise InputError("enough")

    monkeypatch.setattr("bitsearch.study.run.search", stopped)
    assert call(["run"], monkeypatch) == 2
    assert given["budget"] == ["4x"]
    assert (given["objective"], given["target"], given["metric"]) == (None, None, None)
    assert given["space"] == SearchSpace.load("digits")
    overrides = ["--set", "training.epochs=3", "--set", "search.sampler=random"]
    assert call(["run", *overrides], monkeypatch) == 2
    assert (given["space"].training.epochs, given["space"].search.sampler) == (3, "random")
    assert "--set training.epochs=3" in given["command"]
    arguments = ["--budget", "memory=64KiB", "--budget", "s_ace=4x", "--objective", "energy", "--target", "mine.toml"]
    assert call(["run", *arguments], monkeypatch) == 2
    assert given["budget"] == ["memory=64KiB", "s_ace=4x"]
    assert (given["objective"], given["target"]) == ("energy", "mine.toml")
    assert "--budget memory=64KiB --budget s_ace=4x" in given["command"]


def test_a_uniform_plan_is_called_by_the_bits_of_the_layers_that_are_not_fixed():
    widths = {"first": (8, 8, 1), "middle": (1, 3, 2), "inner": (1, 3, 2), "last": (8, 3, 2)}
    layers = {name: {"weight_bits": w, "spike_bits": [s] * t, "time_steps": t} for name, (w, s, t) in widths.items()}
    plan = BitPlan.model_validate(
        {
            "space": "s",
            "network": "n",
            "budget": [],
            "baseline": {"weight_bits": 8, "spike_bits": 4, "time_steps": 2, "costs": {}},
            "layers": layers,
            "costs": {},
            "provenance": {"bitsearch": "0", "torch": "0", "seed": 0, "command": "c", "trial": 3, "method": "uniform"},
        }
    )
    assert full_name(plan) == "trial 3 (w1 s3 T2), uniform"
    adaptive = plan.model_copy(update={"provenance": plan.provenance.model_copy(update={"method": "adaptive"})})
    assert full_name(adaptive) == "trial 3, adaptive"


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupted(*arguments, progress, **options):
        progress.started(tmp_path, 5, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr("bitsearch.study.run.search", interrupted)
    assert call(["run"], monkeypatch) == 130
    assert f"--out {tmp_path}" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line_on_stderr(monkeypatch, capsys):
    def warned(*arguments, **options):
        warnings.warn("left in full precision and not counted: attention", stacklevel=1)
        raise InputError("enough")

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("bitsearch.study.run.search", warned)
    assert call(["run"], monkeypatch) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert lines == ["bitsearch: left in full precision and not counted: attention", "bitsearch: enough"]


@pytest.mark.filterwarnings("default")
def test_an_old_name_is_told_in_one_line_before_the_run(monkeypatch, capsys):
    def stopped(space, budget, **options):
        assert (space.allocation.ramp.steps, space.allocation.renewal.enabled) == (3, False)
        raise InputError("enough")

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("bitsearch.study.run.search", stopped)
    overrides = ["--set", "allocation.ramp_steps=3", "--set", "allocation.renewal=false"]
    assert call(["run", *overrides], monkeypatch) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert lines == [
        "bitsearch: allocation.ramp_steps=3, allocation.renewal=false: settings by old names: "
        "ramp_steps is now ramp.steps, renewal is now renewal.enabled",
        "bitsearch: enough",
    ]
    assert call(["run", "--quiet", *overrides], monkeypatch) == 2
    assert [line for line in capsys.readouterr().err.splitlines() if line.strip()] == ["bitsearch: enough"]


def test_a_plan_elsewhere_takes_its_space_from_a_run(finished_run, monkeypatch, capsys, tmp_path):
    run = finished_run.folder
    shutil.copy(run.chosen_file, tmp_path / "plan.json")
    weights = str(run.weights_file(run.chosen().provenance.trial))
    arguments = ["evaluate", str(tmp_path / "plan.json"), "--weights", weights]
    assert call(arguments, monkeypatch) == 2
    assert (
        "its search space 'tiny' is none that comes with bitsearch; give the folder of its run"
        in capsys.readouterr().err
    )
    assert call([*arguments, "--space", str(run.path)], monkeypatch) == 0
    assert capsys.readouterr().out.startswith("validation accuracy ")


def test_doctor_names_every_extra(monkeypatch, capsys):
    monkeypatch.setitem(doctor.EXTRAS, "s3", ("no-such-package",))
    assert call(["doctor"], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert all(f"extra {name}" in printed for name in doctor.EXTRAS)
    assert "no-such-package not installed" in printed


def test_without_arguments_the_first_four_things_are_shown_at_80_columns(monkeypatch, capsys):
    assert call([], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 80
    for command in ("run --budget 4x", "run --space mine.toml --weights", "export", "deploy"):
        assert f"  bitsearch {command}" in printed


def test_every_command_stands_under_a_heading_of_the_help():
    assert {command.rich_help_panel for command in app.registered_commands} <= set(COMMANDS)
    assert {group.rich_help_panel for group in app.registered_groups} <= set(COMMANDS)


@pytest.mark.parametrize("first", [True, False])
def test_another_process_lets_the_first_speak_and_then_tells_its_own(first, monkeypatch, capsys):
    waited = []

    def sleep(seconds):
        # Nothing has been said yet, so that who is ended now has said nothing.
        waited.append((seconds, capsys.readouterr().err))

    monkeypatch.setattr("bitsearch.cli.is_rank_zero", lambda: first)
    monkeypatch.setattr("bitsearch.cli.time.sleep", sleep)
    assert call(["run", "--budget", "four"], monkeypatch) == 2
    assert waited == ([] if first else [(FIRST_SPEAKS, "")])
    assert capsys.readouterr().err.count("budget 'four' is not understood") == 1
