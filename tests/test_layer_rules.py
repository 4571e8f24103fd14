import re

import pytest
import tomli_w
from pydantic import ValidationError

from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, TieRule, check_globs, last_rule, matches
from bitsearch.space import SearchSpace
from bitsearch.validation import from_toml

NAMES = ["stem", "layer1.0.conv1", "layer1.0.conv2", "layer10.0.conv1", "fc"]


@pytest.mark.parametrize(
    ("content", "values"), [(8, (8,)), ([4, 2], (2, 4)), ({"low": 2, "high": 5}, (2, 3, 4, 5)), ([3], (3,))]
)
@pytest.mark.parametrize("number", ["weight_bits", "spike_bits", "time_steps"])
def test_a_number_is_fixed_listed_or_within_a_range(content, values, number):
    assert getattr(LayerRule(match="fc", **{number: content}), number).values == values


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("layer1", NAMES[1:3]),
        ("layer1.*", NAMES[1:3]),
        ("layer1*", NAMES[1:4]),
        ("*.conv1", [NAMES[1], NAMES[3]]),
        ("*", NAMES),
        ("layer1.0.conv[2-9]", [NAMES[2]]),
        ("Layer1", []),
    ],
)
def test_a_glob_means_layers_and_what_is_inside_of_modules(glob, names):
    assert [name for name in NAMES if matches(name, [glob])] == names
    assert [name for name in NAMES if LayerRule(match=glob, weight_bits=1).applies_to(name)] == names


def test_of_several_rules_the_last_that_says_it_counts():
    rules = [
        LayerRule(match="*", weight_bits=2, spike_bits=3),
        LayerRule(match=["fc", "stem"], weight_bits=4),
        LayerRule(match="fc", time_steps=2),
    ]
    assert last_rule(rules, "fc", "weight_bits") is rules[1]
    assert last_rule(rules, "fc", "spike_bits") is rules[0]
    assert last_rule(rules, "fc", "time_steps") is rules[2]
    assert last_rule(rules, "stem", "time_steps") is None
    assert last_rule(rules, "fc", "granularity") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"match": "fc"}, "layers 'fc' sets nothing; give at least one of weight_bits, spike_bits, time_steps, gran"),
        ({"match": [], "weight_bits": 2}, "at least 1"),
        ({"match": "fc", "weight_bits": 9}, "weight_bits goes up to 9; at most 8"),
        ({"match": "fc", "weight_bits": 0}, "greater than or equal to 1"),
        ({"match": "fc", "spike_bits": []}, "list whole numbers"),
        ({"match": "fc", "spike_bits": True}, "list whole numbers, such as [1, 2, 4, 8]"),
        ({"match": "fc", "time_steps": {"low": 3, "high": 2}}, "low 3 is above high 2"),
        ({"match": "fc", "granularity": "row"}, "'layer' or 'channel'"),
        ({"weight_bits": 2}, "match"),
        ({"match": "fc", "bits": 2}, "bits"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(content, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        LayerRule.model_validate(content)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("layer3.*:weight_bits=8", LayerRule(match="layer3.*", weight_bits=8)),
        ("a:spike_bits=[1, 2]", LayerRule(match="a", spike_bits=[1, 2])),
        (" a : time_steps = {low = 1, high = 2}", LayerRule(match="a", time_steps={"low": 1, "high": 2})),
        ("*:granularity=channel", LayerRule(match="*", granularity="channel")),
    ],
)
def test_the_command_line_writes_a_rule_in_one_line(text, rule):
    assert LayerRule.parse(text) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (text, f"layer {text!r} sets nothing; give GLOB:KEY=VALUE, such as 'layer3.*:weight_bits=8'")
            for text in ("weight_bits=8", ":weight_bits=8", "a:weight_bits", "a:=8")
        ),
        (
            "a:weight_bit=8",
            "layer 'a:weight_bit=8': unknown field 'weight_bit'; remove it or correct its spelling; did you mean "
            "'weight_bits'?",
        ),
        (
            "a:weight_bits=3.5",
            "layer 'a:weight_bits=3.5': weight_bits is 3.5: list whole numbers, such as [1, 2, 4, 8], or give low and "
            "high",
        ),
    ],
)
def test_another_form_is_refused_in_one_line(text, message):
    with pytest.raises(InputError) as fault:
        LayerRule.parse(text)
    assert str(fault.value) == message


