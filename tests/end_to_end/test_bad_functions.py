"""No cost metric, loss, score or package of the user's, however odd, ends in a traceback.

``BITSEARCH_INPUTS=1000`` tries so many of every kind.
"""

import json
import shutil
import tomllib
from pathlib import Path

import hostile
import odd_values
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_input import harmless, inputs, tried

from bitsearch.cost import METRICS

pytestmark = [pytest.mark.training, pytest.mark.exhaustive]

MODULE = (
    Path(odd_values.__file__).read_text(encoding="utf-8")
    + """
import json
from pathlib import Path

from torch import nn
from torch.utils.data import TensorDataset

import bitsearch

CALLS = {}


def samples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.rand(count, 6, generator=generator), torch.rand(count, 2, generator=generator))


def data():
    return samples(40, 0), samples(20, 1), samples(20, 2)


class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, classes))


def odd(name, right):
    fault = json.loads(Path("faults.json").read_text()).get(name)
    CALLS[name] = CALLS.get(name, 0) + 1
    if fault is None or CALLS[name] <= fault["after"]:
        return right
    return {
        "first": lambda: right[:1],
        "twice": lambda: torch.cat([right, right]) if torch.is_tensor(right) else numpy.concatenate([right, right]),
        "sum": lambda: right.sum(),
        "column": lambda: right.reshape(-1, 1),
        "below zero": lambda: right - 1e6,
        "falling": lambda: 1 / (1 + right),
        "mixed": lambda: right + right.sum(),
        "not a number": lambda: right * float("nan"),
        "without end": lambda: right * 1e308 * 1e308,
        "to zero": lambda: right * 0,
        "detached": lambda: right.detach(),
        "in numpy": lambda: numpy.asarray(right),
        "narrow": lambda: right.half() if torch.is_tensor(right) else right.astype("f2"),
        "whole": lambda: right.long() if torch.is_tensor(right) else right.astype("i8"),
        "random": lambda: right * torch.rand(()).item(),
        "counting": lambda: right * CALLS[name],
        "in place": lambda: right.__imul__(2),
        "item": lambda: right.sum().item(),
    }.get(fault["kind"], VALUES.get(fault["kind"]))()


def area(geometry, bits):
    return odd("area", geometry.macs * bits.weights * bits.spikes + bits.time_steps)


def loss(outputs, targets):
    return odd("loss", (outputs - targets).square().mean(1))


def score(outputs, targets):
    return odd("score", (outputs - targets).abs().mean(1))


AREA = bitsearch.DeclaredMetric(function="odd:area", description="Area.")
"""
)
CHANGES = [line.split('"')[1] for line in MODULE.splitlines() if line.startswith('        "')]
KINDS = st.sampled_from(sorted(odd_values.VALUES) + 2 * CHANGES)
SPACE = """
schema_version = 1
name = "odd"
network = "odd:Net"
data = "odd:data"

[task]
name = "own"
loss = "odd:loss"
metric = "odd:score"
direction = "down"

[first_layer]
weight_bits = 2
spike_bits = 2

[choices]
weight_bits = [2, 8]
spike_bits = [2, 4]
time_steps = [1, 2]

[training]
epochs = 1
full_precision_epochs = 1

[search]
trials = 1
uniform_trials = 1

[metrics.area]
function = "odd:area"
description = "Area."
"""
RUN = ("run", "--space", "odd.toml", "--budget", "area=1x", "--quiet", "--out", "run")


@pytest.fixture
def work(tmp_path_factory, monkeypatch):
    """A folder with network, data and functions without faults; metrics are forgotten afterwards."""
    folder = tmp_path_factory.getbasetemp() / "functions"
    folder.mkdir(exist_ok=True)
    (folder / "odd.py").write_text(MODULE)
    (folder / "odd.toml").write_text(SPACE)
    (folder / "faults.json").write_text("{}")
    known = dict(METRICS)
    yield folder
    METRICS.clear()
    METRICS.update(known)


