"""Networks that call their layers once a frame: the program of a loop is that of its multi-step twin."""

import pytest
import torch
from calibration import calibrate
from framed_networks import check_equal
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

import bitsearch
from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError

T = 4


class Net(nn.Module):
    """Two convolutions and a linear layer with neurons, of frames ``[2, 6, 6]``; ``ends`` says how it is called."""

    def __init__(self, ends="mean", node=neuron.IFNode, pool=nn.Identity, read_out=nn.Identity, step_mode="s"):
        super().__init__()
        torch.manual_seed(0)
        self.ends = ends
        self.net = nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1),
            node(),
            pool(),
            layer.Conv2d(4, 4, 3, padding=1),
            node(),
            layer.Flatten(),
            layer.Linear(4 * (36 if pool is nn.Identity else 9), 3),
            read_out(),
        )
        self.extra = nn.Linear(3, 3) if ends == "twice" else None
        functional.set_step_mode(self, step_mode)

    def forward(self, x):
        return getattr(self, self.ends)(x)

    def whole(self, x):
        return self.net(x).mean(0)

    def mean(self, x):
        return torch.stack([self.net(frame) for frame in x]).mean(0)

    def sum_over_length(self, x):
        logits = 0.0
        for t in range(x.shape[0]):
            logits = logits + self.net(x[t])
        return logits / len(x)

    def each(self, x):
        return torch.stack([self.net(x[t]) for t in range(x.size(0))])

    def unbound(self, x):
        return torch.stack([self.net(frame) for frame in x.unbind(0)]).mean(0)

    def static(self, x):
        return sum(self.net(x) for _ in range(T)) / T

    def static_whole(self, x):
        return self.net(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)

    def backwards(self, x):
        return torch.stack([self.net(x[len(x) - 1 - t]) for t in range(len(x))]).mean(0)

    def weighted(self, x):
        return torch.stack([(t + 1) * self.net(frame) for t, frame in enumerate(x)]).mean(0)

    def maximum(self, x):
        return torch.stack([self.net(frame) for frame in x]).amax(0)

    def last(self, x):
        return [self.net(frame) for frame in x][-1]

    def difference(self, x):
        before, logits = 0.0, []
        for frame in x:
            logits.append(self.net(frame - before))
            before = frame
        return torch.stack(logits).mean(0)

    def twice(self, x):
        return torch.stack([self.extra(self.extra(self.net(frame))) for frame in x]).mean(0)


def frames(count=5):
    return torch.poisson(torch.full((T, count, 2, 6, 6), 0.6), generator=torch.Generator().manual_seed(0))


def prepared(network, x, **options):
    options = {"time_axis": True} | options
    bits = bitsearch.UniformBits(weight_bits=4, spike_bits=2, time_steps=T)
    quantized = bitsearch.quantize(network, x, start=bits, baseline=bits, **options)
    return calibrate(bitsearch.layers.convert(network, quantized.layer_plans), x)


class Frames(TensorDataset):
    """Samples ``[T, 2, 6, 6]`` of ``[T, N, 2, 6, 6]``."""

    frames = T

    def __init__(self, x, labels):
        super().__init__(x.transpose(0, 1), labels)


def arithmetic(network, x):
    """(program, but for the names of its operations; numbers of its layers)."""
    lowered = lower(network, x)
    program = lowered.program.model_dump()
    for operation in program["operations"]:
        del operation["name"]
    return program, [{name: list(part) for name, part in vars(each).items()} for each in lowered.numbers.values()]


