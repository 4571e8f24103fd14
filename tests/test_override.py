import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.errors import InputError
from bitsearch.override import override


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("2e-3", 0.002),
        ("true", True),
        ("[1, 2, 4]", [1, 2, 4]),
        ("{low = 1, high = 3}", {"low": 1, "high": 3}),
        ('"3"', "3"),
        ("/data/images", "/data/images"),
        ("C:\\data", "C:\\data"),
        ("s_ace", "s_ace"),
        ("a=b", "a=b"),
        ("", ""),
        ("2024-01-02", "2024-01-02"),
        ("1\nother = 2", "1\nother = 2"),
        ("[1, 2", "[1, 2"),
    ],
)
def test_a_value_is_toml_or_stands_for_itself(text, value):
    found = override({}, [f"key={text}"])
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_dots_lead_into_tables_and_make_them():
    content = {"name": "mine", "training": {"epochs": 9, "batch_size": 64}}
    settings = ["training.epochs=3", "data_options.root=/data", "choices.weight_bits.low=2", "name=other"]
    assert override(content, settings) == {
        "name": "other",
        "training": {"epochs": 3, "batch_size": 64},
        "data_options": {"root": "/data"},
        "choices": {"weight_bits": {"low": 2}},
    }
    assert content == {"name": "mine", "training": {"epochs": 9, "batch_size": 64}}


def test_the_last_of_several_values_counts():
    assert override({"a": {"b": 1}}, ["a.b=2", "a.c=3", "a.b=4"]) == {"a": {"b": 4, "c": 3}}


@pytest.mark.parametrize("setting", ["", "training.epochs", "=3", ".epochs=3", "training.=3", "a..b=3", " =1"])
def test_what_sets_nothing_is_refused(setting):
    with pytest.raises(InputError, match=r"sets nothing; give KEY=VALUE, such as training\.epochs=3"):
        override({}, [setting])


@pytest.mark.parametrize("value", [3, [1, 2], "text", True])
def test_a_key_leads_into_tables_alone(value):
    with pytest.raises(InputError, match=r"'a\.b\.c=1' cannot be set: a\.b is .*, no table; set a\.b as a whole"):
        override({"a": {"b": value}}, ["a.b.c=1"])


KEYS = st.from_regex(r"[a-z_]{1,5}", fullmatch=True)


@given(st.lists(KEYS, min_size=1, max_size=4), st.integers(), st.dictionaries(KEYS, st.integers()))
def test_a_setting_is_found_under_its_key_and_changes_no_other(path, value, others):
    kept = {name: other for name, other in others.items() if name != path[0]}
    found = override(kept, [f"{'.'.join(path)}={value}"])
    assert {name: other for name, other in found.items() if name != path[0]} == kept
    for name in path:
        found = found[name]
    assert found == value
