import math

import pytest

from bitsearch.report.format import SPACE
from bitsearch.report.front_figure import MOST_LAYERS_IN_HOVER, accuracy_ranges, front_figure, hover_text, metrics
from bitsearch.report.layers_figure import layers_figure
from bitsearch.report.origin import baseline_words, first_layer_words
from bitsearch.report.search_figure import search_figure, search_records
from bitsearch.search.front import pareto_front
from bitsearch.search.run_folder import RunBudget

WIDTHS = [(4, [4, 3]), (3, [3]), (2, [3, 2]), (6, [4, 3])]


@pytest.fixture
def drawn(run_folder):
    return front_figure(run_folder.plans(), run_folder.chosen(), run_folder.settings)


def test_every_trial_is_one_point(drawn):
    assert {trace.name: len(trace.x) for trace in drawn.figure.data[1:]} == {
        "Adaptive": 13,
        "Uniform": 14,
        "Chosen plan": 1,
    }
    assert len({trace.marker.symbol for trace in drawn.figure.data[1:]}) == 3
    assert len({trace.marker.color for trace in drawn.figure.data[1:]}) == 3


def test_front_is_a_step_line_from_cheap_to_dear(drawn, run_folder):
    line = drawn.figure.data[0]
    front = pareto_front(run_folder.plans(), "bit_budget")
    assert line.line.shape == "hv"
    assert list(line.x) == [plan.costs["bit_budget"] for plan in front]
    assert list(line.x) == sorted(line.x)
    assert list(line.y) == sorted(line.y)


def test_only_dominated_trials_fade(drawn, run_folder):
    on_front = {(plan.costs["bit_budget"], 100 * plan.accuracy.validation) for plan in run_folder.front()}
    for trace in drawn.figure.data[1:3]:
        bright = {(trace.x[index], trace.y[index]) for index in trace.selectedpoints}
        assert bright == on_front & set(zip(trace.x, trace.y, strict=True))


def lines(layout):
    return {shape["name"].replace(SPACE, " "): shape for shape in layout["shapes"]}


def test_lines_stand_at_limit_baseline_and_full_precision(drawn):
    found = lines(drawn.views["bit_budget"]["layout"])
    assert found["budget 4x: 16 bits"]["x0"] == found["budget 4x: 16 bits"]["x1"] == 16
    assert found["baseline 8/4/2: 64 bits"]["x0"] == 64
    assert found["full precision 98.89 %"]["y0"] == pytest.approx(98.89)
    labels = {note["text"]: note for note in drawn.views["bit_budget"]["layout"]["annotations"]}
    assert labels["budget 4x: 16 bits"]["x"] == pytest.approx(math.log10(16))


def test_other_metrics_have_their_baseline_and_no_limit(drawn, run_folder):
    assert list(drawn.views) == metrics(run_folder.plans(), "bit_budget")
    assert drawn.views.keys() == run_folder.chosen().costs.keys()
    for metric, view in drawn.views.items():
        names = " ".join(lines(view["layout"]))
        assert ("budget" in names) == (metric == "bit_budget")
        assert ("baseline" in names) == (metric not in ("ns_ace", "synops"))


def test_a_view_has_the_metrics_own_front(drawn, run_folder):
    for metric, view in drawn.views.items():
        front = pareto_front(run_folder.plans(), metric)
        assert view["data"]["x"][0] == [plan.costs[metric] for plan in front]
        assert view["layout"]["xaxis.type"] == "log"
        low, high = view["layout"]["xaxis.range"]
        for trace in view["data"]["x"]:
            assert all(low < math.log10(value) < high for value in trace)


def test_a_cost_of_zero_makes_the_axis_linear(run_folder):
    plans = [plan.model_copy(update={"costs": plan.costs | {"ns_ace": 0.0}}) for plan in run_folder.plans()]
    chosen = next(plan for plan in plans if plan.provenance.trial == 9)
    drawn = front_figure(plans, chosen, run_folder.settings)
    assert drawn.views["ns_ace"]["layout"]["xaxis.type"] == "linear"
    assert drawn.views["s_ace"]["layout"]["xaxis.type"] == "log"


