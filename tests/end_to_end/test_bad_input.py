"""No file of a run, however odd, ends in a traceback: it is taken, or refused in one line with exit code 2.

``BITSEARCH_INPUTS=1000`` tries so many of every kind.
"""

import io
import json
import sqlite3
import tomllib
from importlib import resources

import hostile
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_input import inputs, tried

from bitsearch.models import make_network

pytestmark = [pytest.mark.training, pytest.mark.exhaustive]


@inputs(25)
@given(data=st.data())
def test_plans(data, call, copied_run):
    content = data.draw(hostile.json_files(json.loads((copied_run / "run" / "plan.json").read_text())))
    tried(
        call,
        copied_run,
        "run/plan.json",
        content,
        ("evaluate", "run/plan.json"),
        ("profile", "digits", "--plan", "run/plan.json"),
    )


@inputs(40)
@given(data=st.data())
def test_plans_of_trials(data, call, copied_run):
    file = "run/plans/trial-0000.json"
    content = data.draw(hostile.json_files(json.loads((copied_run / file).read_text())))
    tried(call, copied_run, file, content, ("export", "run"), ("export", "run", "--budget", "4x"))


@inputs(40)
@given(data=st.data())
def test_run_settings(data, call, copied_run):
    content = data.draw(hostile.toml_files(tomllib.loads((copied_run / "run" / "run.toml").read_text())))
    tried(call, copied_run, "run/run.toml", content, ("export", "run"), ("evaluate", "run/plan.json"))


@inputs(40)
@given(data=st.data())
def test_search_spaces(data, call, copied_run, tiny_space_text):
    content = data.draw(hostile.toml_files(tomllib.loads(tiny_space_text)))
    tried(call, copied_run, "mine.toml", content, ("profile", "mine.toml"))


@inputs(50)
@given(data=st.data(), name=st.sampled_from(["generic", "neuromorphic", "power_of_two", "binary_fpga"]))
def test_hardware_targets(data, name, call, copied_run):
    text = resources.files("bitsearch").joinpath("cost", "targets", f"{name}.toml").read_text(encoding="utf-8")
    content = data.draw(hostile.toml_files(tomllib.loads(text)))
    commands = ("targets", "check", "chip.toml"), ("targets", "show", "chip.toml")
    tried(call, copied_run, "chip.toml", content, *commands, ("targets", "show", "chip.toml", "--json"))
    network = ("profile", "digits_cnn", "--input-shape", "1,8,8", "--target", "chip.toml")
    tried(call, copied_run, "chip.toml", content, network)


@inputs(3)
@given(data=st.data())
def test_logs(data, call, copied_run):
    lines = [json.loads(line) for line in (copied_run / "run" / "log.jsonl").read_text().splitlines()]
    index = data.draw(st.integers(0, len(lines) - 1))
    line = data.draw(hostile.json_files(lines[index]))
    content = b"\n".join([*(json.dumps(record).encode() for record in lines[:index]), line])
    tried(call, copied_run, "run/log.jsonl", content, ("report", "run"))


@inputs(10)
@given(data=st.data())
def test_weights(data, call, copied_run):
    content = data.draw(hostile.noise((copied_run / "weights.safetensors").read_bytes()[:2000]))
    command = ("evaluate", "run/plan.json", "--weights", "bad.safetensors")
    tried(call, copied_run, "bad.safetensors", content, command)


@inputs(25)
@given(data=st.data())
def test_checkpoints(data, call, copied_run):
    """Of torch's, with other tensors, with what is none, and with bytes that are none."""
    state = make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10).state_dict()
    key = data.draw(st.sampled_from(sorted(state)))
    value = data.draw(hostile.TENSORS | hostile.VALUES)
    wrapper = data.draw(st.sampled_from([None, None, "state_dict", "model", "odd"]))
    state |= {data.draw(st.just(key) | hostile.TEXTS): value}
    stream = io.BytesIO()
    torch.save(state if wrapper is None else {wrapper: state}, stream)
    content = data.draw(st.just(stream.getvalue()) | hostile.noise(stream.getvalue()))
    tried(call, copied_run, "bad.pth", content, ("profile", "digits", "--set", "network_options.width=4", *BAD_PTH))


BAD_PTH = ("--weights", "bad.pth")


@inputs(6)
@given(data=st.data())
def test_studies(data, call, copied_run):
    path = copied_run / "run" / "study.db"
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert "trials" in tables
    content = data.draw(hostile.noise(path.read_bytes()))
    tried(call, copied_run, "run/study.db", content, ("report", "run"))


SOLVED = ("allocate", "--from", "scored", "--metric", "s_ace", "--budgets", "3x")


@pytest.fixture(scope="module")
def measured(call, copied_run, tiny_space_text):
    """The folder with a run of ``allocate`` in ``scored`` and the sensitivities of ``run``, both made in seconds."""
    (copied_run / "tiny.toml").write_text(tiny_space_text)
    quick = ("--samples", "16", "--iterations", "0", "--metric", "s_ace", "--quiet")
    allocated = call("allocate", "--space", "tiny.toml", "--budgets", "2x", *quick, "--out", "scored", cwd=copied_run)
    assert allocated.returncode == 0, allocated
    assert call("sensitivity", "run", "--samples", "4", "--quiet", cwd=copied_run).returncode == 0
    assert call(*SOLVED, cwd=copied_run).returncode == 0
    return copied_run


@inputs(25)
@given(data=st.data(), name=st.sampled_from(["scores.json", "scores.json", "run.toml"]))
def test_scores(data, name, call, measured):
    content = (measured / "scored" / name).read_bytes()
    changed = (
        hostile.json_files(json.loads(content))
        if name == "scores.json"
        else hostile.toml_files(tomllib.loads(content.decode()))
    )
    tried(call, measured, f"scored/{name}", data.draw(changed), SOLVED)


@inputs(3)
@given(data=st.data())
def test_sensitivities(data, call, measured):
    content = data.draw(hostile.json_files(json.loads((measured / "run" / "sensitivity.json").read_text())))
    tried(call, measured, "run/sensitivity.json", content, ("report", "run"))


@inputs(10)
@given(data=st.data(), name=st.sampled_from(["validation.safetensors", "test.safetensors", "trials.csv"]))
def test_what_was_measured(data, name, call, copied_run):
    content = data.draw(hostile.noise((copied_run / "run" / name).read_bytes()))
    tried(call, copied_run, f"run/{name}", content, ("export", "run", "--one-se"), ("report", "run"))


@inputs(15)
@given(data=st.data())
def test_packed_files(data, call, copied_run):
    """Bytes; what is well formed and lies is ``tests/deploy/integer/test_fuzz.py``'s."""
    packed = copied_run / "network.packed"
    if not packed.exists():
        assert call("deploy", "run/plan.json", "-o", "network.packed", cwd=copied_run).returncode == 0
    content = data.draw(hostile.noise(packed.read_bytes()))
    tried(call, copied_run, "run/bad.packed", content, ("verify", "run/bad.packed"))
