"""A network that its target's format cannot express is refused before it is trained."""

import sys
from typing import get_args

import pytest
import torch
from torch import nn

import bitsearch
from bitsearch import Target
from bitsearch.choices import Choices, FirstLayer
from bitsearch.cli import main
from bitsearch.cost import CostModel, trace
from bitsearch.cost.rules import AllowedBits
from bitsearch.deploy.formats import FORMATS
from bitsearch.deploy.rehearsal import rehearse
from bitsearch.errors import InputError

AKIDA = Target.load("akida_1000")


def rehearsed(network, target=AKIDA):
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = CostModel(trace(network, x), target=target)
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    rehearse(network, x, rules.smallest(model), target)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def images(*behind):
    norm = nn.BatchNorm2d(4)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm, nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 3, 1), *behind)


def test_what_can_be_deployed_passes_and_stays_as_it_is():
    rehearsed(images())
    rehearsed(images(nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def test_a_silent_network_says_nothing_before_it_is_trained():
    network = images()
    nn.init.zeros_(network[1].weight)
    rehearsed(network)


def test_what_no_training_mends_is_refused_with_layer_reason_and_target():
    network = images(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(
        InputError, match=r"averages are taken .*; plans for the hardware target 'akida_1000' are deploy"
    ):
        rehearsed(network)


def test_a_target_without_a_format_asks_nothing():
    network = images(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    rehearsed(network, AKIDA.model_copy(update={"format": None}))


def test_targets_can_name_the_formats_that_can_be_asked():
    kinds = get_args(get_args(Target.model_fields["format"].annotation)[0])
    assert kinds == tuple(name for name, entry in FORMATS.items() if entry.expressible is not None)
    assert AKIDA.format == "akida"


def test_quantize_refuses_before_anything_is_trained():
    network = images(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(InputError, match=r"averages are taken .*; plans for the hardware target 'akida_1000'"):
        bitsearch.quantize(network, torch.randn(4, 1, 8, 8), target="akida_1000")
    assert bitsearch.quantize(images(), torch.randn(4, 1, 8, 8), target="akida_1000").layer_plans["4"].time_steps == 1


COMMANDS = {
    "run": ["run", "--budget", "2x", "--out", "run"],
    "profile of a space": ["profile", "digits"],
    "profile of a network": ["profile", "digits_cnn", "--input-shape", "1x8x8", "--classes", "10"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_before_they_train(command, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bitsearch", *COMMANDS[command], "--target", "akida_1000"])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(
        "bitsearch: Akida's first generation has no layer for 'pool': averages are taken over the whole"
    )
    assert not (tmp_path / "run").exists()