KINDS = {
    "IF": {"node": lambda: neuron.IFNode(v_reset=None)},
    "LIF, hard reset": {"node": lambda: neuron.LIFNode(tau=2.0, decay_input=False)},
    "max pooling": {"pool": lambda: layer.MaxPool2d(2)},
    "average pooling": {"pool": lambda: layer.AvgPool2d(2)},
    "a neuron that reads out": {"read_out": neuron.IFNode},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_is_its_multi_step_twin(kind):
    x = frames()
    loop, whole = prepared(Net(**KINDS[kind]), x), prepared(Net("whole", **KINDS[kind], step_mode="m"), x)
    assert {module.loop for module in bitsearch.layers.quantized_layers(loop).values()} == {"frames"}
    whole.load_state_dict(loop.state_dict())
    check_equal(loop, x)
    (program, numbers), (expected, expected_numbers) = arithmetic(loop, x), arithmetic(whole, x)
    assert program == expected
    torch.testing.assert_close(numbers, expected_numbers, rtol=0, atol=0)


@pytest.mark.parametrize("ends", ["sum_over_length", "each", "unbound"])
def test_a_loop_may_be_written_in_several_ways(ends):
    loop = prepared(Net(ends), frames())
    check_equal(loop, frames())


def test_a_static_loop_is_its_multi_step_twin():
    x = 3 * torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    loop = prepared(Net("static"), x, time_axis=False)
    assert bitsearch.layers.quantized_layers(loop)["net.0"].loop == "same"
    lowered = check_equal(loop, x)
    assert (lowered.program.input.frames, lowered.program.input.repeated) == (T, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_loop_is_verified_on_all_samples(kind, tmp_path):
    x, labels = frames(24), torch.arange(24) % 3
    network = prepared(Net(**KINDS[kind]), x[:, :5])
    bitsearch.pack(network, x[:, :5], tmp_path / "network.packed")
    packed = bitsearch.read(tmp_path / "network.packed")
    verified = bitsearch.verify(packed, network, x[:, :5], Frames(x, labels), batch_size=10)
    assert verified.samples == 24
    assert verified.equal
    # Beside the float32 network, which rounds otherwise: few spikes differ, in every frame of every layer.
    firing = [compared for compared in verified.layers if compared.spikes]
    assert len(firing) >= 3
    for compared in firing:
        assert len(compared.spikes) == T
        assert sum(compared.unequal_to_float) < 0.02 * sum(compared.spikes)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ("backwards", "reads in one round of the forward pass's loop what another one computed"),
        ("difference", "reads in one round of the forward pass's loop what another one computed"),
        ("weighted", "does something else in round 1 than in the last one"),
        ("maximum", "something else than the logits of its loop's frames, their sum or their mean"),
        ("last", "layer 'net.0' runs 1 times for the result of a loop of 4 rounds"),
        ("twice", "layer 'extra' runs 8 times for the result of a loop of 4 rounds"),
    ],
)
@pytest.mark.filterwarnings("ignore:kept at 32 bits")
def test_what_no_integer_program_does_is_told(ends, message):
    x = frames()
    network = prepared(Net(ends), x)
    with pytest.raises(InputError) as refused:
        lower(network, x)
    assert message in str(refused.value)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.back, self.lif, self.c = nn.Linear(6, 8), nn.Linear(8, 8), neuron.IFNode(), nn.Linear(8, 3)

    def forward(self, x):
        sent, logits = x.new_zeros(x.shape[1], 8), []
        for frame in x:
            sent = self.lif(self.a(frame) + self.back(sent))
            logits.append(self.c(sent))
        return torch.stack(logits).mean(0)


def test_a_recurrence_is_refused_by_name():
    x = 3 * torch.rand(T, 5, 6)
    with pytest.raises(InputError, match=r"back reads in one round .* what another one computed; a recurrence cannot"):
        lower(prepared(Recurrent(), x), x)


class OneFrame(nn.Module):
    """In multi-step mode, of sequences of one frame."""

    def __init__(self, repeats):
        super().__init__()
        torch.manual_seed(0)
        self.repeats = repeats
        self.net = nn.Sequential(layer.Linear(6, 8), neuron.IFNode(v_reset=None), layer.Linear(8, 3))
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.net(x.unsqueeze(0).repeat(1, 1, 1) if self.repeats else x).mean(0)


@pytest.mark.parametrize("repeats", [False, True])
def test_a_sequence_of_one_frame_is_packed(repeats):
    x = 3 * torch.rand(1, 5, 6, generator=torch.Generator().manual_seed(0))
    x = x[0] if repeats else x
    network = prepared(OneFrame(repeats), x, time_axis=not repeats)
    lowered = check_equal(network, x)
    assert (lowered.program.input.frames, lowered.program.input.repeated) == (1, repeats)
