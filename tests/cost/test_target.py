import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from pydantic import BaseModel

from bitsearch.cost.figures import FIGURES
from bitsearch.cost.target import Target
from bitsearch.cost.target_tables import Cores, Energy, Latency, Memory, RequiredBits
from bitsearch.errors import InputError
from bitsearch.validation import MAX_TIME_STEPS

SCHEMA = jsonschema.Draft202012Validator(Target.json_schema())
NEEDED = {"weight_bits": "a data sheet", "spike_bits": "a data sheet", "max_time_steps": "assumption: enough"}


def content(sources=None, **fields):
    """The least target with some fields added, and a source for each of ``sources``."""
    least = {"name": "mine", "weight_bits": [1, 2], "spike_bits": {"low": 1, "high": 4}, "max_time_steps": 4}
    return least | fields | {"sources": NEEDED | dict.fromkeys(sources or (), "assumption: ours")}


def loaded(*sources, **fields):
    return Target.from_toml(tomli_w.dumps(content(sources, **fields)))


def refusal(*sources, **fields):
    """The message of the InputError, checked to be one line."""
    return refusal_of(tomli_w.dumps(content(sources, **fields)))


def refusal_of(text):
    with pytest.raises(InputError) as caught:
        Target.from_toml(text, source="given.toml")
    message = str(caught.value)
    assert message.startswith("given.toml: ")
    assert len(message.splitlines()) == 1
    return message


ENERGY = {"bit_operation": 0.5, "event_driven": True}
LATENCY = {"clock": 1e6, "macs_per_cycle": 2}


def test_the_least_target_has_the_documented_defaults():
    target = loaded()
    assert target.weight_bits == (1, 2)
    assert target.spike_bits == (1, 2, 3, 4)
    assert target.granularity == ("layer", "channel")
    assert target.membrane_bits == 32
    parts = (target.first_layer, target.last_layer, target.memory, target.cores, target.energy, target.latency)
    assert parts == (None,) * 6


def test_a_whole_target_is_read():
    target = loaded(
        "membrane_bits",
        "memory.weight_bytes",
        "cores.count",
        "cores.bytes_each",
        "energy.bit_operation",
        "latency.clock",
        "latency.macs_per_cycle",
        "latency.layer_overhead_cycles",
        membrane_bits=16,
        granularity=["channel"],
        first_layer={"weight_bits": 8, "time_steps": 1},
        last_layer={"spike_bits": 8},
        memory={"weight_bytes": 1000},
        cores={"count": 4, "bytes_each": 500},
        energy=ENERGY,
        latency=LATENCY | {"layer_overhead_cycles": 10},
    )
    assert target.membrane_bits == 16
    assert target.granularity == ("channel",)
    assert target.first_layer == RequiredBits(weight_bits=8, time_steps=1)
    assert target.last_layer == RequiredBits(spike_bits=8)
    assert target.memory == Memory(weight_bytes=1000)
    assert target.cores == Cores(count=4, bytes_each=500)
    assert target.energy == Energy(bit_operation=0.5, event_driven=True)
    assert target.latency == Latency(clock=1e6, macs_per_cycle=2, layer_overhead_cycles=10)
    assert target.figures["latency.layer_overhead_cycles"] == 10


def test_a_target_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        loaded().max_time_steps = 5


@pytest.mark.parametrize("field", ["weight_bits", "spike_bits"])
@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ([2, 1], "is [2, 1]: list every value once, in rising order"),
        ([1, 1], "is [1, 1]: list every value once, in rising order"),
        ([], "is []: Tuple should have at least 1 item"),
        ([0, 1], ".0 is 0: Input should be greater than or equal to 1"),
        ([8, 9], ".1 is 9: Input should be less than or equal to 8"),
        (["1"], ".0 is '1': Input should be a valid integer"),
        ([True], ".0 is True: Input should be a valid integer"),
        ([1.0], ".0 is 1.0: Input should be a valid integer"),
        (4, "is 4: list the values, such as [1, 2, 4], or give low and high"),
        ({"low": 1, "high": 9}, ".8 is 9: Input should be less than or equal to 8"),
        ({"low": 1, "high": 10**15}, ".8 is 9: Input should be less than or equal to 8"),
        ({"low": 5, "high": 4}, "low not above high"),
        ({"low": 0, "high": 4}, "low not above high"),
        ({"low": 1}, "is {'low': 1}: list the values, such as [1, 2, 4], or give low and high"),
        ({"low": 1, "high": 8, "step": 2}, "or give low and high"),
    ],
)
def test_widths_out_of_order_or_range_are_refused(field, widths, said):
    assert f"{field}{'' if said.startswith('.') else ' '}" in refusal(**{field: widths})
    assert said in refusal(**{field: widths})


