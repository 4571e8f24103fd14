"""Time, batch and tokens are told apart, whatever their sizes are."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import bitsearch
from bitsearch.cost.tracing import trace
from bitsearch.dataflow.recording import record

T = 4
LAYOUTS = {
    "samples, tokens": (lambda x: x, lambda y, n: y.flatten(1)),
    "tokens, samples": (lambda x: x.transpose(0, 1), lambda y, n: y.transpose(0, 1).flatten(1)),
    "tokens in the batch": (lambda x: x.flatten(0, 1), lambda y, n: y.view(n, -1)),
    "batch in the tokens": (
        lambda x: x.transpose(0, 1).flatten(0, 1),
        lambda y, n: y.unflatten(0, (-1, n)).transpose(0, 1).flatten(1),
    ),
}
"""By name, how tokens ``[N, P, 16]`` are laid out for a static encoder, and how they are laid back."""


class Tokens(nn.Module):
    """A static encoder of P tokens, and a spiking part with a time axis of its own."""

    def __init__(self, layout, tokens):
        super().__init__()
        self.laid_out, self.laid_back = LAYOUTS[layout]
        self.embed = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Sequential(layer.Linear(8 * tokens, 16), neuron.IFNode(), layer.Linear(16, 10))
        functional.set_step_mode(self.head, "m")

    def forward(self, x):
        tokens = self.laid_back(self.embed(self.laid_out(x)), len(x))
        return self.head(tokens.unsqueeze(0).repeat(T, 1, 1)).mean(0)


def tokens_network(layout, tokens=4):
    torch.manual_seed(0)
    return Tokens(layout, tokens).eval()


def moved(network, x, axis=0):
    """By how much the outputs of all samples but the first move when the first changes."""
    results = []
    for first in (x.select(axis, 0), 1 - x.select(axis, 0)):
        changed = x.clone()
        changed.select(axis, 0).copy_(first)
        functional.reset_net(network)
        with torch.no_grad():
            results.append(network(changed).narrow(axis, 1, x.shape[axis] - 1))
    return (results[0] - results[1]).abs().max().item()


@pytest.mark.filterwarnings("ignore:the network does not run with one frame less")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tokens", [2, 4, 8, 6])
@pytest.mark.parametrize("batch", [4, 5, 8])
def test_tokens_are_no_frames(layout, tokens, batch):
    first, second, *_ = trace(tokens_network(layout, tokens), torch.randn(batch, tokens, 16))
    assert (first.frames, second.frames) == (None, None)
    assert (first.macs, second.macs) == (tokens * 16 * 8, tokens * 8 * 8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tokens", [2, 4])
def test_frames_behind_tokens_are_found(layout, tokens):
    *_, one, two = trace(tokens_network(layout, tokens), torch.randn(5, tokens, 16))
    assert (one.frames, two.frames) == (T, T)
    assert (one.macs, two.macs) == (8 * tokens * 16, 16 * 10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("filled", [torch.zeros, torch.ones])
def test_an_example_of_one_value_is_as_good_as_another(layout, filled):
    wanted, *_ = trace(tokens_network(layout), torch.randn(5, 4, 16))
    first, *_ = trace(tokens_network(layout), filled(5, 4, 16))
    assert (first.frames, first.macs) == (wanted.frames, wanted.macs)


@pytest.mark.filterwarnings("ignore:the network does not run with one frame less")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [4, 8])
def test_no_sample_moves_with_another(layout, batch):
    network, x = tokens_network(layout), torch.rand(batch, 4, 16)
    quantized = bitsearch.quantize(network, x).eval()
    quantized(x)
    assert moved(network, x) == 0
    assert moved(quantized, x) == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_of_one_is_enough(layout):
    first, *_ = trace(tokens_network(layout, 2), torch.randn(1, 2, 16))
    assert (first.frames, first.macs) == (None, 2 * 16 * 8)


class Framed(nn.Module):
    """Layers on frames that are folded into the batch, ``[T·N, ...]`` or ``[N·T, ...]``."""

    def __init__(self, frames_first=True):
        super().__init__()
        self.frames_first = frames_first
        self.a, self.lif, self.b = nn.Conv1d(4, 4, 3, padding=1), neuron.IFNode(step_mode="m"), nn.Linear(4, 4)

    def forward(self, x):
        steps, batch = x.shape[:2]
        if self.frames_first:
            y = self.a(x.flatten(0, 1)).unflatten(0, (steps, batch))
        else:
            y = self.a(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (batch, steps)).transpose(0, 1)
        return self.b(self.lif(y).mean(-1).flatten(0, 1)).unflatten(0, (steps, batch))


@pytest.mark.parametrize(("steps", "batch"), [(4, 4), (4, 5), (2, 4), (4, 2), (3, 1), (8, 4)])
def test_frames_in_front_of_the_batch(steps, batch):
    a, b = trace(Framed(), torch.rand(steps, batch, 4, 4), time_axis=True)
    assert (a.frames, b.frames) == (steps, steps)
    assert (a.macs, b.macs) == (4 * 4 * 4 * 3, 4 * 4)


@pytest.mark.parametrize(("steps", "batch"), [(4, 4), (4, 5), (2, 4), (4, 2), (8, 4)])
def test_frames_behind_the_batch_are_inputs_of_their_own(steps, batch):
    torch.manual_seed(0)
    a, b = trace(Framed(frames_first=False), torch.rand(steps, batch, 4, 4), time_axis=True)
    assert (a.frames, a.macs) == (None, steps * 4 * 4 * 4 * 3)
    assert (b.frames, b.macs) == (steps, 4 * 4)


@pytest.mark.parametrize("frames_first", [True, False])
def test_no_sample_of_frames_moves_with_another(frames_first):
    torch.manual_seed(0)
    network, x = Framed(frames_first).eval(), 4 * torch.rand(4, 4, 4, 4)
    quantized = bitsearch.quantize(network, x, time_axis=True).eval()
    quantized(x)
    assert moved(network, x, 1) == 0
    assert moved(quantized, x, 1) == 0


class Encoded(nn.Module):
    """A static convolution on ``[N, C, H, W]``, repeated, and a spiking head: nothing but sizes tells them apart."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.encode = steps, nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.lif, self.head = neuron.LIFNode(step_mode="m"), layer.Linear(64, 4, step_mode="m")

    def forward(self, x):
        y = self.encode(x).unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)
        return self.head(self.lif(y).flatten(2)).mean(0)


