import copy

import torch

from bitsearch.train.loop import Callback, train
from bitsearch.train.session import TrainingSession
from bitsearch.train.weight_average import WeightAverage
from bitsearch.training import Training


class Weights(Callback):
    """What the weights were after every step, and what they are measured with."""

    def __init__(self, network):
        self.network, self.steps, self.measured = network, [], []

    def after_step(self):
        self.steps.append(copy.deepcopy(self.network.state_dict()))

    def after_epoch(self, epoch, loss):
        self.measured.append(copy.deepcopy(self.network.state_dict()))
        return {}


def average(states, name, decay):
    result = states[0][name].double()
    for state in states[1:]:
        result = decay * result + (1 - decay) * state[name].double()
    return result


def test_a_training_is_measured_with_the_average_and_ends_with_it(fresh_network, splits):
    network, plain = fresh_network(), fresh_network()
    weights, reference = Weights(network), Weights(plain)
    session = TrainingSession(splits, Training(batch_size=64, ema=0.7))
    train(network, session, epochs=2, seed=0, phase="", callbacks=[weights])
    train(plain, TrainingSession(splits, Training(batch_size=64)), epochs=2, seed=0, phase="", callbacks=[reference])
    for name in ("0.weight", "10.bias", "1.running_mean", "4.running_var"):
        # What is trained is not the average.
        assert torch.equal(weights.steps[-1][name], reference.steps[-1][name]), name
        for measured, states in ((weights.measured[0], weights.steps[:4]), (network.state_dict(), weights.steps)):
            torch.testing.assert_close(measured[name].double(), average(states, name, 0.7), rtol=1e-5, atol=1e-7)
    assert int(network[1].num_batches_tracked) == 8


def test_while_bits_move_nothing_is_averaged(fresh_network, splits):
    networks = [fresh_network(), fresh_network()]
    for network, ema in zip(networks, (None, 0.9), strict=True):
        session = TrainingSession(splits, Training(batch_size=64, ema=ema))
        train(network, session, epochs=1, seed=0, phase="search", anneal=False)
    assert torch.equal(networks[0][0].weight, networks[1][0].weight)


def test_what_is_measured_does_not_stay(fresh_network):
    network = fresh_network()
    kept = WeightAverage(network, 0.5)
    kept.step()
    first = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight += 1
    kept.step()
    with kept.applied():
        torch.testing.assert_close(network[0].weight.detach(), first + 0.5)
    assert torch.equal(network[0].weight, first + 1)
