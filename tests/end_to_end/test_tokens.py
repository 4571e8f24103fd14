"""Inputs that are numbers of tokens, and masks: beside the same network that is given them as floats."""

import pytest
import torch
from refusal import refused
from spikingjelly.activation_based import layer, neuron
from torch import nn
from torch.utils.data import DataLoader, StackDataset, TensorDataset

import bitsearch
from bitsearch.errors import InputError

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore:kept at 32 bits:UserWarning")]

WORDS, LENGTH, SIZE, STEPS = 12, 5, 6, 2
SETTINGS = {
    "budget": "4x",
    "trials": 1,
    "epochs": 2,
    "device": "cpu",
    "training": {"batch_size": 16, "micro_batch": 8, "distillation": {"weight": 0.5}},
}


class Text(nn.Module):
    """A spiking classifier of token numbers, from which padding, the token 0, is left out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(WORDS, SIZE)
        self.encode, self.neuron = layer.Linear(SIZE, 8, step_mode="m"), neuron.LIFNode(step_mode="m")
        self.head = layer.Linear(8, 3, step_mode="m")

    def forward(self, tokens):
        return self.classes(tokens, tokens != 0)

    def classes(self, tokens, mask):
        vectors = self.embedding(tokens) * mask.unsqueeze(-1)
        return self.head(self.neuron(self.encode(vectors.expand(STEPS, -1, -1, -1))).mean(2)).mean(0)


class TextOfFloats(Text):
    def forward(self, tokens):
        return super().forward(tokens.long().clamp(0, WORDS - 1))


class Described(Text):
    """Tokens, their mask and a vector, by name."""

    def __init__(self):
        super().__init__()
        self.age, self.last = nn.Linear(3, 4), nn.Linear(7, 3)

    def forward(self, tokens, mask, age):
        return self.last(torch.cat([self.classes(tokens, mask), self.age(age).relu()], 1))


class DescribedByFloats(Described):
    """The same of one input."""

    def forward(self, x):
        tokens, mask, age = x.split([LENGTH, LENGTH, 3], 1)
        return super().forward(tokens.long().clamp(0, WORDS - 1), mask.bool(), age)


def samples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, WORDS, (count, LENGTH), generator=generator)
    tokens[::2, 3:] = 0
    return TensorDataset(tokens, tokens[:, 0] % 3)


def described(part):
    tokens, labels = part.tensors
    age = torch.randn(len(tokens), 3, generator=torch.Generator().manual_seed(len(tokens)))
    return StackDataset(StackDataset(tokens=tokens, mask=tokens != 0, age=age), labels)


def as_floats(part):
    inputs, labels = zip(*part, strict=True)
    rows = [torch.cat([x.float() for x in (row.values() if isinstance(row, dict) else [row])]) for row in inputs]
    return TensorDataset(torch.stack(rows), torch.tensor(labels))


def parts():
    return samples(48, 0), samples(24, 1), samples(16, 2)


def measured(result):
    rows = [(plan.layers, plan.costs, plan.accuracy, plan.provenance.trial) for plan in result.folder.plans()]
    return rows, result.folder.settings.full_precision, result.best.layers


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return bitsearch.search(Text(), parts(), out=tmp_path_factory.mktemp("tokens") / "run", **SETTINGS)


def test_a_search_of_tokens_is_that_of_the_same_numbers_as_floats(searched, tmp_path):
    floats = [as_floats(part) for part in parts()]
    assert measured(searched) == measured(bitsearch.search(TextOfFloats(), floats, out=tmp_path / "run", **SETTINGS))
    assert searched.evaluate(parts()[2]) == searched.best.accuracy.test
    assert set(searched.best.layers) == {"encode", "head"}
    assert searched.best.layers["encode"].signed_input
    trained = searched.network().state_dict()["embedding.weight"]
    assert trained.dtype == torch.float32
    assert not torch.equal(trained, Text().embedding.weight)


def test_tokens_a_mask_and_floats_by_name_through_loaders(tmp_path):
    named = [described(part) for part in parts()]
    result = bitsearch.search(Described(), [DataLoader(part, 16) for part in named], out=tmp_path / "run", **SETTINGS)
    floats = [DataLoader(as_floats(part), 16) for part in named]
    assert measured(result) == measured(
        bitsearch.search(DescribedByFloats(), floats, out=tmp_path / "floats", **SETTINGS)
    )
    assert result.evaluate(DataLoader(named[2], 5)) == result.best.accuracy.test


def test_vectors_count_32_bits_each():
    quantized = bitsearch.quantize(Text(), samples(8, 0).tensors[0])
    (embedding,) = quantized.model.unquantized
    assert (embedding.name, embedding.weights, embedding.macs) == ("embedding", WORDS * SIZE, 0)
    bare = bitsearch.quantize(nn.Sequential(nn.Linear(SIZE, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(8, SIZE))
    bits = bitsearch.UniformBits(weight_bits=8, spike_bits=1, time_steps=1)
    memory = [model.cost("weight_memory", model.uniform(bits, None)) for model in (quantized.model, bare.model)]
    assert memory[0] - memory[1] == 4 * WORDS * SIZE
    # What reads the data is the embedding: all others are searched, and vectors have both signs.
    assert embedding.first
    assert [(layer.name, layer.first, layer.signed_input) for layer in quantized.model.layers] == [
        ("encode", False, True),
        ("head", False, False),
    ]


def test_a_study_of_ones_own_training_takes_them(tmp_path):
    with bitsearch.Study(Text(), parts(), "4x", trials=1, steps=3, out=tmp_path / "run", device="cpu") as study:
        for trial in study:
            optimizer = torch.optim.Adam(trial.network.parameter_groups(lr=1e-3))
            for tokens, labels in DataLoader(parts()[0], 16):
                loss = nn.functional.cross_entropy(trial.network(tokens), labels) + trial.penalty()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            trial.freeze()
            study.tell(trial)
        assert study.result().best.met


def test_sensitivities_and_plans_without_training(searched, tmp_path):
    network, data = Text(), parts()
    table = bitsearch.sensitivity(network, data, device="cpu", samples=16).table()
    assert set(table["layer"]) == {"encode", "head"}
    result = bitsearch.allocate(network, data, budgets="4x", out=tmp_path / "run", device="cpu", samples=32)
    assert result.best.met


def test_what_no_file_of_integers_holds_is_refused_by_name(searched, tmp_path):
    with pytest.raises(InputError, match="embedding is an Embedding, whose 32-bit vectors a packed file cannot hold"):
        searched.deploy(tmp_path / "text.packed")
    assert not (tmp_path / "text.packed").exists()


MODULE = """
import sys

