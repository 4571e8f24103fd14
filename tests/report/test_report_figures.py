import json
import math
from itertools import pairwise

import pandas as pd
import pytest

from bitsearch.cost import Budget
from bitsearch.plan import Unquantized
from bitsearch.report import style
from bitsearch.report.front_axes import accuracy_ranges
from bitsearch.report.front_figure import front_figure, metrics
from bitsearch.report.history import TrialHistory, class_counts, histories, sample_counts
from bitsearch.report.origin import baseline_words, facts, first_layer_words, unquantized_facts
from bitsearch.report.page_data import page_data
from bitsearch.report.study_figures import (
    correlation_figure,
    curves_figure,
    importance_figure,
    layer_axis,
    layers_height,
)
from bitsearch.report.trial_details import details
from bitsearch.runs.pareto import pareto_front
from bitsearch.text import SPACE

WIDTHS = [(4, [4, 3]), (3, [3]), (2, [3, 2]), (6, [4, 3])]


@pytest.fixture
def drawn(run_folder):
    return front_figure(run_folder.plans(), run_folder.chosen(), run_folder.settings)


def test_every_trial_is_one_point(drawn, run_folder):
    figure, _ = drawn
    assert {trace.name: len(trace.x) for trace in figure.data[1:]} == {"Adaptive": 13, "Uniform": 14, "Chosen plan": 1}
    assert len({trace.marker.symbol for trace in figure.data[1:]}) == 3
    assert len({trace.marker.color for trace in figure.data[1:]}) == 3
    plans = run_folder.plans()
    for trace in figure.data[1:]:
        for index, cost, accuracy in zip(trace.customdata, trace.x, trace.y, strict=True):
            assert plans[index].costs["bit_budget"] == cost
            assert 100 * plans[index].accuracy.validation == accuracy


def test_front_is_a_step_line_from_cheap_to_dear(drawn, run_folder):
    line = drawn[0].data[0]
    front = pareto_front(run_folder.plans(), "bit_budget")
    assert line.line.shape == "hv"
    assert list(line.x) == [plan.costs["bit_budget"] for plan in front]
    assert all(before < after for before, after in pairwise(line.y))


def test_only_dominated_trials_fade(drawn, run_folder):
    on_front = {(plan.costs["bit_budget"], 100 * plan.accuracy.validation) for plan in run_folder.front()}
    for trace in drawn[0].data[1:3]:
        bright = {(trace.x[index], trace.y[index]) for index in trace.selectedpoints}
        assert bright == on_front & set(zip(trace.x, trace.y, strict=True))


def lines(view):
    return {shape["name"].replace(SPACE, " "): shape for shape in view.shapes}


def test_lines_stand_at_limit_baseline_and_full_precision(drawn):
    found = lines(drawn[1]["bit_budget"])
    assert found["budget 4x: 16 bits"]["x0"] == found["budget 4x: 16 bits"]["x1"] == 16
    assert found["baseline w8 s4 T2: 64 bits"]["x0"] == 64
    assert found["full precision 98.89 %"]["y0"] == pytest.approx(98.89)


def test_axes_are_in_a_unit_of_the_metric(drawn):
    view = drawn[1]["weight_memory"]
    assert view.title == "Weight memory (KiB)"
    assert view.scale.factor == 1024
    # The label has two decimals.
    assert lines(view)["baseline w8 s4 T2: 33.51 KiB"]["x0"] == pytest.approx(33.51, rel=0, abs=0.005)


def test_other_metrics_have_their_baseline_and_no_limit(drawn, run_folder):
    _, views = drawn
    assert list(views) == metrics(run_folder.plans(), "bit_budget")
    assert views.keys() == run_folder.chosen().costs.keys()
    for metric, view in views.items():
        names = " ".join(lines(view))
        assert ("budget" in names) == (metric == "bit_budget")
        assert ("baseline" in names) == (metric not in ("ns_ace", "synops"))
        low, high = view.range
        assert all(low < plan.costs[metric] / view.scale.factor < high for plan in run_folder.plans())


def test_a_cost_of_zero_makes_the_axis_linear(run_folder):
    plans = [plan.model_copy(update={"costs": plan.costs | {"ns_ace": 0.0}}) for plan in run_folder.plans()]
    chosen = next(plan for plan in plans if plan.provenance.trial == 9)
    figure, views = front_figure(plans, chosen, run_folder.settings.model_copy(update={"metric": "ns_ace"}))
    assert figure.layout.xaxis.type == "linear"
    assert views["ns_ace"].range[0] == 0
    assert views["s_ace"].range[0] > 0


