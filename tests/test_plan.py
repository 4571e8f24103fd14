import copy
import json
import os
import re
from importlib import resources

import jsonschema
import pytest
from pydantic import ValidationError

from bitsearch.errors import InputError
from bitsearch.plan import BitPlan, BudgetOutcome, LayerPlan, NeuronSettings, UniformBits

SCHEMA = jsonschema.Draft202012Validator(BitPlan.json_schema())
CONTENT = {
    "schema_version": 1,
    "space": "digits",
    "network": "digits_cnn",
    "target": "generic",
    "budget": [{"metric": "bit_budget", "requested": "4x", "limit": 16.0, "achieved": 15.2, "met": True}],
    "baseline": {"weight_bits": 8, "spike_bits": 4, "time_steps": 2, "costs": {"bit_budget": 64.0}},
    "layers": {
        "conv1": {
            "weight_bits": 8,
            "spike_bits": [8],
            "time_steps": 1,
            "granularity": "layer",
            "signed_input": True,
            "decay": 1.0,
        },
        "conv2": {
            "weight_bits": 3,
            "spike_bits": [3, 2],
            "time_steps": 2,
            "granularity": "channel",
            "signed_input": False,
            "decay": 0.5,
        },
    },
    "unquantized": {"": {"reason": "a product of two inputs", "weights": 0, "macs": 4096}},
    "costs": {"bit_budget": 15.2, "s_ace": 1.9e6, "weight_memory": 5120.0},
    "accuracy": {"validation": 0.981, "test": 0.975},
    "provenance": {
        "bitsearch": "0.1.0",
        "torch": "2.11.0",
        "seed": 0,
        "command": "bitsearch run --budget 4x",
        "trial": 7,
        "method": "adaptive",
        "split_seed": 0,
    },
}


def test_a_layer_is_shown_with_steps_that_agree_once():
    assert str(LayerPlan(weight_bits=3, spike_bits=(3, 2), time_steps=2)) == "w3 s3,2 T2"
    assert str(LayerPlan(weight_bits=3, spike_bits=(2, 2), time_steps=2)) == "w3 s2 T2"


def plan():
    return BitPlan.model_validate(CONTENT)


def changed(path, value):
    """CONTENT as JSON text, with the value at a dotted path set."""
    content = copy.deepcopy(CONTENT)
    *parents, last = path.split(".")
    target = content
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target[key]
    target[last] = value
    return json.dumps(content)


def refusal(text):
    """The message of the InputError, checked to be one line."""
    with pytest.raises(InputError) as caught:
        BitPlan.from_json(text, source="given.json")
    message = str(caught.value)
    assert message.startswith("given.json: ")
    assert len(message.splitlines()) == 1
    return message


def test_round_trip_through_json_loses_nothing():
    assert json.loads(plan().to_json()) == CONTENT
    assert BitPlan.from_json(plan().to_json()) == plan()


def test_layers_keep_their_order():
    content = copy.deepcopy(CONTENT)
    content["layers"] = dict.fromkeys(("z", "a", "m"), content["layers"]["conv1"])
    assert list(BitPlan.from_json(BitPlan.model_validate(content).to_json()).layers) == ["z", "a", "m"]


def test_round_trip_through_a_file(tmp_path):
    plan().save(tmp_path / "plan.json")
    assert BitPlan.load(tmp_path / "plan.json") == plan()
    assert BitPlan.load(str(tmp_path / "plan.json")) == plan()


def test_the_json_schema_validates_a_written_plan():
    SCHEMA.check_schema(SCHEMA.schema)
    SCHEMA.validate(json.loads(plan().to_json()))


def test_the_json_schema_validates_a_plan_without_accuracy():
    content = {key: value for key, value in CONTENT.items() if key not in ("accuracy", "target", "unquantized")}
    written = json.loads(BitPlan.model_validate(content).to_json())
    assert written["accuracy"] == {}
    assert written["unquantized"] == {}
    SCHEMA.validate(written)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("layers.conv1.weight_bits", 9),
        ("layers.conv1.weight_bits", "8"),
        ("layers.conv1.colour", "red"),
        ("colour", "red"),
        ("schema_version", 2),
        ("layers", {}),
        ("accuracy.test", 1.5),
        ("unquantized.head", {"reason": "", "weights": 1, "macs": 1}),
        ("unquantized.head", {"reason": "attention", "weights": -1, "macs": 1}),
        ("unquantized.head", {"reason": "attention", "weights": 1}),
    ],
)
def test_the_json_schema_refuses_wrong_plans(path, value):
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(json.loads(changed(path, value)))


@pytest.mark.parametrize(
    "path",
    [
        "colour",
        "layers.conv1.weight_bit",
        "budget.0.colour",
        "baseline.colour",
        "provenance.colour",
        "unquantized..colour",
    ],
)
def test_unknown_fields_are_named(path):
    message = refusal(changed(path, 3))
    assert f"unknown field '{path}'" in message
    assert "correct its spelling" in message


