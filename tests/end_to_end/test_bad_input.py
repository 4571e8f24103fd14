"""No file and no argument, however odd, ends in a traceback: it is taken, or refused in one line with exit code 2.

``BITSEARCH_INPUTS=1000`` tries so many of every kind.
"""

import io
import json
import os
import shutil
import sqlite3
import tomllib
from importlib import resources

import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import write_mnist
from PIL import Image
from typer.main import get_command

from bitsearch.cli import app
from bitsearch.errors import InputError

pytestmark = [pytest.mark.training, pytest.mark.exhaustive]
COUNT = int(os.environ.get("BITSEARCH_INPUTS", "0"))


def inputs(count):
    """So many inputs, the same at every run; or as many as the environment asks for."""
    return settings(
        max_examples=COUNT or count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


@pytest.fixture(scope="module")
def work(finished_run, tmp_path_factory):
    """A folder with a run, the files that its commands take, and what they were before."""
    folder = tmp_path_factory.mktemp("bad")
    shutil.copytree(finished_run.folder.path, folder / "run")
    plan = json.loads((folder / "run" / "plan.json").read_text())
    trial = plan["provenance"]["trial"]
    shutil.copy(folder / "run" / "weights" / f"trial-{trial:04d}.safetensors", folder / "weights.safetensors")
    return folder


def harmless(ended):
    """Whether the input was taken; otherwise it was refused in one line."""
    assert ended.returncode in (0, 2), ended
    if ended.returncode == 2:
        lines = [line for line in ended.stderr.splitlines() if not line.startswith("http://")]
        assert lines, ended
        assert all(line.startswith("bitsearch: ") for line in lines), ended
    for character in ended.stdout + ended.stderr:
        assert character == "\n" or character.isprintable() or character.isspace(), repr(character)
    return ended.returncode == 0


def tried(call, work, file, content, *commands):
    """Run commands with other bytes in a file, and then put the file back."""
    path = work / file
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(content)
    try:
        for command in commands:
            harmless(call(*command, cwd=work))
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@inputs(25)
@given(data=st.data())
def test_plans(data, call, work):
    content = data.draw(hostile.json_files(json.loads((work / "run" / "plan.json").read_text())))
    tried(
        call,
        work,
        "run/plan.json",
        content,
        ("evaluate", "run/plan.json"),
        ("profile", "digits", "--plan", "run/plan.json"),
    )


@inputs(40)
@given(data=st.data())
def test_plans_of_trials(data, call, work):
    file = "run/plans/trial-0000.json"
    content = data.draw(hostile.json_files(json.loads((work / file).read_text())))
    tried(call, work, file, content, ("export", "run"), ("export", "run", "--budget", "4x"))


@inputs(40)
@given(data=st.data())
def test_run_settings(data, call, work):
    content = data.draw(hostile.toml_files(tomllib.loads((work / "run" / "run.toml").read_text())))
    tried(call, work, "run/run.toml", content, ("export", "run"), ("evaluate", "run/plan.json"))


@inputs(40)
@given(data=st.data())
def test_search_spaces(data, call, work, tiny_space_text):
    content = data.draw(hostile.toml_files(tomllib.loads(tiny_space_text)))
    tried(call, work, "mine.toml", content, ("profile", "mine.toml"))


@inputs(50)
@given(data=st.data(), name=st.sampled_from(["generic", "neuromorphic", "power_of_two", "binary_fpga"]))
def test_hardware_targets(data, name, call, work):
    text = resources.files("bitsearch").joinpath("cost", "targets", f"{name}.toml").read_text(encoding="utf-8")
    content = data.draw(hostile.toml_files(tomllib.loads(text)))
    commands = ("targets", "check", "chip.toml"), ("targets", "show", "chip.toml")
    tried(call, work, "chip.toml", content, *commands, ("targets", "show", "chip.toml", "--json"))
    network = ("profile", "digits_cnn", "--input-shape", "1,8,8", "--target", "chip.toml")
    tried(call, work, "chip.toml", content, network)


@inputs(3)
@given(data=st.data())
def test_logs(data, call, work):
    lines = [json.loads(line) for line in (work / "run" / "log.jsonl").read_text().splitlines()]
    index = data.draw(st.integers(0, len(lines) - 1))
    line = data.draw(hostile.json_files(lines[index]))
    content = b"\n".join([*(json.dumps(record).encode() for record in lines[:index]), line])
    tried(call, work, "run/log.jsonl", content, ("report", "run"))


@inputs(10)
@given(data=st.data())
def test_weights(data, call, work):
    content = data.draw(hostile.noise((work / "weights.safetensors").read_bytes()[:2000]))
    command = ("evaluate", "run/plan.json", "--weights", "bad.safetensors")
    tried(call, work, "bad.safetensors", content, command)


@inputs(6)
@given(data=st.data())
def test_studies(data, call, work):
    path = work / "run" / "study.db"
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert "trials" in tables
    content = data.draw(hostile.noise(path.read_bytes()))
    tried(call, work, "run/study.db", content, ("report", "run"))


@inputs(40)
@given(content=st.binary(max_size=80) | hostile.TEXTS.map(str.encode))
def test_modules(content, call, work):
    tried(call, work, "mine.py", content, ("profile", "mine:Net", "--input-shape", "1,8,8"))


MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@inputs(25)
@given(data=st.data(), name=st.sampled_from(MNIST), suffix=st.sampled_from(["", ".gz"]))
def test_idx_files(data, name, suffix, call, work):
    root = work / f"mnist{suffix}"
    if not root.exists():
        write_mnist(root, each=2, test_each=1, packed=bool(suffix))
    file = f"{root.name}/MNIST/raw/{name}{suffix}"
    content = data.draw(hostile.noise((work / file).read_bytes()))
    tried(call, work, file, content, ("data", "check", "mnist", "--root", root.name))


@inputs(25)
@given(data=st.data(), suffix=st.sampled_from(["png", "jpg", "bmp", "gif", "webp", "tiff"]))
def test_images(data, suffix, call, work):
    root = work / "images"
    for label in ("a", "b"):
        for index in range(6):
            (root / label).mkdir(parents=True, exist_ok=True)
            if not (root / label / f"{index}.png").exists():
                Image.new("RGB", (9, 7), (index, 0, 0)).save(root / label / f"{index}.png")
    stream = io.BytesIO()
    Image.new("RGB", (9, 7)).save(stream, suffix.replace("jpg", "jpeg"))
    content = data.draw(hostile.noise(stream.getvalue()))
    tried(
        call,
        work,
        f"images/a/x.{suffix}",
        content,
        ("data", "check", "image_folder", "--root", "images", "--set", "size=8"),
    )


FIXED = {
    "run": ["--space", "tiny.toml", "--device", "cpu", "--quiet"],
    "compare": ["--space", "tiny.toml", "--device", "cpu", "--quiet"],
    "worker": [],
    "proxy": [],
    "report": ["run"],
    "dashboard": ["run"],
    "export": ["run"],
    "diff": ["run/plan.json", "run/plan.json"],
    "evaluate": ["run/plan.json"],
    "train": ["run/plan.json", "--epochs", "1", "--quiet"],
    "deploy": ["run/plan.json"],
    "verify": ["weights.safetensors"],
    "profile": ["digits_cnn"],
    "spaces": [],
    "doctor": [],
    "targets show": ["generic"],
    "targets check": ["chip.toml"],
    "targets list": [],
    "data list": [],
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
def test_arguments(line, call, work, tiny_space_text, monkeypatch):
    (work / "tiny.toml").write_text(tiny_space_text)

    def stopped(*arguments, **options):
        raise InputError("so far, so good")

    # What lies in front of a training is real, and so is what lies in front of a server.
    for name in ("study.run._run", "runs.train_plan.train_at_plan", "study.worker.wait_for_study"):
        monkeypatch.setattr(f"bitsearch.{name}", stopped)
    monkeypatch.setattr("bitsearch.report.dashboard.LiveStudy", stopped)
    name, arguments = line
    before = {path: path.stat().st_mtime for path in work.rglob("*")}
    harmless(call(*name.split(), *arguments, cwd=work))
    for path in sorted(set(work.rglob("*")) - set(before), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