@pytest.mark.parametrize(("low", "high"), [(1, 8), (3, 3), (2, 4)])
def test_low_and_high_stand_for_all_widths_between(low, high):
    widths = list(range(low, high + 1))
    assert loaded(weight_bits={"low": low, "high": high}) == loaded(weight_bits=widths)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_time_steps": 0}, "max_time_steps is 0: Input should be greater than or equal to 1"),
        ({"max_time_steps": 100_001}, "max_time_steps is 100001: Input should be less than or equal to 100000"),
        ({"max_time_steps": "4"}, "max_time_steps is '4': Input should be a valid integer"),
        ({"membrane_bits": 7}, "membrane_bits is 7: Input should be greater than or equal to 8"),
        ({"membrane_bits": 33}, "membrane_bits is 33: Input should be less than or equal to 32"),
        ({"granularity": []}, "granularity is []: Tuple should have at least 1 item"),
        ({"granularity": ["row"]}, "granularity.0 is 'row': Input should be 'layer' or 'channel'"),
        ({"name": "two words"}, "name is 'two words'"),
        ({"schema_version": 2}, "schema_version is 2: Input should be 1"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"first_layer": {}}, "first_layer is {}: give at least one of weight_bits, spike_bits, time_steps"),
        ({"first_layer": {"bits": 8}}, "unknown field 'first_layer.bits'"),
        ({"last_layer": {}}, "last_layer is {}: give at least one of weight_bits, spike_bits, time_steps"),
        ({"last_layer": {"weight_bits": 9}}, "last_layer.weight_bits is 9: Input should be less than or equal to 8"),
        ({"memory": {}}, "memory is {}: give at least one of weight_bytes, working_bytes"),
        ({"memory": {"weight_bytes": 0}}, "memory.weight_bytes is 0: Input should be greater than or equal to 1"),
        (
            {"cores": {"count": 4}},
            "cores is {'count': 4}: give at least one of bytes_each, neurons_each, synapses_each",
        ),
        ({"limits": {}}, "limits is {}: give at least one of layer_kinds, layers, neurons"),
        (
            {"limits": {"layer_kinds": ["conv"]}},
            "limits.layer_kinds.0 is 'conv': Input should be 'convolution', 'depth",
        ),
        ({"limits": {"pooling": ["mean"]}}, "limits.pooling.0 is 'mean': Input should be 'average', 'max' or 'sum'"),
        ({"limits": {"resets": []}}, "limits.resets is []: Tuple should have at least 1 item"),
        ({"limits": {"fan_in": 0}}, "limits.fan_in is 0: Input should be greater than or equal to 1"),
        ({"linear": {}}, "linear is {}: give at least one of weight_bits, input_channels"),
        ({"convolution": {"kernel_sizes": [3, 1]}}, "convolution.kernel_sizes is [3, 1]: list every value once, in"),
        ({"convolution": {"kernel_sizes": {"low": 1, "high": 2000}}}, "Input should be less than or equal to 1024"),
        ({"convolution": {"weight_bits": [16]}}, "convolution.weight_bits.0 is 16: Input should be less than or"),
        ({"cores": {"bytes_each": 4}}, "field 'cores.count' is missing"),
        ({"cores": {"count": 0, "bytes_each": 4}}, "cores.count is 0: Input should be greater than or equal to 1"),
        ({"energy": {}}, "energy is {}: every operation is free; give one of them more than 0 pJ"),
        ({"energy": {"accumulate": 0.0, "event_driven": True}}, "every operation is free"),
        ({"energy": {"accumulate": -0.1}}, "energy.accumulate is -0.1: Input should be greater than or equal to 0"),
        ({"energy": {"state_byte": float("inf")}}, "energy.state_byte is inf: Input should be a finite number"),
        ({"energy": {"weight_byte": float("nan")}}, "energy.weight_byte is nan"),
        ({"energy": {"bit_operation": "1"}}, "energy.bit_operation is '1': write a number of pJ, or a string of"),
        ({"memory": {"weight_bytes": "64Kib"}}, "and one of the units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"),
        ({"memory": {"weight_bytes": "0.3B"}}, "memory.weight_bytes is 0.3: Input should be a valid integer"),
        ({"memory": {"weight_bytes": "-1KiB"}}, "memory.weight_bytes is '-1KiB': write a number of bytes"),
        ({"energy": ENERGY | {"limit": "5ms"}}, "energy.limit is '5ms': write a number of pJ"),
        ({"energy": ENERGY | {"limit": "1e999J"}}, "energy.limit is 1"),
        ({"latency": LATENCY | {"limit": "0s"}}, "latency.limit is 0: Input should be greater than 0"),
        ({"latency": LATENCY | {"clock": "200MHZ"}}, "and one of the units Hz, kHz, MHz, GHz"),
        (
            {"energy": {"bit_operation": 1.0, "event_driven": 1}},
            "energy.event_driven is 1: Input should be a valid bool",
        ),
        ({"latency": {"macs_per_cycle": 1}}, "field 'latency.clock' is missing"),
        ({"latency": {"clock": 0, "macs_per_cycle": 1}}, "latency.clock is 0: Input should be greater than 0"),
        ({"latency": {"clock": 1e6}}, "give exactly one of bit_operations_per_cycle and macs_per_cycle"),
        ({"latency": LATENCY | {"bit_operations_per_cycle": 1}}, "give exactly one of bit_operations_per_cycle and"),
        (
            {"latency": {"clock": 1e6, "macs_per_cycle": 0}},
            "latency.macs_per_cycle is 0: Input should be greater than 0",
        ),
        ({"latency": LATENCY | {"layer_overhead_cycles": -1}}, "latency.layer_overhead_cycles is -1"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(fields, said):
    assert said in refusal(**fields)


@pytest.mark.parametrize("field", ["name", "weight_bits", "spike_bits", "max_time_steps", "sources"])
def test_a_missing_field_is_named(field):
    text = tomli_w.dumps({key: value for key, value in content().items() if key != field})
    assert f"field {field!r} is missing" in refusal_of(text)


def test_a_rule_may_lie_outside_the_allowed_widths():
    target = loaded(weight_bits=[1], first_layer={"weight_bits": 8, "spike_bits": 8, "time_steps": 8})
    assert 8 not in target.weight_bits
    assert target.first_layer == RequiredBits(weight_bits=8, spike_bits=8, time_steps=8)


def test_amounts_may_have_units():
    keys = ("memory.weight_bytes", "cores.count", "cores.bytes_each", "energy.bit_operation", "energy.limit")
    keys += ("latency.clock", "latency.macs_per_cycle", "latency.limit")

    def target(size, core, operation, energy, clock, time):
        fields = {
            "memory": {"weight_bytes": size},
            "cores": {"count": 2, "bytes_each": core},
            "energy": {"bit_operation": operation, "limit": energy},
            "latency": {"clock": clock, "macs_per_cycle": 2, "limit": time},
        }
        SCHEMA.validate(content(keys, **fields))
        return loaded(*keys, **fields)

    numbers = target(65536, 1500, 0.02, 5e6, 200e6, 0.0105)
    assert target("64KiB", "1.5 kB", "2e-2pJ", "5µJ", "200MHz", "10.5ms") == numbers
    assert target("0.0625MiB", "1500B", ".02pJ", "5uJ", "0.2 GHz", "10500us") == numbers
    assert Target.from_toml(numbers.to_toml()) == numbers


# Every figure, as a target that gives it.
GIVEN = {
    "weight_bits": {},
    "spike_bits": {},
    "max_time_steps": {},
    "membrane_bits": {"membrane_bits": 24},
    "accumulator_bits": {"accumulator_bits": 20},
    "memory.weight_bytes": {"memory": {"weight_bytes": 9}},
    "memory.working_bytes": {"memory": {"working_bytes": 9}},
    "cores.count": {"cores": {"count": 2, "bytes_each": 9}},
    "cores.bytes_each": {"cores": {"count": 2, "bytes_each": 9}},
    "energy.bit_operation": {"energy": {"bit_operation": 1.5}},
    "energy.accumulate": {"energy": {"accumulate": 1.5}},
    "energy.weight_byte": {"energy": {"weight_byte": 1.5}},
    "energy.state_byte": {"energy": {"state_byte": 1.5}},
    "energy.limit": {"energy": {"bit_operation": 1.5, "limit": 9.5}},
    "latency.clock": {"latency": LATENCY},
    "latency.bit_operations_per_cycle": {"latency": {"clock": 1e6, "bit_operations_per_cycle": 7}},
    "latency.macs_per_cycle": {"latency": LATENCY},
    "latency.layer_overhead_cycles": {"latency": LATENCY | {"layer_overhead_cycles": 3}},
    "latency.limit": {"latency": LATENCY | {"limit": 0.01}},
    "cores.neurons_each": {"cores": {"count": 2, "neurons_each": 9}},
    "cores.synapses_each": {"cores": {"count": 2, "synapses_each": 9}},
    **{
        f"limits.{name}": {"limits": {name: value}}
        for name, value in {
            "layer_kinds": ["convolution", "linear"],
            "pooling": [],
            "resets": ["zero"],
            **dict.fromkeys(("layers", "neurons", "synapses", "fan_in", "fan_out"), 9),
            **dict.fromkeys(("input_channels", "input_size", "output_channels"), 9),
        }.items()
    },
    **{
        f"{kind}.{name}": {kind: {name: value}}
        for kind in ("convolution", "depthwise", "transposed", "linear")
        for name, value in {
            "weight_bits": [8],
            "kernel_sizes": {"low": 1, "high": 16},
            "strides": [1, 2],
            "input_channels": 9,
            "output_channels": 9,
        }.items()
        if kind != "linear" or name not in ("kernel_sizes", "strides")
    },
}


def test_every_number_of_a_target_is_a_figure():
    numbers = {"weight_bits", "spike_bits", "max_time_steps", "membrane_bits", "accumulator_bits"}
    kinds = ("convolution", "depthwise", "transposed", "linear")
    for name in ("memory", "cores", "energy", "latency", "limits", *kinds):
        part = get_args(Target.model_fields[name].annotation)[0]
        numbers |= {f"{name}.{field}" for field in part.model_fields if field not in ("event_driven", "whole_layers")}
    assert set(FIGURES) == numbers == set(GIVEN)


@pytest.mark.parametrize("key", FIGURES)
def test_a_figure_without_its_source_is_refused(key):
    every = content(FIGURES, **GIVEN[key])
    kept = [name for name in FIGURES if name != key and is_given(name, every)]
    every["sources"] = dict.fromkeys(kept, "a data sheet")
    assert f'{key} has no source; add "{key}" = a citation' in refusal_of(tomli_w.dumps(every))
    every["sources"][key] = "a data sheet"
    assert set(Target.from_toml(tomli_w.dumps(every)).sources) == {*kept, key}


def is_given(key, fields):
    table, _, name = key.rpartition(".")
    return name in (fields.get(table, {}) if table else fields)


@pytest.mark.parametrize("key", [key for key in FIGURES if "." in key])
def test_a_source_for_a_figure_that_is_not_there_is_refused(key):
    message = refusal(key)
    assert f"{key!r} is not a figure of this target" in message
    assert message.split("it gives: ")[1] == "weight_bits, spike_bits, max_time_steps, membrane_bits"


@pytest.mark.parametrize("key", ["name", "granularity", "first_layer", "energy", "energy.event_driven", "colour"])
def test_a_source_for_what_is_no_figure_is_refused(key):
    sources = ("energy.bit_operation", key)
    assert f"{key!r} is not a figure" in refusal_of(tomli_w.dumps(content(sources, energy=ENERGY)))


def test_a_figure_at_its_default_may_do_without_a_source():
    assert loaded(membrane_bits=32).membrane_bits == 32
    assert loaded("membrane_bits").sources["membrane_bits"]
    energy = {"bit_operation": 0.5, "accumulate": 0.0}
    assert loaded("energy.bit_operation", energy=energy).energy.accumulate == 0


@pytest.mark.parametrize("source", ["", "  ", "\n", 3, "x" * 2001])
def test_a_source_says_something(source):
    text = tomli_w.dumps(content() | {"sources": NEEDED | {"spike_bits": source}})
    assert "sources.spike_bits is" in refusal_of(text)


def test_a_key_without_quotation_marks_is_explained():
    text = tomli_w.dumps(content(energy=ENERGY)).replace(
        "[sources]", '[sources]\nenergy.bit_operation = "a data sheet"'
    )
    assert 'put the whole key into quotation marks, such as "energy.bit_operation" = ' in refusal_of(text)


def test_what_is_not_toml_is_refused():
    assert "not TOML" in refusal_of("name = ")
    assert "not TOML" in refusal_of("x = " + "[" * 100_000)


# Round trips.
widths = st.sets(st.integers(1, 8), min_size=1).map(sorted) | st.tuples(st.integers(1, 8), st.integers(1, 8)).map(
    lambda ends: {"low": min(ends), "high": max(ends)}
)
counts = st.integers(1, 2**40)
costs = st.floats(0, 1e9)
speeds = st.floats(1e-9, 1e15)


def some(**fields):
    return st.fixed_dictionaries({}, optional=fields).filter(bool)


rules = some(weight_bits=st.integers(1, 8), spike_bits=st.integers(1, 8), time_steps=st.integers(1, 64))
energies = some(
    bit_operation=costs, accumulate=costs, weight_byte=costs, state_byte=costs, event_driven=st.booleans()
).filter(lambda energy: any(value and value is not True for value in energy.values()))
latencies = st.builds(
    lambda least, speed: least | speed,
    st.fixed_dictionaries({"clock": speeds}, optional={"layer_overhead_cycles": st.integers(0, 10**6)}),
    st.fixed_dictionaries({"macs_per_cycle": speeds}) | st.fixed_dictionaries({"bit_operations_per_cycle": speeds}),
)
targets = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", fullmatch=True),
        "weight_bits": widths,
        "spike_bits": widths,
        "max_time_steps": st.integers(1, 64),
    },
    optional={
        "description": st.text(),
        "granularity": st.sampled_from([["layer"], ["channel"], ["layer", "channel"]]),
        "first_layer": rules,
        "last_layer": rules,
        "membrane_bits": st.integers(8, 32),
        "memory": some(weight_bytes=counts, working_bytes=counts),
        "cores": st.fixed_dictionaries(
            {"count": counts, "bytes_each": counts},
            optional={"neurons_each": counts, "synapses_each": counts, "whole_layers": st.booleans()},
        ),
        "limits": some(layers=counts, fan_in=counts, pooling=st.just(["max"]), resets=st.just(["zero"])),
        "convolution": some(weight_bits=widths, kernel_sizes=widths, strides=widths, input_channels=counts),
        "linear": some(weight_bits=widths, output_channels=counts),
        "energy": energies,
        "latency": latencies,
    },
)


