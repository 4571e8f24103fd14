import re

import pytest
from cost_problems import ACTIVITY, ENERGY, EVENT_DRIVEN, HARDWARE, LATENCY, layer, make_target, uniform
from hypothesis import example, given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64

from bitsearch.choices import Choices, FirstLayer
from bitsearch.cost import AllowedBits
from bitsearch.cost.budget import Budget, check_metric, parse_budgets, parse_request, split_request
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel
from bitsearch.cost.units import UNITS
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule
from bitsearch.plan import UniformBits
from bitsearch.text import cost

BASELINE = uniform(8, 4, 2)
GENERIC = [
    "bit_budget",
    "bit_budget_mac",
    "s_ace",
    "ns_ace",
    "synops",
    "weight_memory",
    "working_memory",
    "energy",
]
KNOWN_BEFORE_TRAINING = ["bit_budget", "bit_budget_mac", "s_ace", "weight_memory", "working_memory", "energy"]

LAYERS = (layer("conv1", 288, 18, 16, 2, first=True), layer("conv2", 288, 72, 32, 4), layer("fc", 48, 48, 16, 3))
MODEL = CostModel(LAYERS)
ON_HARDWARE = CostModel(LAYERS, target=HARDWARE)


def rules_of(model, choices=None):
    return AllowedBits.make(model, choices or Choices(), FirstLayer())


RULES = rules_of(MODEL)


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
    assert parse_request(request_text, "s_ace") == (ratio, number)


@pytest.mark.parametrize(
    "request_text",
    [
        "",
        " ",
        "x",
        "X4",
        "four",
        "nan",
        "inf",
        "infx",
        "4 4",
        "1,5",
        "4 4x",
        "1 000",
        "4%",
        "--4",
        ".",
        "4x\x00",
    ],
)
def test_malformed_requests_are_refused(request_text):
    with pytest.raises(InputError, match="is not understood") as error:
        parse_request(request_text, "s_ace")
    assert repr(request_text) in one_line(error)
    assert "such as 4x" in str(error.value)


@pytest.mark.parametrize("request_text", ["4xx", "4x4", "1e", "64KiB", "2 uJ", "4µs"])
def test_a_metric_that_counts_takes_no_unit(request_text):
    with pytest.raises(InputError, match="is no unit of s_ace; give no unit") as error:
        parse_request(request_text, "s_ace")
    assert one_line(error).endswith("give no unit (it counts bit operations)")


@pytest.mark.parametrize("request_text", ["0", "0x", "-4", "-4x", "-0", "0x10", "0KiB", "1e999", "1e-999x", "0.0 x"])
def test_requests_that_are_not_positive_and_finite_are_refused(request_text):
    with pytest.raises(InputError, match="is not positive and finite") as error:
        parse_request(request_text, "s_ace")
    assert repr(request_text) in one_line(error)


@given(st.text(max_size=8))
def test_any_text_is_understood_or_refused_in_one_line(request_text):
    fault = ""
    try:
        _, number = parse_request(request_text, "s_ace")
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
    assert Budget.parse("memory=1e3", "bit_budget", MODEL, BASELINE) == Budget("weight_memory", "1e3", 1000.0)


@pytest.mark.parametrize("request_text", ["4", " 4", "4.0", "1e3"])
def test_a_number_that_names_no_metric_is_asked_about(request_text):
    with pytest.raises(InputError) as error:
        Budget.parse(request_text, "memory", MODEL, BASELINE)
    number = request_text.strip()
    assert one_line(error) == (
        f"budget {request_text!r} can be read in two ways; write {number}x for the baseline's cost divided by "
        f"{number}, or weight_memory={number} for at most {number} bytes"
    )


def test_a_ratio_below_one_allows_more_than_the_baseline():
    assert Budget.parse("0.5x", "bit_budget", MODEL, BASELINE).limit == pytest.approx(128)


def test_a_faulty_request_is_refused_by_parse_as_well():
    for request_text in ("4xx", "0", "x", "bit_budget=", "=4x", "memory=x", "s_ace=4=4"):
        with pytest.raises(InputError):
            Budget.parse(request_text, "bit_budget", MODEL, BASELINE)