def test_every_budget_is_a_line_on_the_axis_of_its_metric(make_run_folder, two_budgets):
    folder = make_run_folder(target="power_of_two", budgets=two_budgets, metric="weight_memory")
    _, views = front_figure(folder.plans(), folder.chosen(), folder.settings)
    found = {
        metric: {name for name in lines(view) if "baseline" not in name and "full" not in name}
        for metric, view in views.items()
    }
    # What the chip has of working memory lies far beyond every plan. What the hardware allows is not called a budget.
    assert {metric: names for metric, names in found.items() if names} == {
        "weight_memory": {"budget 24KiB: 24 KiB", "target power_of_two: 64 KiB"},
        "s_ace": {"budget 2x: 9.753 M bit operations"},
    }
    assert next(iter(views)) == "weight_memory"


def test_a_plan_without_validation_is_no_point(run_folder, make_plan):
    plans = [*run_folder.plans(), make_plan(run_folder.settings, 99, WIDTHS, None)]
    figure, _ = front_figure(plans, run_folder.chosen(), run_folder.settings)
    assert sum(len(trace.x) for trace in figure.data[1:]) == 28


def with_seed(plan, seed, trial, validation):
    return plan.model_copy(
        update={
            "provenance": plan.provenance.model_copy(update={"seed": seed, "trial": trial}),
            "accuracy": plan.accuracy.model_copy(update={"validation": validation}),
        }
    )


def test_seeds_have_shapes_and_their_bests_a_mean_with_error_bars(make_plan, make_settings):
    best = make_plan(make_settings(), 0, WIDTHS, 0.9)
    worse = make_plan(make_settings(), 1, [(1, [1])] * 4, 0.5)
    plans = [with_seed(best, 0, 0, 0.9), with_seed(worse, 0, 1, 0.5), with_seed(best, 1, 2, 0.94)]
    figure, views = front_figure(plans, plans[2], make_settings())
    own, spread = figure.data[1:3]
    assert (own.name, own.marker.symbol) == ("Adaptive, seed 0", "circle")
    assert spread.y[0] == pytest.approx(92)
    assert spread.error_y.array[0] == pytest.approx(100 * math.dist([0.9], [0.94]) / math.sqrt(2))
    assert spread.x[0] == pytest.approx(best.costs["bit_budget"])
    assert views["s_ace"].spread["error_x.array"] == [0.0]
    figure, _ = front_figure(plans, plans[0], make_settings())
    assert [(own.name, own.marker.symbol) for own in figure.data[1:3]] == [
        ("Adaptive, seed 0", "circle"),
        ("Adaptive, seed 1", "circle-open"),
    ]


def test_better_half_leaves_out_the_worst(run_folder):
    ranges = accuracy_ranges(run_folder.plans(), run_folder.settings)
    assert ranges["all"][0] < 74.17 < ranges["better"][0] < 98.61
    assert 98.89 < ranges["better"][1] <= ranges["all"][1]


def test_page_data_lists_every_trial_by_column(run_folder):
    plans, chosen = run_folder.plans(), run_folder.chosen()
    _, views = front_figure(plans, chosen, run_folder.settings)
    data = page_data(run_folder, plans, chosen, views)
    json.dumps(data, allow_nan=False)
    assert data["trials"]["trial"][data["chosen"]] == 9
    assert data["names"][9] == "Trial 9, adaptive"
    weights, spikes, steps = (kind[9] for kind in data["bits"])
    assert (weights, spikes, steps) == ([8, 4, 3, 2, 6], [8, 3.5, 3, 2.5, 3.5], [1, 2, 1, 2, 2])
    assert data["metrics"]["weight_memory"]["limit"] is None
    assert data["metrics"]["bit_budget"]["limit"] == 16
    # A product of means is no sum over the layers.
    assert data["metrics"]["bit_budget"]["shares"] == "s_ace"
    assert data["metrics"]["weight_memory"]["shares"] == "weight_memory"


