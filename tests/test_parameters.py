import pytest

from bitsearch.errors import InputError
from bitsearch.parameters import flatten, nest
from bitsearch.space import SearchSpace

LEAST = 'name = "mine"\nnetwork = "digits_cnn"\ndata = "digits"\n'
DOTTED = """[search.parameters]
"ramp.steps" = { choices = [2, 4] }
"quantizer.temperature_rate" = { low = 5.0, high = 20.0 }
weight_price = { low = 0.2, high = 5.0, log = true }
"""
NESTED = """[search.parameters]
ramp.steps = { choices = [2, 4] }
weight_price = { low = 0.2, high = 5.0, log = true }
[search.parameters.quantizer]
temperature_rate = { low = 5.0, high = 20.0 }
"""


def test_a_tables_setting_is_varied_by_its_dotted_name_or_in_a_table():
    dotted, nested = (SearchSpace.from_toml(LEAST + text) for text in (DOTTED, NESTED))
    assert dotted == nested
    assert set(dotted.search.parameters) == {"ramp.steps", "quantizer.temperature_rate", "weight_price"}
    assert SearchSpace.model_validate(dotted.model_dump(mode="json", exclude_none=True)) == dotted


def test_a_tables_setting_is_set_by_its_dotted_name():
    space = SearchSpace.from_toml(LEAST + DOTTED)
    found = space.allocation_with({"ramp.steps": 2, "quantizer.temperature_rate": 5.0, "start": {"weight_bits": 2,
        "spike_bits": 2, "time_steps": 1}})  # fmt: skip
    assert (found.ramp.steps, found.quantizer.temperature_rate, found.start.weight_bits) == (2, 5.0, 2)
    assert found.quantizer.form == "uniform"
    assert space.allocation.ramp.steps == 4


def test_a_command_line_reaches_into_a_dotted_parameter():
    space = SearchSpace.from_toml(LEAST + DOTTED).override(["search.parameters.ramp.steps.choices=[3, 5]"])
    assert space.search.parameters["ramp.steps"].choices == (3, 5)
    assert len(space.search.parameters) == 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('"ramp.steps" = { choices = [2] }\nramp = { steps = { choices = [2] } }', "ramp.steps was given twice"),
        ("ramp.stepps = { choices = [2] }", "search.parameters.ramp.stepps is not a setting"),
        ("ramp.steps = { choices = [0] }", "ramp.steps is 0"),
        ("ramp.steps = { low = 1, high = 4 }", "search.parameters.ramp.steps takes no range"),
        ("ramp.steps = { choices = [2], step = 1 }", "unknown field 'search.parameters.ramp.steps.step'"),
        ("ramp = { choices = [2] }", "search.parameters.ramp is not a setting"),
        ("start.weight_bits = { choices = [2] }", "search.parameters.start.weight_bits is not a setting"),
        ("ramp.steps.choices = { choices = [2] }", "search.parameters.ramp.steps"),
        ("budget_share = { low = 0.5, high = 1.0, x = { low = 0.5, high = 1.0 } }", "budget_share.x is not a setting"),
    ],
)
def test_a_dotted_parameter_that_does_not_fit_is_named(text, fault):
    with pytest.raises(InputError) as caught:
        SearchSpace.from_toml(f"{LEAST}[search.parameters]\n{text}")
    assert fault in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_nested_and_flat_are_the_reverse_of_each_other():
    flat = {"a": {"low": 1}, "b.c": {"choices": [1]}, "b.d": {"choices": [2]}}
    nested = {"a": {"low": 1}, "b": {"c": {"choices": [1]}, "d": {"choices": [2]}}}
    assert nest(flat) == nested
    assert flatten(nested) == flatten(flat) == flat
