"""Hostile files: whatever is read is refused in one line, or runs.

``BITSEARCH_FUZZ=10000`` tries that many of each kind of file, ``BITSEARCH_FUZZ_SEED=1`` others.
"""

import hashlib
import json
import os
import resource
from math import prod

import pytest
import torch
from calibration import calibrate
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron
from torch import nn

from bitsearch import pack, read
from bitsearch.deploy.integer.packed_file import FORMAT_VERSION
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan

INPUTS = int(os.environ.get("BITSEARCH_FUZZ", "400"))
SEED = int(os.environ.get("BITSEARCH_FUZZ_SEED", "0"))
SMALL = 1 << 14
"""Currents for one input: networks of no more are run."""
MOST_MEMORY = 1 << 29
"""Bytes that reading hostile files may add to the process."""

hostile_numbers = st.one_of(
    st.integers(-3, 9),
    st.integers(),
    st.sampled_from([2**15, 2**24, 2**31, 2**32, 2**40, 2**63, 2**64, -1, -(2**31), 0]),
)
hostile_values = st.recursive(
    st.none() | st.booleans() | hostile_numbers | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


class File:
    """A packed file taken apart, so that it can be put together wrongly."""

    def __init__(self, data):
        length = int.from_bytes(data[:8], "little")
        self.entries = json.loads(data[8 : 8 + length])
        metadata = self.entries.pop("__metadata__")
        self.parts = {key: metadata[f"bitsearch.{key}"] for key in ("program", "widths", "plan", "source")}
        self.payload = data[8 + length :]
        self.content = {key: json.loads(self.parts[key]) for key in ("program", "widths", "source")}
        self.leaves = {key: list(leaves(content)) for key, content in self.content.items()}

    def bytes(self, parts, payload, entries):
        """The file, its checksum fitting to what it holds."""
        digest = hashlib.sha256(
            b"".join(parts[key].encode() + b"\0" for key in ("program", "widths", "plan", "source"))
        )
        for name, entry in sorted(entries.items()):
            begin, end = entry["data_offsets"]
            digest.update(name.encode() + b"\0" + payload[begin:end] + b"\0")
        metadata = {f"bitsearch.{key}": text for key, text in parts.items()}
        metadata |= {"bitsearch.format": str(FORMAT_VERSION), "bitsearch.sha256": digest.hexdigest()}
        header = json.dumps({"__metadata__": metadata, **entries}).encode()
        return len(header).to_bytes(8, "little") + header + payload


def leaves(content, path=()):
    """Paths of everything in a JSON document."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from leaves(value, (*path, key))


def changed(content, path, value):
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = changed(content[path[0]], path[1:], value)
    return copy


@st.composite
def damaged(draw, data):
    """Bytes replaced, cut off or put in; or nothing of the file at all."""
    kind = draw(st.sampled_from(["replace", "replace", "cut", "insert", "random"]))
    if kind == "random":
        return draw(st.binary(max_size=200))
    place = draw(st.integers(0, len(data) - 1))
    if kind == "cut":
        return data[:place]
    new = draw(st.binary(min_size=1, max_size=8))
    return data[:place] + new + data[place + (len(new) if kind == "replace" else 0) :]


@st.composite
def lying(draw, file):
    """Well-formed files with a fitting checksum, and one or two lies in the header or the payload."""
    parts, payload, entries = dict(file.parts), file.payload, file.entries
    for _ in range(draw(st.integers(1, 2))):
        target = draw(st.sampled_from(["program", "program", "program", "widths", "payload", "entries"]))
        if target == "payload":
            place = draw(st.integers(0, len(payload) - 4))
            payload = payload[:place] + draw(st.binary(min_size=4, max_size=4)) + payload[place + 4 :]
        elif target == "entries":
            name = draw(st.sampled_from(sorted(entries)))
            second_name = draw(st.sampled_from(sorted(entries)))
            entries = {**entries, name: {**entries[name], "dtype": entries[second_name]["dtype"]}}
        else:
            path = file.leaves[target][draw(st.integers(0, len(file.leaves[target]) - 1))]
            value = draw(hostile_numbers if draw(st.booleans()) else hostile_values)
            parts[target] = json.dumps(changed(file.content[target], path, value))
    return file.bytes(parts, payload, entries)


@pytest.fixture(scope="module", params=["static", "framed"])
def original(request, quantized, examples, tmp_path_factory):
    if request.param == "static":
        network, _ = quantized(weight_bits=3, spike_bits=4, time_steps=2)
    else:
        torch.manual_seed(0)
        network = make_network("digits_events_cnn", {"width": 2}, input_shape=(5, 2, 8, 8), classes=10)
        examples = torch.poisson(torch.full((5, 4, 2, 8, 8), 0.6), generator=torch.Generator().manual_seed(0))
        network = nn.Sequential(network, neuron.LIFNode(v_threshold=0.2, v_reset=None, step_mode="m"))
        names = ("0.conv1", "0.conv2", "0.conv3", "0.conv4", "0.classifier")
        plan = LayerPlan(weight_bits=3, spike_bits=(4, 2, 3), time_steps=3, frames=5, decay=0.5)
        network = convert(network, dict.fromkeys(names, plan))
        network[0].relu2 = InputCurrent(0.3)
        calibrate(network, examples)
    path = tmp_path_factory.mktemp("packed") / "packed"
    pack(network, examples, path)
    return path.read_bytes()


def test_hostile_files_are_refused_or_run(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "file"
    file = File(original)
    path.write_bytes(file.bytes(file.parts, file.payload, file.entries))
    read(path)
    refusals = set()
    counts = {"refused": 0, "run": 0, "too large to run here": 0}

    @seed(SEED)
    @settings(
        max_examples=INPUTS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.one_of(damaged(original), lying(file), lying(file)))
    def attempt(data):
        path.write_bytes(data)
        try:
            packed = read(path)
        except InputError as error:
            refusals.add(str(error))
            counts["refused"] += 1
            return
        replay = packed.replay()
        network_input = packed.program.input
        if max(prod(value.shape) for value in replay.analysis.values) * (network_input.frames or 1) > SMALL:
            counts["too large to run here"] += 1
            return
        shape = [2 if axis == "N" else axis for axis in network_input.axes]
        outputs = replay(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        last = replay.analysis.values[-1]
        assert outputs.shape[1:] == last.shape
        # Bounds hold, whatever the header says.
        assert last.low <= outputs.min()
        assert outputs.max() <= last.high
        counts["run"] += 1

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    attempt()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
    summary = {
        "seed": SEED,
        "files": sum(counts.values()),
        **counts,
        "MiB more": grown >> 20,
        "refusals": len(refusals),
    }
    print(f"\nhostile files: {json.dumps(summary)}")
    assert grown < MOST_MEMORY
    assert len(refusals) > 1
    assert not any("\n" in refusal for refusal in refusals)
    assert counts["run"] > 0