def test_hover_shows_the_bits_of_every_layer(run_folder):
    text = hover_text(run_folder.chosen(), "bit_budget").replace(SPACE, " ").split("<br>")
    assert text[:3] == [
        "trial 9, adaptive",
        "validation 98.61 %, test 97.50 %",
        "Bit Budget W̄·S̄·T̄: 15.15 bits",
    ]
    assert text[-5:] == [
        "conv1  w8  s8  T1",
        "conv2  w4  s4,3  T2",
        "conv3  w3  s3  T1",
        "conv4  w2  s3,2  T2",
        "classifier  w6  s4,3  T2",
    ]


def test_hover_says_over_the_budget_and_what_is_not_measured(run_folder):
    text = hover_text(run_folder.plan(12), "bit_budget")
    assert "(over the budget)" in text
    assert "test —" in text


def test_hover_escapes_names_and_stops_at_some_layer(run_folder):
    chosen = run_folder.chosen()
    layer = chosen.layers["conv2"]
    many = {f"<b>{number}": layer for number in range(MOST_LAYERS_IN_HOVER + 3)}
    text = hover_text(chosen.model_copy(update={"layers": many}), "bit_budget")
    assert "<b>" not in text
    assert "&lt;b&gt;0  w4" in text
    assert text.endswith("… and 3 layers more")


def test_better_half_leaves_out_the_worst(run_folder):
    ranges = accuracy_ranges(run_folder.plans(), run_folder.settings)
    assert ranges["all"][0] < 74.17 < ranges["better"][0] < 98.61
    assert ranges["all"][1] == 100
    assert 98.89 < ranges["better"][1] <= 100


def test_a_plan_without_validation_is_no_point(run_folder, make_plan):
    plans = [*run_folder.plans(), make_plan(run_folder.settings, 99, WIDTHS, None)]
    drawn = front_figure(plans, run_folder.chosen(), run_folder.settings)
    assert sum(len(trace.x) for trace in drawn.figure.data[1:]) == 28


def test_layer_bars(run_folder):
    figure = layers_figure(run_folder.chosen())
    assert [trace.name for trace in figure.data] == ["Weight bits", "Spike bits", "Time steps"]
    weights, spikes, steps = figure.data
    assert list(weights.x) == [8, 4, 3, 2, 6]
    assert list(spikes.x) == [8, 3.5, 3, 2.5, 3.5]
    assert list(spikes.text) == ["8", "4, 3", "3", "3, 2", "4, 3"]
    assert list(steps.x) == [1, 2, 1, 2, 2]
    assert "spikes by time step: 4, 3 bits" in spikes.hovertext[1]
    assert list(figure.layout.yaxis.ticktext) == ["conv1", "conv2", "conv3", "conv4", "classifier"]


def test_search_records_are_those_of_the_trial_in_which_bits_moved(make_record):
    log = [
        make_record(3, 2),
        make_record(3, 1),
        make_record(4, 1),
        {"trial": 3, "phase": "fine-tune", "epoch": 3, "measures": {}},
        {"trial": 3, "phase": "search", "epoch": 4, "measures": {}},
        {"trial": 3, "phase": "search"},
        "not a record",
    ]
    records = search_records(log, 3)
    assert list(records) == [1, 2]
    assert search_records(log, 5) == {}


def test_search_figure_has_means_cost_and_limit(run_folder, make_record):
    records = search_records([make_record(9, epoch) for epoch in (1, 2, 3)], 9)
    figure = search_figure(records, run_folder.settings)
    assert [trace.name for trace in figure.data] == ["weight bits", "spike bits", "time steps", "cost"]
    assert list(figure.data[0].y) == [records[epoch]["mean_weight_bits"] for epoch in (1, 2, 3)]
    assert list(figure.data[3].y) == [records[epoch]["bit_budget"] for epoch in (1, 2, 3)]
    assert figure.layout.shapes[0].y0 == 16