@pytest.mark.parametrize("field", ["space", "network", "budget", "baseline", "layers", "costs", "provenance"])
def test_missing_fields_are_named(field):
    content = {key: value for key, value in CONTENT.items() if key != field}
    assert f"'{field}' is missing" in refusal(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value", "field", "allowed"),
    [
        ("layers.conv1.weight_bits", 9, "layers.conv1.weight_bits is 9", "less than or equal to 8"),
        ("layers.conv1.weight_bits", 0, "layers.conv1.weight_bits is 0", "greater than or equal to 1"),
        ("layers.conv1.weight_bits", 2.5, "layers.conv1.weight_bits is 2.5", "integer"),
        ("layers.conv1.weight_bits", None, "layers.conv1.weight_bits is None", "integer"),
        ("layers.conv2.spike_bits", [3, 11], "layers.conv2.spike_bits.1 is 11", "less than or equal to 8"),
        ("layers.conv2.time_steps", 100_001, "layers.conv2.time_steps is 100001", "less than or equal to 100000"),
        ("layers.conv1.granularity", "tensor", "layers.conv1.granularity is 'tensor'", "'layer' or 'channel'"),
        ("layers.conv1.decay", 1.5, "layers.conv1.decay is 1.5", "less than or equal to 1"),
        ("layers.conv1.decay", float("nan"), "layers.conv1.decay is nan", "or equal to"),
        ("layers", {}, "layers is {}", "at least 1"),
        ("layers", [1], "layers is [1]", "object"),
        ("costs.s_ace", -1.0, "costs.s_ace is -1.0", "greater than or equal to 0"),
        ("costs.s_ace", float("nan"), "costs.s_ace is nan", "finite"),
        ("costs.s_ace", float("inf"), "costs.s_ace is inf", "finite"),
        ("accuracy.test", 1.01, "accuracy.test is 1.01", "less than or equal to 1"),
        ("accuracy.validation", -0.01, "accuracy.validation is -0.01", "greater than or equal to 0"),
        ("space", "", "space is ''", "at least 1"),
        ("network", "n" * 1001, "network is 'nnn", "at most 1000"),
        ("budget.0.limit", "much", "budget.0.limit is 'much'", "number"),
        ("target", "", "target is ''", "at least 1"),
        ("unquantized", [], "unquantized is []", "object"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(path, value, field, allowed):
    message = refusal(changed(path, value))
    assert field in message
    assert allowed in message


def test_long_values_are_cut():
    assert len(refusal(changed("layers.conv1.weight_bits", "x" * 10_000))) < 300


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused(version):
    message = refusal(changed("schema_version", version))
    assert f"schema_version is {version!r}" in message
    assert "reads version 1" in message


def test_a_missing_schema_version_is_refused():
    content = {key: value for key, value in CONTENT.items() if key != "schema_version"}
    assert "schema_version is None" in refusal(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "plan", "{'a': 1}", '{"a": 1}}', "\x00", '{"a": "\n"}'])
def test_not_json_is_refused(text):
    assert "not JSON" in refusal(text)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"plan"', "true", "[1, 2]"])
def test_json_that_is_no_object_is_refused(text):
    assert "object" in refusal(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"schema_version": 1, "space": ' + "[" * 100_000])
def test_hostile_nesting_is_refused(text):
    assert "not JSON" in refusal(text)


def test_nesting_that_json_can_still_read_is_refused():
    for depth in (50, 500, 900, 950, 980):
        refusal('{"schema_version": 1, "space": ' + "[" * depth + "]" * depth + "}")


def test_a_number_of_thousands_of_digits_is_refused():
    refusal(changed("provenance.seed", 0).replace('"seed": 0', '"seed": ' + "1" * 5000))


def test_a_layer_name_with_a_line_break_still_gives_one_line():
    content = copy.deepcopy(CONTENT)
    content["layers"]["conv\n3"] = content["layers"]["conv1"] | {"weight_bits": 9}
    assert "9" in refusal(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value"),
    [("layers.conv1.weight_bits", "8"), ("layers.conv1.time_steps", True), ("budget.0.met", "yes")],
)
def test_the_reader_refuses_the_types_that_the_schema_refuses(path, value):
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(json.loads(changed(path, value)))
    assert path.split(".")[-1] in refusal(changed(path, value))


@pytest.mark.parametrize(("steps", "bits"), [(1, []), (1, [3, 3]), (2, [3]), (3, [3, 3])])
def test_one_spike_bit_width_a_time_step(steps, bits):
    content = CONTENT["layers"]["conv1"] | {"spike_bits": bits, "time_steps": steps}
    message = refusal(changed("layers.conv1", content))
    assert "layers.conv1 is" in message
    assert f"lists {len(bits)} bit widths for {steps} time steps" in message


@pytest.mark.parametrize(("achieved", "met"), [(15.0, False), (16.0, False), (16.5, True)])
def test_a_met_that_contradicts_the_numbers_is_refused(achieved, met):
    outcome = {"metric": "bit_budget", "requested": "4x", "limit": 16.0, "achieved": achieved, "met": met}
    message = refusal(changed("budget", [outcome]))
    assert f"met is {met}" in message
    assert str(achieved) in message


def test_met_needs_every_budget():
    met = BudgetOutcome(metric="s_ace", requested="2", limit=2.0, achieved=2.0, met=True)
    missed = BudgetOutcome(metric="s_ace", requested="2", limit=2.0, achieved=2.1, met=False)
    assert plan().model_copy(update={"budget": (met, met)}).met
    assert not plan().model_copy(update={"budget": (met, missed)}).met


def test_a_plan_holds_several_budgets_and_what_the_network_keeps_at_full_precision():
    limit = {"metric": "weight_memory", "requested": "target small", "limit": 8192.0, "achieved": 5120.0, "met": True}
    content = CONTENT | {"target": "small", "budget": [*CONTENT["budget"], limit]}
    read = BitPlan.from_json(json.dumps(content))
    assert [(outcome.metric, outcome.requested) for outcome in read.budget] == [
        ("bit_budget", "4x"),
        ("weight_memory", "target small"),
    ]
    assert read.met
    assert read.unquantized[""].macs == 4096
    assert json.loads(read.to_json()) == content


def test_plans_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        plan().space = "other"
    with pytest.raises(ValidationError, match="frozen"):
        plan().layers["conv1"].weight_bits = 2


def test_mean_spike_bits():
    assert plan().layers["conv2"].mean_spike_bits == 2.5
    assert LayerPlan(weight_bits=1, spike_bits=(8, 1, 1, 2), time_steps=4).mean_spike_bits == 3


def test_uniform_bits_print_as_weights_spikes_steps():
    assert str(UniformBits(weight_bits=8, spike_bits=4, time_steps=2)) == "w8 s4 T2"


@pytest.mark.parametrize("text", ["w8 s4 T2", "8/4/2"])
def test_uniform_bits_are_read_as_they_are_and_were_written(text):
    assert UniformBits.parse(text) == UniformBits(weight_bits=8, spike_bits=4, time_steps=2)


@pytest.mark.parametrize("text", ["", "8/4", "w8 s4", "w9 s4 T1", "8/4/2/1"])
def test_other_texts_are_no_uniform_bits(text):
    with pytest.raises(ValueError, match=r"uniform bits|less than or equal"):
        UniformBits.parse(text)


def test_saving_leaves_nothing_but_the_plan(tmp_path):
    plan().save(tmp_path / "plan.json")
    plan().save(tmp_path / "plan.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_a_failed_save_leaves_the_old_plan_and_no_draft(tmp_path, monkeypatch):
    plan().save(tmp_path / "plan.json")
    before = (tmp_path / "plan.json").read_text()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*plan\.json: No space left on device"):
        plan().model_copy(update={"space": "other"}).save(tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_text() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_saving_over_a_folder_leaves_no_draft(tmp_path):
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        plan().save(tmp_path / "plan.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_saving_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*No such file"):
        plan().save(tmp_path / "missing" / "plan.json")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no plan at .*missing\.json"):
        BitPlan.load(tmp_path / "missing.json")
    with pytest.raises(InputError, match="cannot read the plan"):
        BitPlan.load(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read the plan .*binary\.json"):
        BitPlan.load(tmp_path / "binary.json")


def test_a_faulty_file_is_named(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InputError, match=r"plan\.json: schema_version is None"):
        BitPlan.load(tmp_path / "plan.json")


def test_the_shipped_json_schema_is_that_of_the_plan():
    shipped = resources.files("bitsearch").joinpath("plan.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == BitPlan.json_schema()


SETTINGS = {"reset": "zero", "threshold": "full", "strict": True}


def test_a_neurons_settings_are_written_where_it_has_any():
    assert all("neuron" not in layer for layer in json.loads(plan().to_json())["layers"].values())
    text = changed("layers.conv2.neuron", SETTINGS)
    with_settings = BitPlan.from_json(text)
    assert with_settings.layers["conv2"].neuron == NeuronSettings(reset="zero", threshold="full", strict=True)
    assert json.loads(with_settings.to_json())["layers"]["conv2"]["neuron"] == SETTINGS


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "layers.conv2.neuron",
            {"reset": "soft"},
            "layers.conv2.neuron.reset is 'soft': Input should be 'subtract', 'zero' or",
        ),
        ("layers.conv2.neuron", {"strict": True}, 'strict is true, but threshold is "half"'),
        (
            "layers.conv2",
            {"weight_bits": 8, "spike_bits": [1], "time_steps": 1, "decay": 0.0, "neuron": {"reset": "delayed"}},
            "neuron.reset is 'delayed', but decay is 0",
        ),
        ("layers.conv1.neuron", SETTINGS, "neuron has settings, which are for spikes of one sign"),
    ],
)
def test_settings_that_mean_nothing_are_refused(path, value, message):
    with pytest.raises(InputError, match=re.escape(message)):
        BitPlan.from_json(changed(path, value))