def taken(call, work, faults, *command):
    METRICS.pop("area", None)
    (work / "faults.json").write_text(json.dumps(faults))
    try:
        return harmless(call(*command, cwd=work))
    finally:
        shutil.rmtree(work / "run", ignore_errors=True)


def test_without_a_fault_they_run(call, work):
    assert taken(call, work, {}, *RUN)
    assert taken(call, work, {}, "profile", "odd.toml")


@inputs(30)
@given(kind=KINDS, after=st.integers(0, 30))
def test_cost_metrics(kind, after, call, work):
    taken(call, work, {"area": {"kind": kind, "after": after}}, "profile", "odd.toml")


CALLED = {"area": 137, "loss": 7, "score": 11}
"""How often a run calls each function."""
PLACES = st.sampled_from(sorted(CALLED)).flatmap(lambda name: st.tuples(st.just(name), st.integers(0, CALLED[name])))


@inputs(6)
@given(place=PLACES, kind=KINDS)
def test_functions_in_a_run(place, kind, call, work):
    name, after = place
    taken(call, work, {name: {"kind": kind, "after": after}}, *RUN)


@inputs(25)
@given(data=st.data())
def test_declarations(data, call, work):
    """Of metrics, tasks, layer rules and ties, in a search space."""
    METRICS.pop("area", None)
    rules = {
        "layers": [{"match": "0", "weight_bits": {"low": 2, "high": 6}}, {"match": ["2", "4"], "spike_bits": [2, 4]}],
        "ties": [{"match": ["2", "4"], "share": ["spike_bits", "time_steps"]}, {"share": "streams"}],
    }
    declared = tomllib.loads(SPACE)
    table = data.draw(st.sampled_from([("metrics",), ("task",), ("layers",), ("ties",), ("layers", "ties")]))
    kept = {key: value for key, value in (declared | rules).items() if key not in table}
    part = {key: value for key, value in (declared | rules).items() if key in table}
    changed = data.draw(hostile.toml_files(part))
    content = hostile.tomli_w.dumps({key: value for key, value in kept.items() if not isinstance(value, dict | list)})
    tables = hostile.tomli_w.dumps({key: value for key, value in kept.items() if isinstance(value, dict | list)})
    tried(call, work, "mine.toml", b"\n".join([content.encode(), tables.encode(), changed]), ("profile", "mine.toml"))


POINTS = """
[bitsearch.networks]
odd_net = odd:Net
[bitsearch.data]
odd_data = odd:data
[bitsearch.targets]
odd_chip = odd:data
[bitsearch.metrics]
odd_area = odd:AREA
"""
"""What a package declares; where the module of an entry point is changed, its import is."""
NAMES = st.sampled_from(["odd_net", "odd_data", "odd_chip", "odd_area"])


@inputs(25)
@given(data=st.data(), kind=st.none() | st.sampled_from(sorted(odd_values.VALUES)))
def test_plug_ins(data, kind, call, work):
    """Packages whose declaration is damaged, whose import fails, and whose objects are others."""
    info = work / "odd_package-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-package\nVersion: 1.0\n")
    name = data.draw(st.sampled_from(["Net", "data", "AREA"]))
    (work / "odd.py").write_text(MODULE if kind is None else f"{MODULE}\n{name} = VALUES[{kind!r}]()\n")
    command = data.draw(
        st.sampled_from(
            [
                ("profile", "odd_net", "--data", "odd_data"),
                ("profile", "odd.toml", "--target", "odd_chip"),
                ("profile", "odd.toml", "--set", "metric='odd_area'"),
                ("data", "check", "odd_data"),
                ("targets", "show", "odd_chip"),
                ("spaces",),
                ("data", "list"),
                ("targets", "list"),
                ("doctor",),
            ]
        )
    )
    content = data.draw(st.just(POINTS.encode()) | hostile.noise(POINTS.encode()))
    tried(call, work, f"{info.name}/entry_points.txt", content, command)