@pytest.mark.parametrize(
    ("request_text", "metric", "limit"),
    [
        ("memory=64KiB", "weight_memory", 65536),
        ("memory = 64 KiB", "weight_memory", 65536),
        ("weight_memory=64kB", "weight_memory", 64000),
        ("memory=100B", "weight_memory", 100),
        ("working_memory=1.5MiB", "working_memory", 1.5 * 2**20),
        ("memory=1e-3GB", "weight_memory", 1e6),
        ("energy=2uJ", "energy", 2e6),
        ("energy=2000", "energy", 2000),
        ("energy=.5nJ", "energy", 500),
        ("energy=1e-6J", "energy", 1e6),
        ("latency=1ms", "latency", 1e-3),
        ("latency=250us", "latency", 2.5e-4),
        ("latency=0.25", "latency", 0.25),
        ("cores=3", "cores", 3),
        ("s_ace=1e6", "s_ace", 1e6),
        ("ns_ace=1e6", "ns_ace", 1e6),
        ("synops=5000", "synops", 5000),
    ],
)
def test_a_budget_may_name_its_metric_and_give_its_unit(request_text, metric, limit):
    budget = Budget.parse(request_text, "bit_budget", ON_HARDWARE, BASELINE)
    assert budget == Budget(metric, request_text.partition("=")[2].strip(), pytest.approx(limit, rel=FLOAT64))


def test_a_unit_fits_the_metric_that_a_bare_request_speaks_of():
    assert Budget.parse("64KiB", "memory", MODEL, BASELINE) == Budget("weight_memory", "64KiB", 65536)
    assert split_request("4x", "memory", MODEL.target) == ("weight_memory", "4x")


def test_a_ratio_of_a_named_metric_divides_the_baselines_cost():
    plan = ON_HARDWARE.uniform(BASELINE, None)
    for metric in ("energy", "latency", "cores", "working_memory"):
        budget = Budget.parse(f"{metric}=4x", "bit_budget", ON_HARDWARE, BASELINE)
        assert budget == Budget(metric, "4x", ON_HARDWARE.cost(metric, plan) / 4)


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        (
            "memory=64uJ",
            "'uJ' is no unit of weight_memory; give one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, or none for bytes",
        ),
        ("memory=64kb", "'kb' is no unit of weight_memory; "),
        ("memory=64Kb", "'Kb' is no unit of weight_memory; "),
        ("energy=2ms", "'ms' is no unit of energy; give one of pJ, nJ, uJ, mJ, J, or none for pJ"),
        ("latency=2Hz", "'Hz' is no unit of latency; give one of ps, ns, us, ms, s, or none for s"),
        ("latency=1day", "'day' is no unit of latency; "),
        ("cores=2KiB", "'KiB' is no unit of cores; give no unit (it counts cores)"),
        ("bit_budget=2B", "'B' is no unit of bit_budget; give no unit (it counts bits)"),
    ],
)
def test_a_wrong_unit_is_refused_and_the_right_ones_are_listed(request_text, message):
    with pytest.raises(InputError) as error:
        Budget.parse(request_text, "bit_budget", ON_HARDWARE, BASELINE)
    assert message in one_line(error)


@pytest.mark.parametrize("metric", [metric for metric in METRICS.values() if metric.unit in UNITS])
def test_every_unit_that_is_listed_is_understood(metric):
    sizes = [parse_request(f"1{unit}", metric.name)[1] for unit in UNITS[metric.unit]]
    assert len(set(sizes)) == len(sizes)
    assert parse_request("1", metric.name) == (False, 1.0)
    assert 1.0 in sizes


def test_an_unknown_metric_lists_those_that_a_budget_can_bind():
    for request_text in ("4x", "joules=4x", " joules = 3"):
        with pytest.raises(InputError, match="'joules' is not a cost metric") as error:
            Budget.parse(request_text, "joules", MODEL, BASELINE)
        assert one_line(error).endswith("allowed on 'generic': " + ", ".join(GENERIC))


