"""No sample, batch or network of several inputs, however odd, ends in a traceback: it is taken, or refused in one line.

``BITSEARCH_INPUTS=1000`` tries so many of every kind.
"""

import json
import runpy
import shutil
import tempfile
from pathlib import Path

import odd_values
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_input import harmless, inputs

import bitsearch
from bitsearch.errors import InputError, user_fault

pytestmark = [pytest.mark.training, pytest.mark.exhaustive]

MODULE = (
    Path(odd_values.__file__).read_text(encoding="utf-8")
    + """
import json
from collections import OrderedDict, namedtuple
from pathlib import Path

from torch import nn

TOKENS = 5
CHANGES = {
    "twice as long": lambda x: torch.cat([x, x]),
    "cut": lambda x: x[:1],
    "none": lambda x: x[:0],
    "an axis more": lambda x: x.unsqueeze(0),
    "an axis less": lambda x: x.sum(),
    "a list": lambda x: x.tolist(),
    "nested": lambda x: {"x": x},
    "in a tuple": lambda x: (x, x),
    "as floats": lambda x: x.float(),
    "as numbers": lambda x: x.long(),
    "as flags": lambda x: x.bool(),
    "as doubles": lambda x: x.double(),
    "as bytes": lambda x: x.to(torch.uint8),
    "beyond the last": lambda x: x.long() + TOKENS,
    "below zero": lambda x: x.long() - TOKENS,
    "far beyond": lambda x: x.long() + 2**40,
    "not a number": lambda x: x.float() * float("nan"),
}
NAMES = {"other": "other", "a number": 3, "empty": "", "no name": "a b", "of the network": "training", "itself": "self"}
Named = namedtuple("Named", ["wide", "narrow", "tokens"])
CONTAINERS = {
    "dict": dict,
    "ordered": OrderedDict,
    "tuple": lambda parts: tuple(parts.values()),
    "list": lambda parts: list(parts.values()),
    "named": lambda parts: Named(*parts.values()) if len(parts) == 3 else tuple(parts.values()),
    "backwards": lambda parts: dict(reversed(parts.items())),
    "names": lambda parts: list(parts),
    "set": lambda parts: set(map(str, parts)),
    "iterator": lambda parts: iter(parts.values()),
    "one": lambda parts: next(iter(parts.values()), None),
}


def changed(parts, container, faults):
    for action, name, kind in faults:
        if action == "container":
            container = kind
        elif action == "add":
            parts[NAMES[name]] = torch.rand(3)
        elif name not in parts:
            continue
        elif action == "remove":
            del parts[name]
        elif action == "rename":
            parts = {NAMES[kind] if key == name else key: value for key, value in parts.items()}
        elif action == "replace":
            parts[name] = VALUES[kind]()
        elif torch.is_tensor(parts[name]):
            parts[name] = CHANGES[kind](parts[name])
    return CONTAINERS[container](parts)


class Samples:
    def __init__(self, count, container, faults):
        self.count, self.container, self.faults = count, container, faults

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        parts = {"wide": torch.rand(6, generator=generator), "narrow": torch.rand(4, generator=generator)}
        parts["tokens"] = torch.randint(TOKENS, (3,), generator=generator)
        return changed(parts, self.container, self.faults.get("all", self.faults.get(str(index), []))), index % 3


def settings():
    return json.loads(Path("faults.json").read_text())


def data():
    given = settings()
    counts = {"train": 40, "validation": 34, "test": 33}
    return {part: Samples(count, given["container"], given.get(part, {})) for part, count in counts.items()}


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.wide, self.narrow, self.embedding = nn.Linear(6, 4), nn.Linear(4, 4), nn.Embedding(TOKENS, 4)
        self.last = nn.Linear(12, classes)

    def joined(self, wide, narrow, tokens):
        parts = [self.wide(wide), self.narrow(narrow), self.embedding(tokens).mean(-2)]
        return self.last(torch.cat(parts, -1).relu())


class Arguments(Net):
    def forward(self, wide, narrow, tokens):
        return self.joined(wide, narrow, tokens)


class Defaults(Net):
    def forward(self, wide, narrow=None, tokens=None):
        narrow = torch.zeros(len(wide), 4) if narrow is None else narrow
        return self.joined(wide, narrow, torch.zeros(len(wide), 3, dtype=torch.long) if tokens is None else tokens)


class Any(Net):
    def forward(self, *parts, **named):
        return self.joined(*parts, **named)


class Single(Net):
    def forward(self, parts):
        return self.joined(**parts) if isinstance(parts, dict) else self.joined(*parts)
"""
)
FILE = Path(tempfile.mkdtemp()) / "odd_inputs.py"
FILE.write_text(MODULE, encoding="utf-8")
SPACE = runpy.run_path(str(FILE))
FILE.unlink()
FILE.parent.rmdir()
CONTAINERS, CHANGES, NAMES = (sorted(SPACE[name]) for name in ("CONTAINERS", "CHANGES", "NAMES"))
PARTS = st.sampled_from(["wide", "narrow", "tokens"])
NETWORKS = st.sampled_from(["Arguments", "Arguments", "Defaults", "Any", "Single"])


