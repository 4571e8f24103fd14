import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bitsearch.cost import CostModel, trace
from bitsearch.deploy import pack, unpack
from bitsearch.errors import InputError
from bitsearch.layers import convert, quantized_layers
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import FirstLayer


@pytest.fixture
def examples():
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def quantized(examples, granularity="layer", **bits):
    torch.manual_seed(0)
    network = make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    model = CostModel(trace(network, examples))
    plan = model.uniform(UniformBits(**bits), FirstLayer(), granularity=granularity)
    network = convert(network, plan)
    network.train()
    network(examples)
    return network.eval(), model.cost("weight_memory", plan)


@pytest.mark.parametrize("weight_bits", range(1, 9))
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_levels_times_steps_are_the_quantized_weights_and_the_size_is_as_predicted(
    weight_bits, granularity, examples, tmp_path
):
    network, memory = quantized(examples, granularity, weight_bits=weight_bits, spike_bits=3, time_steps=2)
    size = pack(network, examples, tmp_path / "packed")
    assert size == memory
    levels = unpack(tmp_path / "packed")
    for name, layer in quantized_layers(network).items():
        assert torch.equal(levels[name] * layer.weight_step, layer.quantized_weight())


def test_multiplier_and_bias_reproduce_the_layer_and_its_batch_norm(examples, tmp_path):
    network, _ = quantized(examples, weight_bits=3, spike_bits=4, time_steps=1)
    pack(network, examples, tmp_path / "packed")
    levels = unpack(tmp_path / "packed")
    with safe_open(tmp_path / "packed", framework="pt") as file:
        multiplier, bias = (file.get_tensor(f"conv1.{part}") for part in ("multiplier", "bias"))
    spikes = network.conv1.spikes(examples)
    sums = torch.nn.functional.conv2d(spikes, levels["conv1"].float(), padding=1)
    expected = network.norm1(network.conv1(examples))
    torch.testing.assert_close(sums * multiplier.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1), expected)


def test_a_network_that_is_not_quantized_or_has_no_steps_yet_is_refused(examples, tmp_path):
    network = make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    with pytest.raises(InputError, match="no quantized layer"):
        pack(network, examples, tmp_path / "packed")
    plan = {"conv2": LayerPlan(weight_bits=2, spike_bits=(2,), time_steps=1)}
    with pytest.raises(InputError, match="load the weights"):
        pack(convert(network, plan), examples, tmp_path / "packed")
    assert list(tmp_path.iterdir()) == []


def test_foreign_truncated_and_missing_files_are_refused(examples, tmp_path):
    network, _ = quantized(examples, weight_bits=3, spike_bits=4, time_steps=1)
    pack(network, examples, tmp_path / "packed")
    whole = (tmp_path / "packed").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    save_file(
        {"a": torch.zeros(1)}, tmp_path / "lying", {"bitsearch.format": "1", "bitsearch.layers": json.dumps({"b": {}})}
    )
    for name in ("cut", "text", "foreign", "lying", "missing"):
        with pytest.raises(InputError, match="not a packed file"):
            unpack(tmp_path / name)