@pytest.mark.parametrize("metric", ["energy", "latency", "cores"])
def test_a_metric_that_the_target_lacks_is_refused(metric):
    bare = make_target("bare")
    with pytest.raises(InputError) as error:
        check_metric(metric, bare)
    assert one_line(error).startswith(
        f"{metric!r} needs a hardware target with a table [{metric}], which 'bare' has not"
    )
    assert metric not in one_line(error).split("allowed on it:")[1]
    assert check_metric(metric, HARDWARE) == metric


def test_metrics_are_known_by_name_and_alias():
    for metric in GENERIC:
        assert check_metric(metric, MODEL.target) == metric
    assert check_metric("memory", MODEL.target) == "weight_memory"
    with pytest.raises(InputError, match="'' is not a cost metric"):
        check_metric("", MODEL.target)


@pytest.mark.parametrize("metric", ["ns_ace", "synops", "energy"])
def test_a_ratio_of_what_depends_on_spikes_is_refused(metric):
    model = CostModel(LAYERS, target=EVENT_DRIVEN)
    with pytest.raises(InputError, match=rf"budget '{metric}=4x': {metric} depends on how often neurons fire") as error:
        Budget.parse(f"{metric}=4x", "bit_budget", model, BASELINE)
    assert one_line(error).endswith(f"give a number in {METRICS[metric].unit}")
    assert Budget.parse(f"{metric}=1000", "bit_budget", model, BASELINE).limit == 1000


def test_a_budget_that_depends_on_spikes_is_not_judged_before_training():
    Budget("ns_ace", "1e-9", 1e-9).check_feasible(MODEL, RULES)
    plan = MODEL.uniform(BASELINE, None)
    assert Budget("ns_ace", "1e9", 1e9).met_by(MODEL, plan, ACTIVITY)
    assert not Budget("ns_ace", "1e9", 1e9).met_by(MODEL, plan)
    assert not Budget("ns_ace", "1", 1.0).met_by(MODEL, plan, ACTIVITY)


def test_several_budgets_are_read_in_order():
    budgets = parse_budgets(["4x", "memory=64KiB", "energy=2uJ"], "s_ace", MODEL, BASELINE)
    assert [(budget.metric, budget.requested) for budget in budgets] == [
        ("s_ace", "4x"),
        ("weight_memory", "64KiB"),
        ("energy", "2uJ"),
    ]
    assert parse_budgets("4x", "s_ace", MODEL, BASELINE) == budgets[:1]
    assert parse_budgets(iter(["4x"]), "s_ace", MODEL, BASELINE) == budgets[:1]


@pytest.mark.parametrize(
    ("requests", "metric"),
    [
        (["4x", "s_ace=100"], "s_ace"),
        (["memory=1KiB", "weight_memory=2KiB"], "weight_memory"),
        (["8x", "energy=2uJ", "4x"], "s_ace"),
    ],
)
def test_two_budgets_on_one_metric_are_refused(requests, metric):
    with pytest.raises(InputError) as error:
        parse_budgets(requests, "s_ace", MODEL, BASELINE)
    assert one_line(error) == f"two budgets limit {metric}; give the tighter one alone"


def test_no_budget_is_refused():
    with pytest.raises(InputError, match=r"no budget is given; give one such as 4x or memory=64KiB"):
        parse_budgets([], "s_ace", MODEL, BASELINE)


def test_the_limits_of_the_target_are_budgets_too():
    target = make_target(
        "chip", memory={"weight_bytes": 1000, "working_bytes": 500}, cores={"count": 7, "bytes_each": 100}
    )
    model = CostModel(LAYERS, target=target)
    limits = [
        Budget("weight_memory", "target chip", 1000, of_target=True),
        Budget("working_memory", "target chip", 500, of_target=True),
        Budget("cores", "target chip", 7, of_target=True),
    ]
    first = Budget("s_ace", "5000", 5000.0)
    assert parse_budgets("s_ace=5000", "s_ace", model, BASELINE) == [first, *limits]
    # One's own budget on the same metric stands beside it.
    own = Budget("weight_memory", "900", 900.0)
    assert parse_budgets("memory=900", "s_ace", model, BASELINE) == [own, *limits]
    half = CostModel(LAYERS, target=make_target("half", memory={"working_bytes": 500}))
    assert parse_budgets("s_ace=5000", "s_ace", half, BASELINE) == [
        first,
        Budget("working_memory", "target half", 500, of_target=True),
    ]
    assert parse_budgets("s_ace=5000", "s_ace", ON_HARDWARE, BASELINE) == [
        first,
        Budget("cores", "target hand", 9, of_target=True),
    ]
    battery = CostModel(LAYERS, target=make_target("battery", energy=ENERGY | {"limit": 2500.0}))
    assert parse_budgets("s_ace=5000", "s_ace", battery, BASELINE) == [
        first,
        Budget("energy", "target battery", 2500.0, of_target=True),
    ]
    prompt = CostModel(LAYERS, target=make_target("prompt", latency=LATENCY | {"limit": "10ms"}))
    assert parse_budgets("s_ace=5000", "s_ace", prompt, BASELINE) == [
        first,
        Budget("latency", "target prompt", 0.01, of_target=True),
    ]