@examples(40)
@given(fields=targets, source=st.text(min_size=1, max_size=50).filter(str.strip))
def test_toml_target_and_json_say_the_same(fields, source):
    written = fields | {"sources": {key: source for key in FIGURES if is_given(key, fields)}}
    SCHEMA.validate(written)
    target = Target.from_toml(tomli_w.dumps(written))
    as_json = json.loads(target.to_json())
    SCHEMA.validate(as_json)
    assert Target.model_validate_json(target.to_json()) == target
    assert Target.from_toml(tomli_w.dumps(as_json)) == target
    assert Target.model_validate(target.model_dump()) == target
    for key, value in written.items():
        if key in ("convolution", "linear"):
            # With ranges inside.
            assert as_json[key].keys() == value.keys()
        elif isinstance(value, dict) and key not in ("weight_bits", "spike_bits"):
            assert value.items() <= as_json[key].items()
        elif not isinstance(value, dict):
            assert as_json[key] == value


# The shipped ones.
SHIPPED = (
    "akida_1000",
    "artix_7",
    "binary_fpga",
    "cortex_m4",
    "generic",
    "loihi_2",
    "neuromorphic",
    "power_of_two",
    "speck_2f",
    "xylo_2",
)


def test_the_shipped_targets_are_listed():
    assert Target.names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_target_is_valid_and_named_as_its_file(name):
    target = Target.load(name)
    assert target.name == name
    assert target.description
    sourced = {key for key, value in target.figures.items() if value or key == "max_time_steps"}
    assert sourced - {"membrane_bits"} <= set(target.sources)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_json_schema_validates_every_shipped_target(name):
    text = resources.files("bitsearch").joinpath("cost", "targets", f"{name}.toml").read_text(encoding="utf-8")
    SCHEMA.validate(tomllib.loads(text))