DECLARED = (
    "The declared baseline is w8 s4 T2 (8-bit weights, 4-bit spikes, 2 time steps) on every layer, the first one "
    "included. "
)


def asked(requested, limit=16.0, metric="bit_budget"):
    return RunBudget(metric=metric, requested=requested, limit=limit)


def test_what_the_budget_meant(make_settings):
    assert baseline_words(make_settings()).replace(SPACE, " ") == DECLARED + (
        "The baseline's Bit Budget W̄·S̄·T̄ is 64 bits; a budget of 4x is that divided by 4: at most 16 bits."
    )
    for requested in ("16", "<odd>"):
        words = baseline_words(make_settings(budgets=(asked(requested),)))
        assert words.endswith(f"The budget on Bit Budget W̄·S̄·T̄ was given as {requested}: at most 16 bits.")
    assert "it counts in every cost" in first_layer_words(make_settings())


def test_what_every_budget_and_the_hardware_meant(make_settings, two_budgets):
    words = baseline_words(make_settings(target="power_of_two", budgets=two_budgets)).replace(SPACE, " ")
    assert words == DECLARED + (
        "The budget on Weight memory was given as 24KiB: at most 24 KiB. "
        "The baseline's S-ACE is 19.51 M bit operations; a budget of 2x is that divided by 2: at most 9.753 M bit "
        "operations. "
        "The hardware has Weight memory of at most 64 KiB. "
        "The hardware has Working memory, peak of at most 48 KiB."
    )


def test_every_budget_is_a_line_on_the_axis_of_its_metric(make_run_folder, two_budgets):
    folder = make_run_folder(target="power_of_two", budgets=two_budgets, metric="weight_memory")
    drawn = front_figure(folder.plans(), folder.chosen(), folder.settings)
    found = {
        metric: {name: line["x0"] for name, line in lines(view["layout"]).items() if "baseline" not in name}
        for metric, view in drawn.views.items()
    }
    full = {"full precision 98.89 %": 0}
    assert found == {
        "weight_memory": full | {"budget 24KiB: 24 KiB": 24 * 1024, "target power_of_two: 64 KiB": 65536},
        "s_ace": full | {"budget 2x: 9.753 M bit operations": two_budgets[1].limit},
        # What the chip has of working memory lies far beyond every plan.
        **dict.fromkeys(
            ("working_memory", "bit_budget", "bit_budget_mac", "ns_ace", "synops", "energy", "latency"), full
        ),
    }
    assert next(iter(found)) == "weight_memory"
    low, high = drawn.views["weight_memory"]["layout"]["xaxis.range"]
    assert low < math.log10(24 * 1024) < math.log10(65536) < high


def test_an_axis_without_a_budget_has_the_baseline_and_no_limit(make_run_folder, make_record):
    folder = make_run_folder(metric="s_ace")
    drawn = front_figure(folder.plans(), folder.chosen(), folder.settings)
    assert next(iter(drawn.views)) == "s_ace"
    assert list(drawn.figure.data[0].x) == [plan.costs["s_ace"] for plan in folder.front()]
    assert [name for name in lines(drawn.views["s_ace"]["layout"]) if "budget" in name] == []
    assert "budget 4x: 16 bits" in lines(drawn.views["bit_budget"]["layout"])
    records = search_records([make_record(9, epoch, "s_ace") for epoch in (1, 2)], 9)
    figure = search_figure(records, folder.settings)
    assert figure.layout.shapes == ()
    assert list(figure.data[3].y) == [records[epoch]["s_ace"] for epoch in (1, 2)]


@pytest.mark.parametrize("limits", [(24576.0, 65536.0), (65536.0, 24576.0)])
def test_the_search_shows_the_tightest_limit_of_its_metric(make_settings, make_record, limits):
    budgets = tuple(asked(f"{limit:g}", limit, "weight_memory") for limit in limits)
    settings = make_settings(budgets=budgets, metric="weight_memory")
    figure = search_figure(search_records([make_record(9, 1, "weight_memory")], 9), settings)
    assert [shape.y0 for shape in figure.layout.shapes] == [24576]