def test_a_network_that_does_not_fit_the_target_is_refused_by_its_limit():
    model = CostModel(LAYERS, target=make_target("small", memory={"weight_bytes": 100}))
    *_, limit = parse_budgets("1x", "s_ace", model, BASELINE)
    with pytest.raises(InputError) as error:
        limit.check_feasible(model, rules_of(model))
    # 18 weights of 8 bits, 72 and 48 of one; a step a layer, and 8 bytes for each of 9 channels.
    least = 18 + 9 + 6 + 3 * 4 + 9 * 8
    said = f"target small (weight_memory ≤ 100 bytes) is infeasible: the smallest feasible value is {least} bytes "
    assert said in one_line(error)
    # 9 bytes of weights, a step, and 4 channels.
    assert one_line(error).endswith("; layer 'conv2' alone takes 45 bytes: take another target, or a smaller network")


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
    Budget.parse("4x", "bit_budget", MODEL, BASELINE).check_feasible(MODEL, RULES)


def test_an_infeasible_budget_by_hand():
    budget = Budget.parse("s_ace=100", "s_ace", MODEL, BASELINE)
    with pytest.raises(InputError, match="is infeasible") as error:
        budget.check_feasible(MODEL, RULES)
    message = one_line(error)
    # The first layer keeps its w8 s8 T1, the others get w1 s1 T1.
    assert (
        f"smallest feasible value is {288 * 64 + 288 + 48} bit operations (the fewest bits allowed on every layer)"
        in message
    )
    assert "budget 100 (s_ace ≤ 100 bit operations)" in message
    # With one bit everywhere they still take more than six hundred.
    assert message.endswith("; allow more, or widen the choices of the search space")


def test_a_budget_that_the_first_layers_fixed_bits_miss_says_which_may_fall():
    budget = Budget.parse("s_ace=5000", "s_ace", MODEL, BASELINE)
    with pytest.raises(InputError, match="is infeasible") as error:
        budget.check_feasible(MODEL, RULES)
    # 288·8·1 + 288 + 48 bit operations are within it.
    assert one_line(error).endswith(
        "; the first layer 'conv1' keeps w8 s8 T1 (first_layer): let it have fewer, --layer "
        "'conv1:spike_bits={low=1,high=8}' (layers= in Python), or allow more"
    )
    rule = LayerRule.parse("conv1:spike_bits={low=1,high=8}")
    budget.check_feasible(MODEL, AllowedBits.make(MODEL, Choices(), FirstLayer(), [rule]))


SIX_DIGITS = 1e-5 + FLOAT64
"""Relative: one unit of the last of six digits, of a number that is rounded up."""


def smallest_feasible(budget, model, rules):
    with pytest.raises(InputError, match="is infeasible") as error:
        budget.check_feasible(model, rules)
    return re.search(r"smallest feasible value is (\S+)", one_line(error))[1]


BIG = make_target("big", energy=ENERGY, latency=LATENCY | {"clock": 1e9}, cores={"count": 9, "bytes_each": 1000})
counts = st.integers(1, 10**9)
lowest = st.builds(
    UniformBits, weight_bits=st.integers(1, 8), spike_bits=st.integers(1, 8), time_steps=st.integers(1, 4)
)


@st.composite
def models(draw):
    size = draw(st.integers(1, 4))
    layers = [layer(f"layer{i}", *(draw(counts) for _ in range(4)), first=i == 0) for i in range(size)]
    return CostModel(layers, target=BIG)


