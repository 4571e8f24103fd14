"""Two layers with one weight: stored once, replayed, read by hand and run by ONNX Runtime like any others."""

import hashlib
import json

import onnx
import pytest
import torch
from calibration import calibrate
from packed_reader import run as run_by_hand
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch import pack, quantize, read, verify
from bitsearch.cost import CostModel, trace
from bitsearch.deploy.formats.onnx import check_onnx, export_onnx
from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan


class Tied(nn.Module):
    """A convolution, two with one weight, and a batch norm behind the second of these; logits by sums."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.one = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 3, padding=1, stride=2)
        self.other.weight = self.one.weight
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(64, 3)

    def forward(self, x):
        x = self.one(self.first(x).relu()).relu()
        return self.last(self.norm(self.other(x)).relu().flatten(1))


NAMES = ("first", "one", "other", "last")


@pytest.fixture(scope="module")
def examples():
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["layer", "channel"])
def tied(examples, request):
    """(the network at fixed bits, its layers' plans, what the cost model says of its memory)."""
    torch.manual_seed(0)
    network = Tied()
    model = CostModel(trace(network, examples))
    layers = {
        name: LayerPlan(
            weight_bits=3 if name in ("one", "other") else 4,
            spike_bits=(4, 2) if name == "other" else (3,),
            time_steps=2 if name == "other" else 1,
            signed_input=name == "first",
            granularity=request.param,
        )
        for name in NAMES
    }
    return calibrate(convert(network, layers), examples), layers, model.cost("weight_memory", layers)


def test_the_weight_is_stored_once_and_the_file_has_the_bytes_of_the_metric(tied, examples, tmp_path):
    network, _, memory = tied
    # 36 and 192 weights of 4 bits, 144 of 3; 4 bytes a step, 8 an output channel.
    assert memory == 18 + 96 + 54 + 4 * (1 + 1 + 2 + 1) + 8 * (4 + 4 + 4 + 3)
    assert pack(network, examples, tmp_path / "packed") == memory
    assert "other.weight" not in load_file(tmp_path / "packed")
    packed = read(tmp_path / "packed")
    assert {name: layer.weight_of for name, layer in packed.program.layers.items() if layer.weight_of} == {
        "other": "one"
    }


def test_a_budget_on_memory_is_what_the_file_takes(examples, tmp_path):
    torch.manual_seed(0)
    learnable = quantize(Tied(), examples)
    limit = 320
    learnable.project(f"memory={limit}")
    memory = learnable.model.cost("weight_memory", learnable.layer_plans)
    network = calibrate(learnable.network, examples)
    assert pack(network, examples, tmp_path / "packed") == memory <= limit


def test_replay_equals_the_network_and_a_reader_of_the_description(tied, examples, tmp_path):
    network, _, _ = tied
    pack(network, examples, tmp_path / "packed")
    samples = TensorDataset(examples, torch.zeros(len(examples), dtype=torch.long))
    assert verify(read(tmp_path / "packed"), network, examples, samples).equal
    outputs, fraction = run_by_hand(tmp_path / "packed", examples[0].flatten().tolist())
    replayed = read(tmp_path / "packed").replay()(examples[:1])
    assert replayed.flatten().tolist() == outputs
    assert torch.tensor(outputs) * 2.0**-fraction == pytest.approx(network(examples)[0].detach(), abs=0.05)


def test_onnx_has_both_layers_with_equal_logits(tied, examples, make_plan, tmp_path):
    network, layers, _ = tied
    export_onnx(network, examples, tmp_path / "tied.onnx", make_plan(layers))
    samples = TensorDataset(examples, torch.zeros(len(examples), dtype=torch.long))
    agreement = check_onnx(tmp_path / "tied.onnx", network, samples)
    assert agreement.agreeing == agreement.samples
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "tied.onnx").metadata_props}
    bits = [json.loads(metadata[f"bitsearch.layers.{name}"])["weight_bits"] for name in ("one", "other")]
    assert bits == [3, 3]


def test_a_transposed_convolution_with_the_weight_of_a_convolution_stores_its_own():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 1, 3), nn.Flatten(), nn.Linear(64, 3))
    network[2].weight = network[0].weight
    images = torch.randn(4, 1, 8, 8)
    layers = {
        name: LayerPlan(weight_bits=4, spike_bits=(4,), time_steps=1, signed_input=name != "2")
        for name in ("0", "2", "4")
    }
    lowered = lower(calibrate(convert(network, layers), images), images)
    assert [layer.weight_of for layer in lowered.program.layers.values()] == [None] * 3


@pytest.mark.parametrize(
    ("name", "owner", "message"),
    [
        ("other", "nothing", "for which none is stored"),
        ("other", "other", "for which none is stored"),
        ("one", "other", "for which none is stored"),
        ("other", "first", "not of its shape and bits"),
    ],
)
def test_lies_about_whose_a_weight_is_are_refused(tied, examples, tmp_path, name, owner, message):
    network, _, _ = tied
    pack(network, examples, tmp_path / "packed")
    with safe_open(tmp_path / "packed", framework="pt") as file:
        metadata = file.metadata()
    program = json.loads(metadata["bitsearch.program"])
    program["layers"][name]["weight_of"] = owner
    metadata["bitsearch.program"] = json.dumps(program)
    tensors = load_file(tmp_path / "packed")
    parts = b"".join(metadata[f"bitsearch.{part}"].encode() + b"\0" for part in ("program", "widths", "plan"))
    digest = hashlib.sha256(parts)
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode() + b"\0" + tensor.numpy().tobytes() + b"\0")
    save_file(tensors, tmp_path / "lie", metadata | {"bitsearch.sha256": digest.hexdigest()})
    with pytest.raises(InputError, match=message):
        read(tmp_path / "lie")