def test_the_shipped_targets_allow_what_their_names_say():
    generic, power, fpga = Target.load("generic"), Target.load("power_of_two"), Target.load("binary_fpga")
    assert generic.weight_bits == generic.spike_bits == tuple(range(1, 9))
    assert generic.max_time_steps == MAX_TIME_STEPS
    assert generic.energy is not None
    assert generic.energy.bit_operation == 0.2 / 64
    assert generic.memory is None
    assert power.weight_bits == power.spike_bits == (1, 2, 4, 8)
    assert fpga.weight_bits == (1,)
    assert fpga.first_layer == RequiredBits(weight_bits=8, spike_bits=8)
    assert fpga.last_layer == RequiredBits(weight_bits=8)
    assert fpga.latency is not None
    assert fpga.latency.bit_operations_per_cycle


@pytest.mark.parametrize("name", SHIPPED)
def test_every_figure_of_a_shipped_target_is_cited_or_an_assumption(name):
    for key, source in Target.load(name).sources.items():
        # A citation names who says so, and an assumption says that it is one.
        assert re.match(r"assumption: \w", source) or re.match(r"(github\.com/|rockpool\.ai|sinabs |[A-Z])", source), (
            key
        )


# The template of a target of one's own.
TEMPLATE = Target.template("mine")
COMMENTED = re.compile(r"^#(?=[\w\"\[])", re.MULTILINE)