@pytest.mark.parametrize("steps", [4, 2, 3])
@pytest.mark.parametrize("batch", [4, 2, 5])
def test_a_static_encoder_where_all_sizes_are_alike(steps, batch):
    torch.manual_seed(0)
    one, two, head = trace(Encoded(steps), torch.rand(batch, 4, 4, 4))
    assert [one.frames, two.frames, head.frames] == [None, None, steps]
    assert [one.macs, two.macs, head.macs] == [4 * 4 * 16, 4 * 4 * 16, 64 * 4]


def test_samples_of_a_static_encoder_where_all_sizes_are_alike():
    torch.manual_seed(0)
    x = torch.rand(4, 4, 4, 4)
    quantized = bitsearch.quantize(Encoded(4), x).eval()
    quantized(x)
    assert moved(quantized, x) == 0


@pytest.mark.parametrize("batch", [2, 4, 5])
def test_a_sequence_is_seen_without_being_told(batch):
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4))
    functional.set_step_mode(network, "m")
    x = torch.rand(4, batch, 4)
    assert list(trace(network, x)) == list(trace(network, x, time_axis=True))
    assert [found.frames for found in trace(network, x)] == [4, 4]


def test_a_single_frame_is_no_time_axis():
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4))
    functional.set_step_mode(network, "m")
    assert [found.frames for found in trace(network, torch.rand(1, 3, 4), time_axis=True)] == [None, None]


def test_what_is_repeated_is_static():
    torch.manual_seed(0)
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4))
    functional.set_step_mode(network, "m")
    x = 2 * torch.rand(3, 4)
    assert [found.is_static_input for found in trace(network, x.expand(4, -1, -1))] == [True, False]
    assert [found.is_static_input for found in trace(network, torch.rand(4, 3, 4))] == [False, False]


class TimeLater(nn.Module):
    """Its input is ``[N, T, ...]``."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4))
        functional.set_step_mode(self.body, "m")

    def forward(self, x):
        return self.body(x.transpose(0, 1)).mean(0)


@pytest.mark.parametrize(("batch", "steps"), [(4, 4), (3, 4), (4, 3)])
def test_time_as_the_second_axis_of_the_example(batch, steps):
    a, b = trace(TimeLater(), torch.rand(batch, steps, 4))
    assert (a.frames, b.frames, a.macs, b.macs) == (steps, steps, 16, 16)


@pytest.mark.parametrize(("batch", "steps"), [(4, 4), (3, 4)])
def test_no_sample_moves_with_another_where_time_is_second(batch, steps):
    torch.manual_seed(0)
    x = 4 * torch.rand(batch, steps, 4)
    quantized = bitsearch.quantize(TimeLater(), x).eval()
    quantized(x)
    assert moved(quantized, x) == 0


class OneSize(nn.Module):
    """Runs with a batch of three only."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)).view(3, 4))


