import pytest
import torch
from torch.nn import functional as F

from bitsearch.train.loop import Callback, train
from bitsearch.train.mixup import Mixup
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


def summed(logits, labels):
    return F.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize("batch_axis", [0, 1])
def test_the_loss_is_that_of_mixed_labels(batch_axis):
    torch.manual_seed(3)
    shape = (6, 2) if batch_axis == 0 else (4, 6, 2)
    inputs, labels, logits = torch.rand(shape), torch.arange(6) % 5, torch.randn(6, 5)
    mixup = Mixup(0.4, batch_axis)
    mixed, both = mixup.mix(inputs, labels)
    share, partners = mixup.share, both[:, 1]
    assert 0.0 < share < 1.0
    assert torch.equal(both[:, 0], labels)
    # What was mixed into a sample is another of the batch, with its label.
    others = (mixed.double() - share * inputs.double()) / (1 - share)
    for index in range(6):
        distances = (inputs - others.select(batch_axis, index).unsqueeze(batch_axis)).abs()
        nearest = distances.transpose(0, batch_axis).flatten(1).amax(1).argmin()
        assert labels[nearest] == partners[index]
    soft = share * F.one_hot(labels, 5) + (1 - share) * F.one_hot(partners, 5)
    assert mixup.loss(summed, logits, both).item() == pytest.approx(summed(logits, soft).item(), rel=1e-5)


def test_without_it_a_batch_is_itself():
    inputs, labels = torch.rand(3, 2), torch.tensor([0, 1, 2])
    mixup = Mixup(None, 0)
    assert mixup.mix(inputs, labels) == (inputs, labels)
    assert mixup.loss(lambda outputs, target: target, inputs, labels) is labels


def test_a_batch_in_parts_has_the_gradient_of_the_whole(fresh_network, splits):
    gradients = []

    class Keep(Callback):
        def after_step(self):
            gradients[-1].append(network[10].weight.grad.clone())

    for size in (None, 16):
        network = fresh_network().eval()
        network.train = lambda mode=True, network=network: network
        gradients.append([])
        training = Training(batch_size=64, mixup=0.5, micro_batch=size)
        train(network, TrainingSession(splits, training), epochs=1, seed=0, phase="", callbacks=[Keep()])
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
