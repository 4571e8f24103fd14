"""Files and arguments as nobody should write them: valid ones with faults in them, and noise."""

import copy
import json
import math

import tomli_w
import torch
from hypothesis import strategies as st

TEXTS = st.one_of(
    st.sampled_from(
        [
            *("", " ", "-", "--", "=", "a=b", "\x00", "\x1b[2J", "\n", "nan", "inf", "-1", "0", "1e999", "9" * 400),
            *("../..", "/", "/dev/null", "~", ".", "x" * 300, "a/b/c", "ü", "\u202e", "[/red]", "{}", "%s", "$(x)"),
            *("digits", "digits_cnn", "generic", "run", "4x", "memory=64KiB", "bit_budget", "adaptive", "uniform"),
            *("os:getcwd", "sys:exit", "json:loads", "pathlib:Path", "a.b:c", ":", "a:", ":b", "torch.nn:Linear"),
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12),
)
"""What may stand wherever text is asked for."""
LEAVES = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, -(2**70), 10**30]),
    st.floats(),
    st.sampled_from([1e308, 5e-324, -0.0, math.inf, math.nan]),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=4
)


TENSORS = st.builds(
    lambda shape, dtype, value: torch.full(shape, value, dtype=dtype),
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64]),
    st.integers(0, 1),
)


def paths(content, start=()):
    """The path of every value in nested tables and lists."""
    found = []
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found += [(*start, key), *paths(value, (*start, key))]
    return found


@st.composite
def changed(draw, content):
    """``content`` with one to three values replaced, removed or added."""
    result = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        places = paths(result)
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        table = result
        for key in path:
            table = table[key]
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "remove":
            del table[last]
        elif action == "add" and isinstance(table, dict):
            table[draw(TEXTS)] = draw(VALUES)
        else:
            table[last] = draw(VALUES)
    return result


@st.composite
def noise(draw, content):
    """Bytes with parts of them cut out, replaced or inserted; or others altogether."""
    data = bytearray(content)
    action = draw(st.sampled_from(["cut", "flip", "flip", "insert", "zero", "other"]))
    if action == "other":
        return draw(st.binary(max_size=200))
    start = draw(st.integers(0, max(len(data) - 1, 0)))
    if action == "cut":
        return bytes(data[:start])
    length = draw(st.integers(1, 40))
    piece = bytes(length) if action == "zero" else draw(st.binary(min_size=length, max_size=length))
    data[start : start + (0 if action == "insert" else length)] = piece
    return bytes(data)


def json_files(content):
    """Bytes of JSON files, most of them well formed."""
    text = json.dumps(content).encode()
    return changed(content).map(lambda value: json.dumps(value).encode()) | noise(text)


def toml_files(content):
    """Bytes of TOML files, most of them well formed."""

    def written(value):
        try:
            return tomli_w.dumps(value).encode()
        except (TypeError, ValueError):
            return b"= not TOML"

    return changed(content).map(written) | noise(tomli_w.dumps(content).encode())