def test_a_network_for_one_batch_size_is_measured_by_its_sizes_and_that_is_said():
    line = (
        r"^the network does not run with one sample less: it fails \(shape '\[3, 4\]' is invalid for input of size 8\)"
        "; what its axes hold is taken from their sizes$"
    )
    with pytest.warns(UserWarning, match=line):
        layers = trace(OneSize(), torch.rand(3, 4))
    assert [(layer.macs, layer.frames) for layer in layers] == [(16, None), (8, None)]


def test_a_network_for_one_batch_size_and_number_of_frames():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.lif, self.b = nn.Linear(4, 4), neuron.IFNode(step_mode="m"), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.lif(self.a(x.flatten(0, 1)).view(5, 3, 4)).view(15, 4))

    with pytest.warns(UserWarning, match="does not run with one (sample|frame) less: it fails") as caught:
        layers = trace(Sized(), torch.rand(5, 3, 4), time_axis=True)
    assert len(caught) == 2
    assert [(layer.macs, layer.frames) for layer in layers] == [(16, 5), (8, 5)]


def test_a_network_for_one_number_of_frames():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.lif, self.b = nn.Linear(4, 4), neuron.IFNode(step_mode="m"), nn.Linear(20, 2)

        def forward(self, x):
            return self.b(self.lif(self.a(x)).transpose(0, 1).flatten(1))

    with pytest.warns(UserWarning, match=r"with one frame less: its module 'b' fails \(mat1 and mat2 shapes cannot"):
        a, b = trace(Sized(), torch.rand(5, 3, 4), time_axis=True)
    assert (a.macs, a.frames) == (16, 5)
    assert (b.macs, b.frames) == (40, None)


class Centered(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x - x.mean(0))


def test_a_network_that_mixes_samples_is_found_out():
    assert record(Centered(), torch.rand(4, 4)).mixes_samples
    with pytest.warns(UserWarning, match="a sample's result changes with the rest of its batch"):
        trace(Centered(), torch.rand(4, 4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_that_does_not_mix_samples(layout):
    assert not record(tokens_network(layout), torch.rand(5, 4, 16)).mixes_samples


class Query(nn.Module):
    """A learned query that knows nothing of the batch."""

    def __init__(self):
        super().__init__()
        self.query, self.a, self.b = nn.Parameter(torch.rand(4, 4)), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(x * self.a(self.query).mean(0))


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_what_does_not_depend_on_the_batch_counts_as_it_is(batch):
    a, b = trace(Query(), torch.rand(batch, 4), ["a", "b"])
    assert (a.macs, b.macs) == (4 * 16, 8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_examples_of_other_precision(dtype):
    network = tokens_network("tokens in the batch", 2).to(dtype)
    first, *_ = trace(network, torch.rand(5, 2, 16, dtype=dtype))
    assert (first.macs, first.frames) == (2 * 16 * 8, None)


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
def test_an_example_of_whole_numbers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Flatten(), nn.Linear(24, 2))
    found = [one for one in trace(network, torch.randint(9, (5, 6))) if one.fixed_reason is None]
    assert [one.macs for one in found] == [6 * 16, 48]


class Words(nn.Module):
    """Tokens, or a mask, that may be seen by other samples as well."""

    def __init__(self, joined):
        super().__init__()
        self.joined, self.embedding, self.head = joined, nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, tokens):
        vectors = self.embedding(tokens.long()).mean(1)
        return self.head(vectors - vectors.mean(0) if self.joined else vectors)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    "tokens",
    [
        torch.tensor([[1, 2, 8], [3, 4, 5], [8, 2, 1]]),
        torch.tensor([[1, 2], [1, 2], [1, 2]]),
        torch.zeros(3, 2, dtype=torch.long),
        torch.tensor([[True, False], [True, True], [False, True]]),
        torch.ones(3, 2, dtype=torch.bool),
    ],
    ids=["tokens", "equal samples", "padding", "masks", "full masks"],
)
def test_another_token_shows_whether_samples_see_each_other(tokens, joined):
    assert record(Words(joined), tokens).mixes_samples == joined


class Unusual(nn.Module):
    """Its output is a tensor of another kind."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.last, self.kind = nn.Linear(6, 5), nn.Linear(5, 3), kind

    def forward(self, x):
        logits = self.last(self.first(x).relu())
        if self.kind == "nested":
            return torch.nested.nested_tensor([row[: 1 + index % 2] for index, row in enumerate(logits)])
        return logits.to_sparse() if self.kind == "sparse" else torch.quantize_per_tensor(logits, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", ["nested", "sparse", "quantized"])
def test_an_output_without_axes_is_no_matter_to_those_of_the_layers(kind):
    network = Unusual(kind)
    calls = record(network, torch.rand(4, 6)).calls
    assert [calls[module][0].macs for module in (network.first, network.last)] == [3 * 30, 3 * 15]
