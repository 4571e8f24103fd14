import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from torch import nn

from bitsearch import read
from bitsearch.deploy.formats.hub_folder import LICENCE, card, escape, export_hub_folder, portable
from bitsearch.errors import InputError, printable
from bitsearch.layers import convert
from bitsearch.layers.weights import load_weights
from bitsearch.plan import BitPlan, BudgetOutcome, LayerPlan
from bitsearch.score import Accuracy
from bitsearch.space import SearchSpace

HOSTILE = "<script>alert(1)</script> | [x](http://evil.example) ![i](u) `c` **b** www.evil.example\n# h\u202e &lt; $x$"
LAYERS = {"conv1": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True)}


@pytest.fixture
def space():
    return SearchSpace(name="tiny", network="digits_cnn", data="digits", network_options={"width": 4})


@pytest.fixture(scope="module")
def network(quantized):
    return quantized(weight_bits=3, spike_bits=2, time_steps=2)[0]


@pytest.fixture
def plan(network, make_plan):
    from bitsearch.layers import quantized_layers

    layers = {name: layer.layer_plan for name, layer in quantized_layers(network).items()}
    return make_plan(layers, accuracy=Accuracy(validation=0.9125), costs={"weight_memory": 2048.0})


def test_a_folder_holds_all_that_the_network_is_rebuilt_from(network, examples, plan, space, quantized, tmp_path):
    report = tmp_path / "pareto.html"
    report.write_text("<p>report</p>", encoding="utf-8")
    folder = tmp_path / "deep" / "folder"
    assert export_hub_folder(network, examples, folder, plan, space, report) is None
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "plan.json",
        "weights.safetensors",
        "space.toml",
        "packed.safetensors",
        "report.html",
    }
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]
    assert BitPlan.load(folder / "plan.json") == plan
    assert SearchSpace.load(folder / "space.toml") == space
    assert read(folder / "packed.safetensors").plan == plan
    fresh = quantized(weight_bits=3, spike_bits=2, time_steps=2)[0]
    with torch.no_grad():
        fresh.conv1.weight.zero_()
    load_weights(fresh, folder / "weights.safetensors")
    assert torch.equal(fresh(examples), network(examples))
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"---\nlicense: {LICENCE}\n")
    for part in ("91.25", "2 KiB", "| conv2 | 3 | 2 | 2 |", "packed.safetensors", "report.html"):
        assert part in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "| test | — |" in text
    widths = read(folder / "packed.safetensors").widths["conv2"]
    observed = (
        f"{widths.observed_accumulator} of {widths.accumulator} | {widths.observed_membrane} of {widths.membrane}"
    )
    assert f"| conv2 | {observed} | {widths.output} |" in text


def test_a_folder_with_something_in_it_is_left_alone(network, examples, plan, space, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for name in ("taken", "file"):
        with pytest.raises(InputError, match="never overwritten"):
            export_hub_folder(network, examples, tmp_path / name, plan, space)
    assert (tmp_path / "taken" / "mine.txt").read_text(encoding="utf-8") == "mine"
    (tmp_path / "empty").mkdir()
    export_hub_folder(network, examples, tmp_path / "empty", plan, space)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "taken"]


def test_a_network_that_cannot_be_packed_is_published_without(make_plan, space, tmp_path):
    layers = {"0": LayerPlan(weight_bits=3, spike_bits=(2,), time_steps=1)}
    network = convert(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), layers)
    with torch.no_grad():
        network(torch.rand(6, 4))
    reason = export_hub_folder(network, torch.rand(6, 4), tmp_path / "folder", make_plan(layers), space)
    assert "Sigmoid" in reason
    text = (tmp_path / "folder" / "README.md").read_text(encoding="utf-8")
    assert "There is no packed file" in text
    assert "bitsearch verify" not in text
    assert not (tmp_path / "folder" / "packed.safetensors").exists()


def test_a_copied_space_names_nothing_of_this_machine(space):
    local_space = space.model_copy(
        update={"data_options": {"root": "/home/me/data", "frames": 8}, "target": "/home/me/a.toml"}
    )
    assert portable(local_space).data_options == {"frames": 8}
    assert portable(local_space).target == "generic"
    assert portable(space.model_copy(update={"target": "neuromorphic"})).target == "neuromorphic"


def test_code_of_ones_own_is_run_with_trust_only(make_plan, space):
    local_space = space.model_copy(update={"network": "mine:net", "data_options": {"root": "/home/me/data"}})
    text = card(make_plan(LAYERS), local_space)
    assert "--trust --set data_options.root=DIR" in text
    assert "/home/me" not in text
    assert "--trust" not in card(make_plan(LAYERS), space)


def test_names_of_a_plan_are_text(make_plan, space):
    budget = BudgetOutcome(metric=HOSTILE, requested=HOSTILE, limit=1.0, achieved=1.0, met=True)
    plan = make_plan(
        {HOSTILE: LAYERS["conv1"]},
        network=HOSTILE,
        space=HOSTILE,
        target=HOSTILE,
        budget=(budget,),
        costs={HOSTILE: 1.0},
    )
    plan = plan.model_copy(update={"provenance": plan.provenance.model_copy(update={"command": HOSTILE})})
    text = card(plan, space.model_copy(update={"data": HOSTILE}), unpacked=HOSTILE)
    page = MarkdownIt("gfm-like", {"linkify": False}).render(text.partition("\n---\n")[2])
    for tag in ("<script", "<a ", "<img", "<strong>b", "<code>c"):
        assert tag not in page
    assert "\u202e" not in text
    # Rows stay whole: as many cells as the tables of a harmless plan have, with the file that is missing left out.
    assert page.count("<td>") == 2 * 2 + 3 + 4 + 3 * 2
    assert page.count("<h1>") == 1


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_escaped_text_is_shown_as_it_is(text):
    tokens = MarkdownIt("commonmark").parse(f"x{escape(text)}x")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert "".join(child.content for child in tokens[1].children) == f"x{printable(text)}x"
    assert {child.type for child in tokens[1].children} <= {"text", "text_special"}


def test_the_front_matter_is_yaml_without_names(make_plan, space):
    head = card(make_plan(LAYERS), space).split("---\n")[1].splitlines()
    values = dict(line.split(": ", 1) for line in head)
    assert values["license"] == LICENCE
    assert "spiking-neural-network" in json.loads(values["tags"])