def test_details_hold_the_plan_file_shares_and_commands(run_folder):
    plan = run_folder.chosen()
    history = TrialHistory(
        firing_rates={"conv2": 0.25},
        layer_costs={"s_ace": {"conv1": 1.0, "conv2": 2.0, "conv3": 0.0, "conv4": 0.0, "classifier": 1.0, "": 4.0}},
    )
    found = details(run_folder, plan, history)
    assert found["plan"] == run_folder.plan_file(9).read_text(encoding="utf-8")
    assert found["shares"] == {"s_ace": [0.125, 0.25, 0.0, 0.0, 0.125]}
    assert found["firing"] == [None, 0.25, None, None, None]
    assert found["curves"]["x"] == []
    assert dict(found["commands"])["Run the whole search again"] == "bitsearch run --budget 4x --seed 0"


def test_curves_run_through_the_phases(run_folder, make_record):
    first, second = make_record(3, 1), make_record(3, 2)
    first["bits"] = [[8, [8]], [4, [4, 2]]]
    first["measures"]["renewals"], second["measures"]["renewals"] = 2.0, 5.0
    tuned = {"trial": 3, "phase": "fine-tune", "epoch": 1, "loss": float("nan"), "bits": [[8, [8]], [3, [4]]]}
    history = histories([second, first, second, tuned, {"trial": 4}, "not a record", {"trial": 3, "phase": "search"}])
    assert list(history[3].epochs) == [("search", 2), ("search", 1), ("fine-tune", 1)]
    ordered = histories([first, second, tuned])[3]
    found = details(run_folder, run_folder.chosen(), ordered)["curves"]
    assert found["turns"] == [2.5]
    assert found["lines"]["loss"] == [0.02, 0.02, None]
    assert found["lines"]["validation_score"] == [98.0, 98.0, None]
    assert found["lines"]["renewals"] == [2, 3, 0]
    assert found["bits"] == [[[8, 4], [8, 4], [8, 3]], [[8, 3], [8, 3], [8, 4]], [[1, 2], [1, 2], [1, 1]]]
    assert found["text"][2] == "fine-tune, epoch 3"


def test_samples_are_read_from_the_log():
    assert sample_counts([{"phase": "data", "samples": {"train": 10, "test": float("nan")}}]) == {"train": 10}
    assert sample_counts(["odd", {"phase": "search"}]) == {}


@pytest.mark.parametrize(
    ("classes", "counts"),
    [
        ({"validation": {"cat": 3, "dog": 1}}, {"cat": 3, "dog": 1}),
        ({"validation": {"cat": 0}}, {}),
        ({"validation": [3]}, {}),
        ("odd", {}),
        (None, {}),
    ],
)
def test_counts_of_classes_are_read_if_they_are_there(classes, counts):
    assert class_counts(["odd", {"phase": "data", "classes": classes}]) == counts


def test_study_figures_hold_their_numbers():
    bars = importance_figure({"spike_price": (0.7, 0.4), "budget_share": (0.3, 0.6)}, trials=10)
    assert [list(trace.x) for trace in bars.data] == [[30.0, 70.0], [60.0, 40.0]]
    assert list(bars.layout.yaxis.ticktext) == ["budget_share", "spike_price"]
    table = pd.DataFrame({"weight bits": [0.5, float("nan")]}, index=["a", "<b>"])
    heat = correlation_figure(table, trials=10)
    assert [list(row) for row in heat.data[0].z] == [[0.5], [None]]
    assert list(heat.layout.yaxis.ticktext) == ["a", "&lt;b&gt;"]
    assert {trace.marker.color for trace in bars.data} == {style.BLUE, style.ORANGE}
    few = importance_figure({"spike_price": (0.7, 0.4), "budget_share": (0.3, 0.6)}, trials=9)
    assert {trace.marker.color for trace in few.data} == {style.CLEAR}
    assert (heat.data[0].zmin, correlation_figure(table, trials=9).data[0].zmin) == (-1, -3)
    assert [trace.meta for trace in curves_figure(["a"]).data[:2]] == ["loss", "validation_score"]


def test_of_many_layers_not_every_one_is_named():
    names = [f"layer{index}" for index in range(100)]
    axis = layer_axis(names)
    assert axis["tickvals"] == list(range(0, 100, 2))
    assert axis["ticktext"][1] == "layer2"
    assert layer_axis(names[:60])["ticktext"] == names[:60]


def test_every_label_of_a_layer_has_a_row_as_high_as_its_letters():
    for count in (1, 4, 50, 60, 61, 100, 1000):
        labels = len(layer_axis([f"layer{index}" for index in range(count)])["ticktext"])
        assert (layers_height(count) - 70) / labels >= 17


