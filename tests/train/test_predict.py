import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import summed
from torch import nn

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
