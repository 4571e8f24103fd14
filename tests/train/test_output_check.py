import sys
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.data import Splits
from bitsearch.errors import InputError
from bitsearch.train.output_check import CHECKED, check_outputs


def splits(frames=None, samples=8):
    shape = (6,) if frames is None else (frames, 6)
    parts = [TensorDataset(torch.ones(samples, *shape), torch.zeros(samples, dtype=torch.long)) for _ in range(3)]
    return Splits(*parts, input_shape=shape, classes=3, frames=frames)


class Returns(nn.Module):
    """A linear layer, and then what a function makes of its output."""

    def __init__(self, then=lambda x, training: x, outputs=3):
        super().__init__()
        self.linear, self.then = nn.Linear(6, outputs), then

    def forward(self, x):
        return self.then(self.linear(x), self.training)


class Output(NamedTuple):
    logits: torch.Tensor
    hidden: list


def not_finite():
    network = nn.Sequential(nn.Linear(6, 3))
    with torch.no_grad():
        network[0].bias[1] = torch.inf
    return network


class Broken(torch.autograd.Function):
    """A surrogate gradient with a fault."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.slope * gradient


def refusal(network, data=None):
    """The message of the InputError, checked to be one line that names the network."""
    with pytest.raises(InputError) as caught:
        check_outputs(network, data or splits(), "mine:make")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("network 'mine:make'")
    return message


def test_logits_pass_and_the_network_is_left_as_it_is():
    network = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_outputs(network, splits(), "mine:make")
    assert [module.training for module in network] == [True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_logits_may_keep_a_time_axis_or_sum_it_up():
    check_outputs(Returns(lambda x, _: x.expand(7, -1, -1)), splits(), "mine:make")
    check_outputs(Returns(), splits(frames=5), "mine:make")
    check_outputs(Returns(lambda x, _: x.mean(0)), splits(frames=5), "mine:make")
    message = refusal(Returns(lambda x, _: x.mean(1)), splits(frames=5))
    assert (
        f"returns float32 [5, 3] for {CHECKED} samples of 3 classes; it must return logits [N, classes] or [T, N,"
        in (message)
    )


def test_one_sample_is_not_trained_on():
    network = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    check_outputs(network, splits(samples=1), "mine:make")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            Returns(lambda x, _: (x, x.sum())),
            "returns tuple with 0: float32 [4, 3], 1: float32 []; it must return one float tensor, logits [N, classes]",
        ),
        (
            Returns(lambda x, _: Output(x, [x])),
            "returns Output with logits: float32 [4, 3], hidden: list with",
        ),
        (Returns(lambda x, _: x.detach()), "returns logits without a gradient; leave out detach()"),
        (Returns(lambda x, _: Broken.apply(x)), "its gradient fails: "),
        (
            nn.Sequential(nn.Linear(6, 3)).requires_grad_(False),
            "nothing to train: all of its 2 parameters",
        ),
        (Returns(lambda x, _: sys.exit(3)), "SystemExit: 3"),
        (Returns(lambda x, _: x.to("meta")), "returns a tensor on meta; make it where the network's inputs are"),
        (Returns(lambda x, _: x * torch.inf), "the loss is nan on 4 samples; it has to be a finite number"),
        (not_finite(), "its 0.bias holds values that are not finite; give weights that are"),
        (Returns(lambda x, _: None), "returns NoneType"),
        (Returns(outputs=2), "returns float32 [4, 2] for 4 samples of 3 classes; it must return logits"),
        (Returns(outputs=4), "returns float32 [4, 4]"),
        (Returns(lambda x, _: x[None, None]), "returns float32 [1, 1, 4, 3]"),
        (Returns(lambda x, _: x.transpose(0, 1)), "returns float32 [3, 4]"),
        (Returns(lambda x, _: x.argmax(1, keepdim=True).expand(-1, 3)), "returns int64"),
        (Returns(lambda x, training: {"logits": x} if training else x), "returns dict with logits: float32 [4, 3]; it"),
        (nn.Linear(7, 3), "cannot run inputs of shape [4, 6]: "),
        (
            nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3).double()),
            "[4, 6]: its 1.weight is float64, inputs are float32; convert the network by .float()",
        ),
        (nn.Linear(6, 3).to(torch.bfloat16), "its weight is bfloat16, inputs are float32"),
        (nn.Linear(6, 3, device="meta"), "its weight is on meta; make it on the CPU, from where --device moves it"),
        (Returns(lambda x, _: x.no_such_method()), "AttributeError: 'Tensor' object has no attribute"),
        (Returns(lambda x, training: x[:, 9] if training else x), "of shape [4, 6] in training mode: "),
    ],
)
def test_a_network_that_cannot_be_trained(network, said):
    assert said in refusal(network)


def test_the_line_in_the_users_code_is_named():
    assert "test_output_check.py:" in refusal(Returns(lambda x, _: x["logits"]))


def test_a_network_that_cannot_be_copied():
    network = Returns()
    network.kept = network.linear.weight * 2
    assert "RuntimeError: Only Tensors created explicitly by the user" in refusal(network)
