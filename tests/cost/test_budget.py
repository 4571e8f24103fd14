import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitsearch.cost.budget import Budget, check_metric, parse_request
from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel
from bitsearch.errors import InputError
from bitsearch.plan import UniformBits
from bitsearch.space import FirstLayer

BASELINE = UniformBits(weight_bits=8, spike_bits=4, time_steps=2)
SMALLEST = UniformBits(weight_bits=1, spike_bits=1, time_steps=1)
BINDABLE = ["bit_budget", "bit_budget_mac", "s_ace", "weight_memory"]


def layer(name, macs, weights, inputs, outputs, *, first=False):
    return LayerGeometry(name, macs, weights, inputs, outputs, signed_input=first, first=first)


MODEL = CostModel(
    (layer("conv1", 288, 18, 16, 2, first=True), layer("conv2", 288, 72, 32, 4), layer("fc", 48, 48, 16, 3))
)


def one_line(error):
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("request_text", "ratio", "number"),
    [
        ("4x", True, 4),
        ("4X", True, 4),
        ("4×", True, 4),
        (" 4 x", True, 4),
        ("4 x ", True, 4),
        ("2.5x", True, 2.5),
        (".5x", True, 0.5),
        ("16", False, 16),
        ("+16.", False, 16),
        ("1e3", False, 1000),
        ("1E+3x", True, 1000),
    ],
)
def test_requests_that_are_understood(request_text, ratio, number):
    assert parse_request(request_text) == (ratio, number)


@pytest.mark.parametrize(
    "request_text",
    [
        "",
        " ",
        "x",
        "X4",
        "4xx",
        "4x4",
        "four",
        "nan",
        "inf",
        "infx",
        "4 4",
        "1e",
        "1,5",
        "0x10",
        "4%",
        "--4",
        ".",
        "4x\x00",
    ],
)
def test_malformed_requests_are_refused(request_text):
    with pytest.raises(InputError, match="is not understood") as error:
        parse_request(request_text)
    assert repr(request_text) in one_line(error)
    assert "such as 4x" in str(error.value)


@pytest.mark.parametrize("request_text", ["0", "0x", "-4", "-4x", "-0", "1e999", "1e-999x", "0.0 x"])
def test_requests_that_are_not_positive_and_finite_are_refused(request_text):
    with pytest.raises(InputError, match="is not positive and finite") as error:
        parse_request(request_text)
    assert repr(request_text) in one_line(error)


@given(st.text(max_size=8))
def test_any_text_is_understood_or_refused_in_one_line(request_text):
    fault = ""
    try:
        _, number = parse_request(request_text)
    except InputError as error:
        fault = str(error)
    else:
        assert number > 0
    assert len(fault.splitlines()) <= 1


def test_a_ratio_divides_the_baselines_cost():
    budget = Budget.parse(" 4 x", "bit_budget", MODEL, BASELINE)
    # 8 · 4 · 2 = 64 on every layer, the first one too.
    assert budget == Budget("bit_budget", "4 x", pytest.approx(16))
    assert Budget.parse("8x", "s_ace", MODEL, BASELINE).limit == pytest.approx((288 + 288 + 48) * 64 / 8)


def test_a_number_is_the_limit_itself():
    assert Budget.parse("1e3", "weight_memory", MODEL, BASELINE) == Budget("weight_memory", "1e3", 1000.0)


def test_a_ratio_below_one_allows_more_than_the_baseline():
    assert Budget.parse("0.5x", "bit_budget", MODEL, BASELINE).limit == pytest.approx(128)


def test_a_faulty_request_is_refused_by_parse_as_well():
    for request_text in ("4xx", "0", "x"):
        with pytest.raises(InputError):
            Budget.parse(request_text, "bit_budget", MODEL, BASELINE)


def test_an_unknown_metric_lists_those_that_a_budget_can_bind():
    with pytest.raises(InputError, match="'energy' is not a cost metric") as error:
        Budget.parse("4x", "energy", MODEL, BASELINE)
    assert one_line(error).endswith("a budget can bind: " + ", ".join(BINDABLE))


def test_a_metric_known_only_after_training_cannot_be_bound():
    with pytest.raises(InputError, match="'ns_ace' is only known after training") as error:
        check_metric("ns_ace")
    assert "ns_ace" not in one_line(error).split("can bind:")[1]
    for metric in BINDABLE:
        check_metric(metric)