def test_the_template_is_a_valid_target_as_it_stands():
    target = Target.from_toml(TEMPLATE)
    assert target.name == "mine"
    assert set(target.figures) == {"weight_bits", "spike_bits", "max_time_steps", "membrane_bits"}


def test_every_key_of_the_template_is_valid_at_once_and_none_is_left_out():
    target = Target.from_toml(COMMENTED.sub("", TEMPLATE))
    # One of two speeds is given.
    assert set(target.figures) == set(FIGURES) - {"latency.bit_operations_per_cycle"}
    written = tomllib.loads(COMMENTED.sub("", TEMPLATE))
    assert set(written) == set(Target.model_fields)
    for name, field in Target.model_fields.items():
        tables = [part for part in get_args(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        for table in tables:
            content = written[name][0] if isinstance(written[name], list) else written[name]
            assert set(table.model_fields) - set(content) <= {"bit_operations_per_cycle", "quantizer"}, name


def commented_keys():
    """(table's head, line) of every commented key outside of the sources; the head is empty at the top."""
    keys, table = [], ""
    for line in TEMPLATE.partition("\n[sources]\n")[0].splitlines():
        if re.match(r"#\[", line):
            table = line[1:]
        elif COMMENTED.match(line):
            keys.append((table, line[1:]))
    return keys


@pytest.mark.parametrize(("table", "line"), commented_keys())
def test_every_commented_key_is_valid_alone(table, line):
    """With what its table needs besides, and its source."""
    needs = {"[cores]": ["count", "bytes_each"], "[latency]": ["clock", "macs_per_cycle"]}.get(table, [])
    needs += {"[energy]": ["accumulate"], "[[layers]]": ["match", "weight_bits"]}.get(table, [])
    inside = [other for name, other in commented_keys() if name == table and other.split(" ")[0] in needs]
    key = line.split(" ")[0]
    head = TEMPLATE.partition("\n[sources]\n")[0]
    content = "\n".join([table, *(other for other in inside if other != line), line]) if table else line
    text = f"{head.rstrip()}\n{content}\n" if table else head.replace(f"#{line}", line)
    names = [f"{table.strip('[]')}.{name}" if table else name for name in (*needs, key)]
    sources = tomllib.loads(COMMENTED.sub("", TEMPLATE))["sources"]
    wanted = {
        name: sources[name] for name in ("weight_bits", "spike_bits", "max_time_steps", *names) if name in sources
    }
    Target.from_toml(text + tomli_w.dumps({"sources": wanted}))


def test_the_neuromorphic_target_is_event_driven_with_memory_in_its_cores():
    target = Target.load("neuromorphic")
    assert target.energy is not None
    assert target.energy.event_driven
    assert target.cores == Cores(count=128, bytes_each=192 * 1024)


def test_the_shipped_json_schema_is_that_of_the_target():
    shipped = resources.files("bitsearch").joinpath("cost", "target.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == Target.json_schema()
    jsonschema.Draft202012Validator.check_schema(Target.json_schema())


@pytest.mark.parametrize(
    "fields",
    [
        {"weight_bits": [9]},
        {"weight_bits": []},
        {"weight_bits": {"low": 1}},
        {"weight_bits": 4},
        {"colour": "red"},
        {"energy": {"bit_operation": -1}},
        {"cores": {"bytes_each": 4}},
        {"sources": NEEDED | {"spike_bits": ""}},
        {"sources": NEEDED | {"spike_bits": {"low": "x"}}},
    ],
)
def test_the_json_schema_refuses_wrong_targets(fields):
    SCHEMA.validate(content())
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(content() | fields)


def test_a_target_loads_by_path(tmp_path):
    text = resources.files("bitsearch").joinpath("cost", "targets", "generic.toml").read_text(encoding="utf-8")
    for name in ("mine.toml", "mine"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert Target.load(tmp_path / "mine.toml") == Target.load(str(tmp_path / "mine.toml")) == Target.load("generic")
    assert Target.load(tmp_path / "mine") == Target.load("generic")


def test_a_misspelt_name_lists_what_is_shipped():
    with pytest.raises(InputError) as caught:
        Target.load("genric")
    assert str(caught.value) == (
        f"no hardware target named 'genric'; shipped: {', '.join(SHIPPED)}; "
        "or give the path of a .toml file; did you mean 'generic'?"
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no hardware target at .*missing\.toml"):
        Target.load(tmp_path / "missing.toml")
    with pytest.raises(InputError, match=r"no hardware target at missing\.toml"):
        Target.load("missing.toml")


def test_a_faulty_file_is_named(tmp_path):
    (tmp_path / "mine.toml").write_text("colour = 3")
    with pytest.raises(InputError, match=r"mine\.toml: field 'name' is missing"):
        Target.load(tmp_path / "mine.toml")


def test_target_imports_nothing_of_the_cost_model():
    allowed = {f"bitsearch.{name}" for name in ("choices", "errors", "layer_rules", "plan", "plug_ins", "validation")}
    parts = {f"bitsearch.cost.{name}" for name in ("figures", "target_tables", "units")}
    for name in ("target", *(part.rpartition(".")[2] for part in parts)):
        source = Path(resources.files("bitsearch").joinpath("cost", f"{name}.py")).read_text(encoding="utf-8")
        imported = {
            line.split()[1] for line in source.splitlines() if line.startswith(("from bitsearch", "import bitsearch"))
        }
        assert imported <= allowed | parts, name
