import copy
import errno
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from spikingjelly.activation_based import neuron
from torch import nn

import bitsearch
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import LayerPlan
from bitsearch.score import Accuracy


def quantized(seed=0, weight_bits=3, width=4):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 10)
    )
    plan = {
        "0": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True),
        "4": LayerPlan(weight_bits=weight_bits, spike_bits=(2, 3), time_steps=2),
    }
    return convert(network, plan)


def images():
    return torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_unchanged(network, before):
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.fixture
def saved(tmp_path):
    network = quantized()
    network(images())
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)
    return network, path


def test_a_round_trip_gives_identical_outputs(saved):
    network, path = saved
    other = quantized(seed=1)
    assert not torch.equal(other.eval()(images()), network.eval()(images()))
    load_weights(other, str(path))
    assert torch.equal(other.eval()(images()), network.eval()(images()))
    assert_unchanged(other, network.state_dict())


def test_only_the_file_itself_is_left_behind(saved):
    _, path = saved
    assert [entry.name for entry in path.parent.iterdir()] == ["weights.safetensors"]


def test_tied_weights_are_saved_and_loaded(tmp_path):
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    network = nn.Sequential(first, nn.ReLU(), second)
    save_weights(network, tmp_path / "tied.safetensors")
    expected = first.weight.detach().clone()
    with torch.no_grad():
        first.weight.zero_()
    load_weights(network, tmp_path / "tied.safetensors")
    assert torch.equal(network[0].weight, expected)
    assert network[2].weight is network[0].weight


def damage_missing(path):
    path.unlink()
    return f"no weights at {path}"


def damage_folder(path):
    path.unlink()
    path.mkdir()
    return f"no weights at {path}"


def damage_truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return "is not a safetensors file"


def damage_header(path):
    path.write_bytes(path.read_bytes()[:5])
    return "is not a safetensors file"


def damage_empty(path):
    path.write_bytes(b"")
    return "is not a safetensors file"


def damage_foreign_kind(path):
    path.write_bytes(b"PK\x03\x04 this is a zip file, not a tensor in sight, far from it")
    return "is not a safetensors file"


def damage_wider_network(path):
    save_weights(quantized(width=5), path)
    return "tensor '0.weight' has shape (5, 1, 3, 3), the network's (4, 1, 3, 3)"


def damage_float_network(path):
    save_weights(nn.Sequential(nn.Conv2d(1, 4, 3, bias=False)), path)
    return "lacks tensor '0.weight_log_step'"


def damage_larger_network(path):
    save_weights(nn.Sequential(*quantized(), nn.Linear(10, 10, bias=False)), path)
    return "has an unknown tensor '5.weight'"


def damage_other_bits(path):
    save_weights(quantized(weight_bits=2), path)
    return "was trained with other weight_bits in layer '4'"


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing,
        damage_folder,
        damage_truncated,
        damage_header,
        damage_empty,
        damage_foreign_kind,
        damage_wider_network,
        damage_float_network,
        damage_larger_network,
        damage_other_bits,
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line_and_change_nothing(saved, damage):
    _, path = saved
    said = damage(path)
    network = quantized(seed=1)
    before = snapshot(network)
    with pytest.raises(InputError) as caught:
        load_weights(network, path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_unchanged(network, before)


def test_saving_where_there_is_no_folder_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError) as caught:
        save_weights(quantized(), tmp_path / "nowhere" / "weights.safetensors")
    assert "cannot write" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file_and_no_draft(saved, monkeypatch):
    _, path = saved
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="no space left"):
        save_weights(quantized(seed=2), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["weights.safetensors"]


def test_weights_from_before_gains_were_among_them_still_load(tmp_path):
    network = nn.Sequential(nn.Linear(4, 3), neuron.IFNode(v_threshold=2.0), nn.Linear(3, 2))
    layer = LayerPlan(weight_bits=4, spike_bits=(4,), time_steps=1)
    plan = {"0": layer.model_copy(update={"neurons": ()}), "2": layer.model_copy(update={"neurons": ("1",)})}
    converted = convert(network, plan)
    converted(torch.rand(3, 4))
    save_weights(converted, tmp_path / "new.safetensors")
    state = load_file(tmp_path / "new.safetensors")
    assert state.pop("1.gain").item() == 0.5
    save_file(state, tmp_path / "old.safetensors")
    other = convert(network, plan)
    load_weights(other, tmp_path / "old.safetensors")
    assert other[1].gain.item() == 0.5
    x = torch.rand(3, 4)
    assert torch.equal(other(x), converted(x))


@pytest.mark.parametrize("write", [save_weights, lambda network, path: save_file(network.state_dict(), path)])
def test_weights_of_a_network_quantized_in_a_loop_of_ones_own_fill_its_plan(write, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    quantized = bitsearch.quantize(network, images())
    quantized.project("4x")
    quantized(images())
    quantized.plan("4x").save(tmp_path / "plan.json")
    write(quantized, tmp_path / "weights.safetensors")
    for other in (bitsearch.apply(bitsearch.BitPlan.load(tmp_path / "plan.json"), network), copy.deepcopy(quantized)):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1)
        load_weights(other, tmp_path / "weights.safetensors")
        assert torch.equal(other.eval()(images()), quantized.eval()(images()))


def test_a_plan_of_a_loop_of_ones_own_has_its_costs_and_budgets():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    quantized = bitsearch.quantize(network, images())
    layers = quantized.project("4x", "memory=700B")
    plan = quantized.plan("4x", "memory=700B", accuracy=Accuracy(validation=0.5))
    assert plan.layers == layers
    # 36 weights of 8 bits and 1440 of w: whole bytes, a step of 4 bytes a time step, 8 bytes an output channel.
    conv, linear = layers.values()
    assert plan.costs["weight_memory"] == 36 + 4 + 32 + linear.weight_bits * 180 + 4 * linear.time_steps + 80
    assert [outcome.met for outcome in plan.budget] == [True, True]
    assert plan.costs == quantized.costs
    assert conv.weight_bits == 8
    assert repr(plan).startswith("BitPlan('network', 2 layers, validation 0.5000, bit_budget ")
    with pytest.raises(InputError, match="depends on how often neurons fire"):
        quantized.plan("ns_ace=1000")