def test_outcome_says_whether_the_limit_is_kept():
    budget = Budget("s_ace", "16", 16.0)
    assert budget.outcome(16.0).met
    assert not budget.outcome(16.0000001).met
    kept = budget.outcome(15.0)
    assert (kept.metric, kept.requested, kept.limit, kept.achieved) == ("s_ace", "16", 16.0, 15.0)


def test_met_by_compares_the_plans_cost():
    plan = MODEL.uniform(BASELINE, None)
    assert Budget.parse("1x", "bit_budget", MODEL, BASELINE).met_by(MODEL, plan)
    assert not Budget.parse("1.01x", "bit_budget", MODEL, BASELINE).met_by(MODEL, plan)


def test_a_feasible_budget_passes():
    Budget.parse("4x", "bit_budget", MODEL, BASELINE).check_feasible(MODEL, SMALLEST, FirstLayer())


def test_an_infeasible_budget_by_hand():
    budget = Budget.parse("100", "s_ace", MODEL, BASELINE)
    with pytest.raises(InputError, match="is infeasible") as error:
        budget.check_feasible(MODEL, SMALLEST, FirstLayer())
    message = one_line(error)
    # The first layer keeps its 8/8/1, the others get 1/1/1.
    assert f"smallest feasible value is {288 * 64 + 288 + 48} (1/1/1 on every searched layer)" in message
    assert "budget 100 (s_ace ≤ 100 bit operations)" in message


def smallest_feasible(budget, model, smallest, first_layer):
    with pytest.raises(InputError, match="is infeasible") as error:
        budget.check_feasible(model, smallest, first_layer)
    return re.search(r"smallest feasible value is (\S+)", one_line(error))[1]


counts = st.integers(1, 10**9)
uniform = st.builds(
    UniformBits, weight_bits=st.integers(1, 8), spike_bits=st.integers(1, 8), time_steps=st.integers(1, 4)
)


@st.composite
def models(draw):
    size = draw(st.integers(1, 4))
    return CostModel([layer(f"layer{i}", *(draw(counts) for _ in range(4)), first=i == 0) for i in range(size)])


@settings(max_examples=150, deadline=None)
@given(models(), uniform, st.sampled_from(BINDABLE))
def test_the_smallest_feasible_value_is_feasible_and_close(model, smallest, metric):
    least = model.cost(metric, model.uniform(smallest, FirstLayer()))
    text = smallest_feasible(Budget(metric, "1e-9", 1e-9), model, smallest, FirstLayer())
    Budget.parse(text, metric, model, BASELINE).check_feasible(model, smallest, FirstLayer())
    assert least <= float(text) <= least * (1 + 1.1e-5)


@pytest.mark.parametrize("metric", BINDABLE)
def test_just_below_the_cheapest_plan_is_infeasible(metric):
    least = MODEL.cost(metric, MODEL.uniform(SMALLEST, FirstLayer()))
    Budget(metric, "least", least).check_feasible(MODEL, SMALLEST, FirstLayer())
    smallest_feasible(Budget(metric, "less", least * (1 - 1e-9)), MODEL, SMALLEST, FirstLayer())


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-3, 1e15))
@example(1.0)
@example(10.0)
@example(999999.5)
@example(1e6)
def test_what_the_message_says_is_never_below_the_cheapest_plan(least):
    class Priced(CostModel):
        def cost(self, metric, plan, firing_rates=None):
            return least

    text = smallest_feasible(Budget("s_ace", "1e-9", 1e-9), Priced(MODEL.layers), SMALLEST, FirstLayer())
    assert least <= float(text) <= least * (1 + 1.1e-5)


def test_the_smallest_feasible_value_is_feasible_where_floats_end_just_above_a_decimal():
    model = CostModel((layer("first", 1, 4, 4, 1, first=True), layer("second", 1, 96, 46, 1)))
    # W̄ = (4·8 + 96) / 100 = 1.28, S̄ = (4·8 + 46) / 50 = 1.56; in floats their product is 1.9968000000000001.
    text = smallest_feasible(Budget("bit_budget", "1", 1.0), model, SMALLEST, FirstLayer())
    Budget.parse(text, "bit_budget", model, BASELINE).check_feasible(model, SMALLEST, FirstLayer())


def test_every_metric_has_a_unit_for_the_message():
    assert all(METRICS[metric].unit for metric in METRICS)
