import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import summed
from torch import nn

from bitsearch.errors import InputError
from bitsearch.train.predict import predict


def test_logits_of_frames_are_averaged():
    network = nn.Linear(3, 5)
    inputs = torch.rand(4, 2, 3)
    torch.testing.assert_close(predict(network, inputs), network(inputs).mean(0), **summed(8, 2.0))
    torch.testing.assert_close(predict(network, inputs[0]), network(inputs[0]), **summed(4, 2.0))


def test_one_batch_does_not_know_of_the_last():
    torch.manual_seed(0)
    network = nn.Sequential(layer.Linear(3, 8), neuron.LIFNode(), layer.Linear(8, 5))
    functional.set_step_mode(network, "m")
    inputs = 3 * torch.rand(4, 2, 3)
    first = predict(network, inputs)
    assert torch.equal(predict(network, inputs), first)
    assert not torch.equal(network(inputs).mean(0), first)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (None, "returns NoneType; it must return one float tensor, logits"),
        (torch.zeros(2, 5).to_sparse(), "returns no dense tensor; "),
        ({"logits": torch.zeros(2, 5)}, r"returns dict with logits: float32 \[2, 5\]; "),
        (torch.zeros(2, 5, dtype=torch.long), r"returns int64 \[2, 5\]; "),
        ([torch.zeros(1)] * 6, r"returns list with 0: float32 \[1\], 1: .*, 3: float32 \[1\], …; "),
        ((), "returns tuple with nothing in it; "),
    ],
)
def test_what_is_no_tensor_of_logits_is_refused_whenever_it_comes(output, words):
    class Net(nn.Module):
        def forward(self, x):
            return output

    with pytest.raises(InputError, match=f"the network {words}"):
        predict(Net(), torch.zeros(2, 3))
