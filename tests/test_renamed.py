import re

import pytest

from bitsearch.allocation_settings import Allocation
from bitsearch.errors import InputError
from bitsearch.renamed import RENAMED
from bitsearch.space import SearchSpace

LEAST = 'name = "mine"\nnetwork = "digits_cnn"\ndata = "digits"\n'
OTHERS = {
    "quantizer": "sigmoid",
    "granularity": "channel",
    "temperature_rate": 5.0,
    "largest_level": 4,
    "renewal": False,
    "renewal_epochs": 3,
    "sensitivity": "hessian",
    "ramp_steps": 3,
    "refine_tries": 2,
    "refine_epochs": 5,
}
"""A value of every old name, other than the default."""


def written(table, values):
    lines = [f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in values]
    return "\n".join([f"[{table}]", *lines, ""])


def value_of(allocation, name):
    table, key = name.split(".")
    return getattr(getattr(allocation, table), key)


def old_names_told(records):
    """What one warning says."""
    (record,) = records
    assert record.category is FutureWarning
    source, _, pairs = str(record.message).partition(": settings by old names: ")
    return source, pairs.split(", ")


def test_every_new_name_is_a_setting():
    assert set(RENAMED.values()) <= set(Allocation.types())
    assert set(OTHERS) == set(RENAMED)


def test_a_file_by_old_names_is_read_and_one_line_says_the_new_ones():
    with pytest.warns(FutureWarning) as records:
        space = SearchSpace.from_toml(LEAST + written("allocation", OTHERS.items()), source="mine.toml")
    assert {old: value_of(space.allocation, new) for old, new in RENAMED.items()} == OTHERS
    assert old_names_told(records) == ("mine.toml", [f"{old} is now {RENAMED[old]}" for old in OTHERS])
    # What is written has the new names alone.
    assert SearchSpace.model_validate(space.model_dump(mode="json", exclude_none=True)) == space


@pytest.mark.parametrize(
    ("old", "other", "value"),
    [
        ("granularity", "quantizer.form", "sigmoid"),
        ("largest_level", "quantizer.granularity", "channel"),
        ("renewal_epochs", "renewal.enabled", False),
        ("refine_tries", "refine.epochs", 5),
    ],
)
def test_an_old_name_stands_beside_its_tables_other_settings(old, other, value):
    table, key = other.split(".")
    text = written("allocation", [(old, OTHERS[old])]) + written(f"allocation.{table}", [(key, value)])
    with pytest.warns(FutureWarning, match=f"{old} is now {RENAMED[old]}"):
        allocation = SearchSpace.from_toml(LEAST + text).allocation
    assert (value_of(allocation, RENAMED[old]), value_of(allocation, other)) == (OTHERS[old], value)


def test_a_file_with_the_old_and_the_new_name_is_refused():
    text = "[allocation]\nramp_steps = 3\n[allocation.ramp]\nsteps = 3\n"
    with pytest.raises(InputError) as caught:
        SearchSpace.from_toml(LEAST + text, source="mine.toml")
    assert str(caught.value) == (
        "mine.toml: allocation.ramp_steps and allocation.ramp.steps, its new name, were both given; "
        "remove allocation.ramp_steps"
    )
    text = '[search.parameters]\nramp_steps = { choices = [2, 4] }\n"ramp.steps" = { choices = [2, 4] }\n'
    with pytest.raises(InputError, match=r"search\.parameters\.ramp_steps and search\.parameters\.ramp\.steps"):
        SearchSpace.from_toml(LEAST + text)


def test_parameters_by_old_names_keep_their_order():
    text = """[search.parameters]
renewal = { choices = [true, false] }
budget_share = { low = 0.5, high = 1.0 }
quantizer = { choices = ["uniform", "sigmoid"] }
temperature_rate = { low = 5, high = 20 }
ramp_steps = { choices = [2, 4] }
"""
    with pytest.warns(FutureWarning) as records:
        space = SearchSpace.from_toml(LEAST + text)
    assert list(space.search.parameters) == [
        "renewal.enabled", "budget_share", "quantizer.form", "quantizer.temperature_rate", "ramp.steps",
    ]  # fmt: skip
    assert len(old_names_told(records)[1]) == 4
    assert space.allocation_with({"renewal.enabled": False, "ramp.steps": 2}).ramp.steps == 2


@pytest.mark.parametrize("old", OTHERS)
def test_a_command_line_may_set_an_old_name(old):
    before = SearchSpace.load("digits").override(["allocation.quantizer.max_level=8", "allocation.refine.epochs=9"])
    value = str(OTHERS[old]).lower()
    with pytest.warns(FutureWarning) as records:
        space = before.override([f"allocation.{old}={value}"])
    assert old_names_told(records) == (f"allocation.{old}={value}", [f"{old} is now {RENAMED[old]}"])
    assert space == before.override([f"allocation.{RENAMED[old]}={value}"])
    assert value_of(space.allocation, RENAMED[old]) == OTHERS[old]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("search.parameters.ramp_steps={choices = [2, 4]}", "ramp.steps"),
        ("search.parameters.ramp_steps.choices=[2, 4]", "ramp.steps"),
        ("search.parameters.renewal={choices = [true, false]}", "renewal.enabled"),
        ("search.parameters.renewal.choices=[true, false]", "renewal.enabled"),
        ('search.parameters.quantizer={choices = ["sigmoid"]}', "quantizer.form"),
    ],
)
def test_a_command_line_may_vary_an_old_name(setting, name):
    with pytest.warns(FutureWarning, match=f"is now {re.escape(name)}"):
        assert name in SearchSpace.load("digits").override([setting]).search.parameters


@pytest.mark.parametrize(
    "setting",
    [
        'allocation.quantizer={form = "sigmoid"}',
        "allocation.quantizer.form=sigmoid",
        "allocation.renewal.epochs=3",
        "search.parameters.renewal.enabled={choices = [true, false]}",
        "search.parameters.renewal={enabled = {choices = [true, false]}}",
        'search.parameters.quantizer.form.choices=["sigmoid"]',
    ],
)
def test_a_new_name_is_no_old_one(setting):
    assert SearchSpace.load("digits").override([setting]) != SearchSpace.load("digits")


def test_a_command_line_with_the_old_and_the_new_name_is_refused():
    with pytest.raises(
        InputError, match=r"allocation\.ramp\.steps was set by this name and by its old one, ramp_steps"
    ):
        SearchSpace.load("digits").override(["allocation.ramp.steps=3", "allocation.ramp_steps=3"])
