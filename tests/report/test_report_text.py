import dataclasses
import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch import text as text
from bitsearch.cost.metrics import METRICS
from bitsearch.report.definitions import definitions


def plain(written):
    return written.replace(text.SPACE, " ")


@pytest.mark.parametrize(("share", "expected"), [(0.98056, "98.06 %"), (1.0, "100.00 %"), (0.0, "0.00 %"), (None, "—")])
def test_accuracy(share, expected):
    assert plain(text.score_text(share)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (15.15, "15.2"),
        (16.0, "16"),
        (999.4, "999"),
        (999.6, "1 k"),
        (1_900_000, "1.9 M"),
        (999_600, "1 M"),
        (4.75e9, "4.75 G"),
    ],
)
def test_number(value, expected):
    assert plain(text.number(value)) == expected


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("bit_budget", 15.2, "15.2 bits"),
        ("s_ace", 1.9e6, "1.9 M bit operations"),
        ("weight_memory", 5530, "5.4 KiB"),
        ("weight_memory", 1000, "1000 B"),
        ("weight_memory", 1023.9, "1 KiB"),
        ("weight_memory", 1010 * 1024, "1010 KiB"),
        ("weight_memory", 3 * 2**20, "3 MiB"),
        ("energy", 2e6, "2 µJ"),
        ("energy", 0.5, "0.5 pJ"),
        ("energy", 0, "0 pJ"),
        ("energy", 999.6, "1 nJ"),
        ("energy", 1.2345e10, "12.3 mJ"),
        ("energy", 4e15, "4e+03 J"),
        ("energy", None, "—"),
        ("latency", 1.5e-3, "1.5 ms"),
        ("latency", 1, "1 s"),
        ("latency", 999.6e-9, "1 µs"),
        ("latency", 20e-9, "20 ns"),
        ("latency", 3e-12, "3 ps"),
        ("latency", 0, "0 ps"),
        ("cores", 5, "5 cores"),
        ("synops", 12_500, "12.5 k synaptic operations"),
        ("somebody's", 12.0, "12"),
        ("bit_budget", None, "—"),
    ],
)
def test_cost(metric, value, expected):
    assert plain(text.cost(metric, value)) == expected


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("bit_budget", 16.0, "16.0"),
        ("bit_budget", 33, "33.0"),
        ("bit_budget", 1.5, "1.50"),
        ("bit_budget", 0.05, "0.0500"),
        ("bit_budget", 2, "2.00"),
        ("bit_budget", 0, "0"),
        ("s_ace", 1e7, "10.0 M"),
        ("weight_memory", 12 * 1024, "12.0 KiB"),
        ("weight_memory", 1010, "1010 B"),
        ("energy", 2e6, "2.00 µJ"),
        ("latency", 1.5e-3, "1.50 ms"),
        ("cores", 5, "5.00"),
        ("s_ace", None, "—"),
    ],
)
def test_aligned(metric, value, expected):
    assert plain(text.aligned(metric, value)) == expected


def test_shared_widths(make_plan, make_settings):
    uniform = make_plan(make_settings(), 0, [(4, [4])] * 4, 0.9, "uniform")
    mixed = make_plan(make_settings(), 0, [(4, [4])] * 3 + [(5, [4])], 0.9)
    assert text.shared_widths(uniform) == "w4 s4 T1"
    assert text.shared_widths(mixed) is None


def test_plotly_text_leaves_no_markup():
    assert text.plotly_text("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"


@given(
    names=st.lists(
        st.from_regex(r"(blocks|stage)\.[0-9]{1,2}\.(conv|down)[0-9]?(\.layer)?", fullmatch=True), unique=True
    ),
    most=st.integers(8, 30),
)
def test_labels_of_layers_differ_and_fit(names, most):
    labels = text.short_names(names, most)
    assert len(set(labels)) == len(names)
    assert all(len(label) <= most for label in labels)
    assert all(label == name for name, label in zip(names, labels, strict=True) if len(name) <= most)


@pytest.mark.parametrize(
    ("names", "most", "labels"),
    [
        (["stem", "stages.0.blocks.0.conv1"], 14, ["stem", "…locks.0.conv1"]),
        (["a.b.conv1", "a.c.conv1", "d"], 6, ["a.b…v1", "a.c…v1", "d"]),
        ([f"stages.{stage}.blocks.0.conv1" for stage in (0, 1)], 14, ["stages.….conv1", "stages.….con…2"]),
    ],
)
def test_labels_of_layers_keep_what_tells_them_apart(names, most, labels):
    assert text.short_names(names, most) == labels


@pytest.mark.parametrize("length", [1, 60, 61, 300])
def test_a_name_stands_whole_beside_the_pointer(length):
    name = ("stages.0.<b>&" * 30)[:length]
    lines = text.plotly_lines(name).split("<br>")
    assert html.unescape("".join(lines)) == name
    assert all(len(html.unescape(line)) <= 60 for line in lines)
    assert not any("<" in line for line in lines)


def test_a_name_that_no_window_holds_is_cut_in_its_middle():
    lines = text.plotly_lines("a" * 5000 + "b" * 5000).split("<br>")
    assert [len(line) for line in lines] == [60] * 5
    assert (lines[0][0], lines[-1][-1]) == ("a", "b")


@pytest.mark.parametrize("most", [5, 6, 9])
def test_shorten_keeps_both_ends(most):
    short = text.shorten("abcdefghij", most)
    assert len(short) == most
    assert short[0] == "a"
    assert short[-1] == "j"
    assert "…" in short
    assert text.shorten("abc", most) == "abc"


def test_a_metric_is_one_entry(monkeypatch):
    """The page knows a metric that somebody adds to the table, with nothing else."""
    added = dataclasses.replace(METRICS["s_ace"], name="mine", title="Mine", definition="What I count.")
    monkeypatch.setitem(METRICS, "mine", added)
    assert definitions(["mine"])["Mine"] == "What I count."
    assert "does not know" in definitions(["theirs"])["theirs"]


def test_every_metric_is_defined():
    assert [metric.title for metric in METRICS.values()] == list(definitions(list(METRICS)))[: len(METRICS)]
    for sentence in definitions(list(METRICS)).values():
        assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("metric", "values", "factor", "unit"),
    [
        ("bit_budget", [1.2, 15, 66], 1, "bits"),
        ("weight_memory", [500, 13000, 10**7], 1024, "KiB"),
        ("weight_memory", [0, 0], 1, "B"),
        ("s_ace", [9e5, 5e6, 2e7], 1e6, "M bit operations"),
        ("energy", [2e5], 1e3, "nJ"),
        ("latency", [1.5e-3], 1e-3, "ms"),
        ("unknown", [1e30], 1e18, "E"),
    ],
)
def test_scale_is_read_best_in_the_middle(metric, values, factor, unit):
    found = text.scale(metric, values)
    assert found.factor == pytest.approx(factor)
    assert found.unit == unit
    assert found.amount(factor * 1.23456) == "1.235"
    assert found.amount(None) == text.MISSING