def test_facts_name_data_split_and_seeds(make_settings):
    found = facts(make_settings(), {"train": 1077, "test": 360}, {}, [2, 0])
    assert found["Data"] == "digits, 1,077 for train, 360 for test (split seed 0)"
    assert found["Seed"] == "0, 2"
    assert "Classes" not in found


def test_facts_name_the_classes_and_their_shares(make_settings):
    few = facts(make_settings(), {}, {"cat": 1, "dog": 3}, [0])["Classes"]
    assert few.replace(SPACE, " ") == "2; of validation: dog 75.00 %, cat 25.00 %"
    many = facts(make_settings(), {}, {str(label): 2 for label in range(50)}, [0])["Classes"]
    assert many.replace(SPACE, " ").endswith("10 2.00 %, 11 2.00 %, and 38 smaller ones")


def test_facts_name_what_is_not_the_default_recipe(make_settings):
    settings = make_settings()
    assert facts(settings, {}, {}, [])["Training"].endswith("batches of 64")
    space = settings.space.with_training({"optimizer": "sgd", "schedule": "multi_step", "ema": 0.9})
    found = facts(settings.model_copy(update={"space": space}), {}, {}, [])
    assert found["Training"].endswith("batches of 64, optimizer sgd, schedule multi_step, ema 0.9")


DECLARED = (
    "The declared baseline is w8 s4 T2 (8-bit weights, 4-bit spikes, 2 time steps) on every layer, the first one "
    "included. "
)


def asked(requested, limit=16.0, metric="bit_budget"):
    return Budget(metric=metric, requested=requested, limit=limit)


def test_what_the_budget_meant(make_settings, make_plan):
    assert baseline_words(make_settings()).replace(SPACE, " ") == DECLARED + (
        "The baseline's Bit Budget W̄·S̄·T̄ is 64 bits; a budget of 4x is that divided by 4: at most 16 bits."
    )
    for requested in ("16", "<odd>"):
        words = baseline_words(make_settings(budgets=(asked(requested),)))
        assert words.endswith(f"The budget on Bit Budget W̄·S̄·T̄ was given as {requested}: at most 16 bits.")
    plan = make_plan(make_settings(), 0, WIDTHS, 0.9)
    assert "it counts in every cost" in first_layer_words(make_settings(), plan)
    settings = make_settings()
    free = settings.space.first_layer.model_copy(update={"time_steps": None})
    settings = settings.model_copy(update={"space": settings.space.model_copy(update={"first_layer": free})})
    assert "w8 s8 T1, or a step a frame where frames differ, in every plan" in first_layer_words(settings, plan)


def test_what_keeps_32_bits_is_told(make_settings, make_plan):
    plan = make_plan(make_settings(), 0, WIDTHS, 0.9)
    assert unquantized_facts(plan) == {}
    kept = {f"lookup{index}": Unquantized(reason="an odd layer", weights=1200, macs=0) for index in range(10)}
    plan = plan.model_copy(update={"unquantized": kept})
    listed = [f"lookup{index} (1,200 weights; an odd layer)" for index in range(8)]
    assert unquantized_facts(plan) == {"Kept at 32 bits": ", ".join(listed) + ", and 2 more"}
    assert "input: unless it keeps 32 bits, its bits are" in first_layer_words(make_settings(), plan)


def test_what_every_budget_and_the_hardware_meant(make_settings, two_budgets):
    words = baseline_words(make_settings(target="power_of_two", budgets=two_budgets)).replace(SPACE, " ")
    assert words == DECLARED + (
        "The budget on Weight memory was given as 24KiB: at most 24 KiB. "
        "The baseline's S-ACE is 19.51 M bit operations; a budget of 2x is that divided by 2: at most 9.753 M bit "
        "operations. "
        "The hardware has Weight memory of at most 64 KiB. "
        "The hardware has Working memory, peak of at most 48 KiB."
    )


def test_the_cheapest_plan_within_one_standard_error_has_a_ring(run_folder):
    plans, chosen = run_folder.plans(), run_folder.chosen()
    within = next(plan for plan in plans if plan != chosen)
    figure, _ = front_figure(plans, chosen, run_folder.settings, within)
    ring = next(trace for trace in figure.data if trace.name == "Cheapest within one standard error")
    assert list(ring.customdata) == [plans.index(within)]
    assert figure.data[-1].name == "Chosen plan"