@pytest.mark.parametrize(
    ("glob", "advice"),
    [
        ("layr1.*", "near: 'layer1', 'layer10', 'layer1.0'"),
        ("layer1.0.convv1", "near: 'layer1.0.conv1', 'layer10.0.conv1', 'layer1.0.conv2'"),
        ("zzz", f"there are: {', '.join(NAMES)}"),
    ],
)
def test_a_glob_without_a_layer_is_told_the_near_names(glob, advice):
    with pytest.raises(InputError) as fault:
        check_globs("[[layers]]", ["fc", glob], NAMES)
    assert str(fault.value) == f"[[layers]] match {glob!r} is the name of no layer that gets bits; {advice}"


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (["spike_bits"], "give both"),
        ([], "at least 1"),
        (["weight_bits", "weight_bits"], "list each once"),
        (["bits"], "'weight_bits', 'spike_bits' or 'time_steps'"),
    ],
)
def test_a_tie_that_cannot_be_is_refused(share, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        TieRule(match="*", share=share)


SPACE = """
name = "mine"
network = "digits_cnn"
data = "digits"

[[layers]]
match = "conv*"
weight_bits = [2, 4]

[[layers]]
match = ["conv3", "fc"]
weight_bits = 8
time_steps = { low = 1, high = 2 }

[[ties]]
match = ["conv2", "conv3"]
share = ["spike_bits", "time_steps"]
"""


def test_a_space_has_rules_and_ties_in_their_order():
    space = SearchSpace.from_toml(SPACE)
    assert [rule.match for rule in space.layers] == [("conv*",), ("conv3", "fc")]
    assert space.layers[1] == LayerRule(match=["conv3", "fc"], weight_bits=8, time_steps={"low": 1, "high": 2})
    assert space.ties == (TieRule(match=["conv2", "conv3"], share=["spike_bits", "time_steps"]),)


def test_further_rules_come_behind_those_of_the_space():
    space = SearchSpace.from_toml(SPACE).with_layers(
        ["fc:weight_bits=1", {"match": "fc", "spike_bits": 2}, LayerRule(match="fc", time_steps=1)]
    )
    assert [rule.match for rule in space.layers] == [("conv*",), ("conv3", "fc"), ("fc",), ("fc",), ("fc",)]
    assert len(space.with_ties([{"match": "conv*", "share": ["weight_bits"]}]).ties) == 2
    with pytest.raises(InputError, match=r"^layers: unknown field 'bits'"):
        space.with_layers([{"match": "fc", "bits": 2}])
    with pytest.raises(InputError, match=r"^ties: field 'share' is missing"):
        space.with_ties([{"match": "fc"}])


def test_a_misspelt_field_of_an_entry_is_told_the_one_that_may_be_meant():
    with pytest.raises(InputError, match=r"unknown field 'layers.0.weightbits'.*did you mean 'weight_bits'"):
        SearchSpace.from_toml(SPACE.replace("weight_bits = [2, 4]", "weightbits = 3"))


@pytest.mark.parametrize(
    ("ties", "message"),
    [
        ("streams", "ties: ties is 'streams': give a list"),
        (["streams"], "ties: ties.0 is 'streams': give a table"),
        ([{"share": ["depth"]}], "ties: ties.0.share.0 is 'depth': Input should be 'weight_bits', 'spike_bits' or"),
    ],
)
def test_what_is_no_list_of_tables_is_told_in_the_words_of_a_file(ties, message):
    with pytest.raises(InputError) as fault:
        from_toml(SearchSpace, tomli_w.dumps({"name": "a", "network": "b", "data": "c", "ties": ties}), "ties")
    assert str(fault.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "tie"),
    [
        ("layer3.*:spike_bits,time_steps", TieRule(match="layer3.*", share=["spike_bits", "time_steps"])),
        ("query, key,value: weight_bits", TieRule(match=["query", "key", "value"], share=["weight_bits"])),
        ("layer1.*:streams", TieRule(match="layer1.*", share="streams")),
        ("streams", TieRule(share="streams")),
    ],
)
def test_a_tie_of_the_command_line(text, tie):
    assert TieRule.parse(text) == tie
    assert SearchSpace.from_toml(SPACE).with_ties([text]).ties[1:] == (tie,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc", "tie 'fc' shares nothing; give GLOB:NUMBERS"),
        ("weight_bits", "shares nothing; give GLOB:NUMBERS, such as 'layer3"),
        ("fc:bits", "tie 'fc:bits': .*share"),
        ("fc:spike_bits", "give both, since a step has its own bits"),
        (":weight_bits", "tie ':weight_bits': "),
    ],
)
def test_a_tie_of_another_form_is_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as refused:
        TieRule.parse(text)
    assert "\n" not in str(refused.value)