sys.path.insert(0, {tests!r})
from test_tokens import Text, parts


def network():
    return Text()
"""


def test_commands_take_them(call, tmp_path):
    (tmp_path / "words.py").write_text(MODULE.format(tests=str(__file__.rpartition("/")[0])), encoding="utf-8")
    names = ("--model", "words:network", "--data", "words:parts")
    short = ("--set", "training.full_precision_epochs=1", "--set", "training.epochs=1", "--device", "cpu")
    assert call("run", *names, "--trials", "1", "--out", "run", *short, cwd=tmp_path).returncode == 0
    page = (tmp_path / "run" / "pareto.html").read_text(encoding="utf-8")
    assert "embedding (72 weights; Embedding cannot be given bits" in page
    evaluated = call("evaluate", "run/plan.json", "--trust", cwd=tmp_path)
    assert "validation accuracy" in evaluated.stdout
    deployed = call("deploy", "run/plan.json", "--trust", "--format", "onnx", "-o", "text.onnx", cwd=tmp_path)
    assert "16 of 16 test samples are predicted as by the network" in deployed.stdout
    packed = call("deploy", "run/plan.json", "--trust", "-o", "text.packed", cwd=tmp_path)
    assert (packed.returncode, packed.stdout) == (2, "")
    assert "bitsearch: embedding is an Embedding, whose 32-bit vectors" in packed.stderr.splitlines()[-1]
    profiled = call("profile", "words:network", "--data", "words:parts", cwd=tmp_path)
    assert "left as it is: Embedding cannot be given bits" in profiled.stdout
    line = refused(call("profile", "words:network", cwd=tmp_path))
    assert line.endswith("it was given random floats; --data gives it samples")


class SparseText(Text):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, SIZE, sparse=True)


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (SparseText, {}, "the gradient of its embedding is sparse; make it with sparse=False"),
        (Text, {"training": {"mixup": 0.3}}, "training.mixup is 0.3, and an input is int64: between two tokens"),
        (lambda: nn.Linear(LENGTH, 3), {}, "its inputs are int64, as an embedding takes them: give layers float32"),
    ],
)
def test_what_does_not_fit_tokens_is_said_before_anything_is_trained(network, settings, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        bitsearch.search(network(), parts(), out=tmp_path / "run", **{**SETTINGS, **settings})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_token_that_the_network_does_not_know_is_told_with_its_place(tmp_path):
    train = samples(48, 0)
    train.tensors[0][40, 0] = WORDS
    with pytest.raises(InputError, match=r"test_tokens\.py:\d+: IndexError: index out of range") as caught:
        bitsearch.search(Text(), (train, samples(16, 1)), out=tmp_path / "run", **SETTINGS)
    assert "\n" not in str(caught.value)
