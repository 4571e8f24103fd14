"""No command line, however odd, ends in a traceback: it is taken, or refused in one line with exit code 2.

``BITSEARCH_INPUTS=1000`` tries so many.
"""

import hostile
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_input import harmless, inputs
from typer.main import get_command

from bitsearch.cli import app
from bitsearch.errors import InputError

pytestmark = [pytest.mark.training, pytest.mark.exhaustive]

FIXED = {
    "run": ["--space", "tiny.toml", "--device", "cpu", "--quiet"],
    "allocate": ["--space", "tiny.toml", "--device", "cpu", "--quiet"],
    "compare": ["--space", "tiny.toml", "--device", "cpu", "--quiet"],
    "worker": [],
    "proxy": [],
    "report": ["run"],
    "dashboard": ["run"],
    "export": ["run"],
    "diff": ["run/plan.json", "run/plan.json"],
    "merge": ["run", "run"],
    "evaluate": ["run/plan.json"],
    "train": ["run/plan.json", "--epochs", "1", "--quiet"],
    "deploy": ["run/plan.json"],
    "verify": ["weights.safetensors"],
    "profile": ["digits_cnn"],
    "sensitivity": ["run", "--samples", "4", "--quiet"],
    "spaces": [],
    "doctor": [],
    "targets show": ["generic"],
    "targets check": ["chip.toml"],
    "targets new": ["new_chip.toml"],
    "targets list": [],
    "data list": [],
    "networks list": [],
    "data check": ["digits"],
}
"""Arguments of every command; each is replaced, or followed by an option with an odd value."""
SLOW = {"--help", "--processes", "--figures", "--storage", "--artifacts", "--wait"}
"""Options whose values start processes, wait for servers, or draw for seconds."""


def leaf_commands(command, path=()):
    if not hasattr(command, "commands"):
        return {" ".join(path): command}
    return {
        key: value
        for name, part in command.commands.items()
        for key, value in leaf_commands(part, (*path, name)).items()
    }


COMMANDS = leaf_commands(get_command(app))


def test_every_command_is_tried():
    assert set(FIXED) == set(COMMANDS)


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from(sorted(COMMANDS)))
    arguments = list(FIXED[name])
    options = [
        option
        for parameter in COMMANDS[name].params
        for option in parameter.opts
        if option.startswith("--") and option not in SLOW
    ]
    for _ in range(draw(st.integers(1, 2))):
        if arguments and not arguments[0].startswith("--") and draw(st.integers(0, 3)) == 0:
            arguments[0] = draw(hostile.TEXTS).replace("\x00", "")
        elif options:
            value = draw(hostile.TEXTS | st.integers().map(str) | st.floats().map(str)).replace("\x00", "")
            arguments.append(f"{draw(st.sampled_from(options))}={value}")
        else:
            arguments.append(draw(hostile.TEXTS).replace("\x00", ""))
    return name, arguments


@inputs(200)
@given(line=command_lines())
def test_arguments(line, call, copied_run, tiny_space_text, monkeypatch):
    (copied_run / "tiny.toml").write_text(tiny_space_text)

    def stopped(*arguments, **options):
        raise InputError("so far, so good")

    # What lies in front of a training is real, and so is what lies in front of a server.
    names = (
        "study.run._run",
        "post_training.run.full_precision",
        "runs.train_plan.train_at_plan",
        "study.sensitivity._measured",
    )
    for name in (*names, "study.worker.wait_for_study"):
        monkeypatch.setattr(f"bitsearch.{name}", stopped)
    monkeypatch.setattr("bitsearch.report.dashboard.LiveStudy", stopped)
    name, arguments = line
    before = {path: path.stat().st_mtime for path in copied_run.rglob("*")}
    harmless(call(*name.split(), *arguments, cwd=copied_run))
    for path in sorted(set(copied_run.rglob("*")) - set(before), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