def fault(values):
    """What is wrong with a sample or a batch: of one input, of its name, or of what holds them."""
    return st.one_of(
        st.tuples(st.just("change"), PARTS, st.sampled_from(CHANGES)),
        st.tuples(st.just("replace"), PARTS, st.sampled_from(values)),
        st.tuples(st.just("remove"), PARTS, st.none()),
        st.tuples(st.just("add"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("rename"), PARTS, st.sampled_from(NAMES)),
        st.tuples(st.just("container"), st.none(), st.sampled_from(CONTAINERS)),
    )


FAULTS = st.lists(fault(sorted(odd_values.VALUES)), min_size=1, max_size=2)
SAMPLES = st.dictionaries(st.just("all") | st.integers(0, 39).map(str), FAULTS, min_size=1, max_size=2)
DATA = st.fixed_dictionaries(
    {"container": st.sampled_from(["dict", "dict", "tuple", "named"])},
    optional={"train": SAMPLES, "validation": SAMPLES, "test": SAMPLES},
)
RUN = (
    *("--budget", "2x", "--trials", "1", "--quiet", "--out", "run"),
    *("--set", "training.epochs=1", "--set", "training.full_precision_epochs=1", "--set", "search.uniform_trials=1"),
)

SHORT = {"trials": 1, "epochs": 1, "full_precision_epochs": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    (folder / "odd.py").write_text(MODULE)
    return folder


@pytest.mark.parametrize("container", ["dict", "tuple", "named", "list"])
def test_without_a_fault_they_are_taken(container, call, work):
    (work / "faults.json").write_text(json.dumps({"container": container}))
    assert harmless(call("data", "check", "odd:data", cwd=work))
    assert harmless(call("profile", "odd:Arguments", "--data", "odd:data", cwd=work))


@inputs(40)
@given(faults=DATA)
def test_samples_of_several_inputs(faults, call, work):
    (work / "faults.json").write_text(json.dumps(faults))
    harmless(call("data", "check", "odd:data", cwd=work))


@inputs(20)
@given(faults=DATA, network=NETWORKS)
def test_networks_of_several_inputs(faults, network, call, work):
    (work / "faults.json").write_text(json.dumps(faults))
    harmless(call("profile", f"odd:{network}", "--data", "odd:data", cwd=work))


@inputs(4)
@given(faults=DATA, network=NETWORKS)
def test_runs_of_several_inputs(faults, network, call, work):
    (work / "faults.json").write_text(json.dumps(faults))
    try:
        harmless(call("run", "--model", f"odd:{network}", "--data", "odd:data", *RUN, cwd=work))
    finally:
        shutil.rmtree(work / "run", ignore_errors=True)


def batch(size, container, faults):
    generator = torch.Generator().manual_seed(size)
    parts = {"wide": torch.rand(size, 6, generator=generator), "narrow": torch.rand(size, 4, generator=generator)}
    parts["tokens"] = torch.randint(SPACE["TOKENS"], (size, 3), generator=generator)
    return SPACE["changed"](parts, container, faults)


class Batches:
    """A loader with one odd batch among good ones."""

    def __init__(self, container, faults):
        self.container, self.faults = container, faults

    def __iter__(self):
        for faults in ([], self.faults, []):
            yield batch(8, self.container, faults), torch.arange(8) % 3


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Of a search without a fault."""
    good, out = [Batches("dict", []) for _ in range(3)], tmp_path_factory.mktemp("result") / "run"
    return bitsearch.search(SPACE["Arguments"](3), good, "2x", out=out, **SHORT)


BATCHES = st.sampled_from(["dict", "dict", "tuple", "named"])
VALUES = [name for name in sorted(odd_values.VALUES) if not name.startswith("raise")]


@pytest.mark.filterwarnings("ignore:kept at 32 bits", "ignore:never called")
@inputs(40)
@given(
    action=st.sampled_from(["quantize", "search", "evaluate"]),
    network=NETWORKS,
    container=BATCHES,
    faults=st.lists(fault(VALUES), min_size=1, max_size=2),
)
def test_batches_of_several_inputs(action, network, container, faults, result, monkeypatch):
    def stopped(*arguments, **options):
        raise InputError("so far, so good")

    monkeypatch.setattr("bitsearch.study.run._run", stopped)
    odd, message = Batches(container, faults), "taken"
    try:
        if action == "quantize":
            bitsearch.quantize(SPACE[network](3), batch(8, container, faults))
        elif action == "search":
            bitsearch.search(SPACE[network](3), (Batches(container, []), odd, Batches(container, [])), "2x", **SHORT)
        else:
            result.evaluate(odd)
    except Exception as error:
        # What the user's own network raises is theirs: a command tells it in one line.
        message = str(error) if isinstance(error, InputError) else user_fault(error)
    assert message is not None
    assert message.strip()
    assert "\n" not in message