@examples(150)
@given(models(), lowest, st.sampled_from([*KNOWN_BEFORE_TRAINING, "latency", "cores"]))
def test_the_smallest_feasible_value_is_feasible_and_close(model, lowest, metric):
    least_bits = lowest.model_dump(exclude_none=True)
    choices = Choices(**{name: {"low": value, "high": 8} for name, value in least_bits.items()})
    rules = rules_of(model, choices)
    least = model.cost(metric, model.uniform(lowest, FirstLayer()))
    text = smallest_feasible(Budget(metric, "1e-12", 1e-12), model, rules)
    Budget.parse(f"{metric}={text}", metric, model, BASELINE).check_feasible(model, rules)
    assert least <= float(text) <= least * (1 + SIX_DIGITS)


@pytest.mark.parametrize("metric", KNOWN_BEFORE_TRAINING)
def test_just_below_the_cheapest_plan_is_infeasible(metric):
    least = MODEL.cost(metric, MODEL.uniform(uniform(1, 1, 1), FirstLayer()))
    Budget(metric, "least", least).check_feasible(MODEL, RULES)
    smallest_feasible(Budget(metric, "less", least * (1 - FLOAT64)), MODEL, RULES)


@examples(300)
@given(st.floats(1e-8, 1e15))
@example(1.0)
@example(10.0)
@example(999999.5)
@example(1e6)
def test_what_the_message_says_is_never_below_the_cheapest_plan(least):
    class Priced(CostModel):
        def cost(self, metric, plan, activity=None):
            return least

    text = smallest_feasible(Budget("s_ace", "1e-12", 1e-12), Priced(MODEL.layers), RULES)
    assert least <= float(text) <= least * (1 + SIX_DIGITS)


def test_the_smallest_feasible_value_is_feasible_where_floats_end_just_above_a_decimal():
    model = CostModel((layer("first", 1, 4, 4, 1, first=True), layer("second", 1, 96, 46, 1)))
    # W̄ = (4·8 + 96) / 100 = 1.28, S̄ = (4·8 + 46) / 50 = 1.56; in floats their product is 1.9968000000000001.
    text = smallest_feasible(Budget("bit_budget", "1", 1.0), model, rules_of(model))
    Budget.parse(f"bit_budget={text}", "bit_budget", model, BASELINE).check_feasible(model, rules_of(model))


def test_every_metric_has_a_unit_for_the_message():
    assert all(METRICS[metric].unit for metric in METRICS)


@pytest.mark.parametrize(
    ("request_text", "metric", "number"),
    [
        ("2 nJ", "energy", 2000.0),
        ("2e-9 J", "energy", 2000.0),
        ("0.000002 mJ", "energy", 2000.0),
        ("1.1 µJ", "energy", 1_100_000.0),
        ("1.1\N{NO-BREAK SPACE}\N{GREEK SMALL LETTER MU}J", "energy", 1_100_000.0),
        ("3 µs", "latency", 3e-6),
        ("0.3 ns", "latency", 3e-10),
        ("7 ps", "latency", 7e-12),
        ("0.1kB", "weight_memory", 100.0),
    ],
)
def test_units_are_exact_decimals(request_text, metric, number):
    # The nearest float64 of the decimal number: one rounding, whichever unit it is written in.
    assert parse_request(request_text, metric) == (False, number)


@pytest.mark.parametrize("value", [1.0, 20.0, 999.0, 12_300.0, 4.56e9, 7.89e13])
@pytest.mark.parametrize("metric", ["energy", "latency", "weight_memory"])
def test_what_is_printed_can_be_given(value, metric):
    scale = 1e-12 if metric == "latency" else 1.0
    text = cost(metric, value * scale, 17)
    assert parse_request(text, metric)[1] == pytest.approx(value * scale, rel=FLOAT64)


@pytest.mark.parametrize("request_text", ["1e308 J", "1e999 J"])
def test_a_number_that_is_no_float_in_its_unit_is_refused(request_text):
    with pytest.raises(InputError, match="is not positive and finite"):
        parse_request(request_text, "energy")
