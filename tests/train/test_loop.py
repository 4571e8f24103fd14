import copy
import math
import warnings
from dataclasses import replace

import pytest
import torch
from learning import fell, guessed, sample_losses
from small_network import part
from tolerances import rounding
from torch import nn

from bitsearch.errors import InputError
from bitsearch.learnable import quantize
from bitsearch.plan import UniformBits
from bitsearch.quant.membrane_gradient import goes_through_time
from bitsearch.train.evaluate import evaluate
from bitsearch.train.loop import Callback, train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

TRAINING = Training(batch_size=32, learning_rate=5e-3)


def learnable(network, batch):
    return quantize(network, batch[0][:32], start=UniformBits(weight_bits=3, spike_bits=3, time_steps=2))


def states_equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_training_lowers_the_loss_and_reports_every_epoch(fresh_network, splits):
    network, records = fresh_network(), []
    before = sample_losses(network, *splits.train.tensors)
    train(network, TrainingSession(splits, TRAINING, on_epoch=records.append), epochs=4, seed=0, phase="here")
    assert [(record.phase, record.epoch, record.epochs) for record in records] == [("here", n, 4) for n in (1, 2, 3, 4)]
    assert records[-1].loss < records[0].loss
    assert fell(before, sample_losses(network, *splits.train.tensors))
    assert records[-1].validation_score > guessed(100, 10)
    assert records[-1].validation_score == evaluate(network, splits.validation, 7)


class Watch(Callback):
    """Whether gradients go through time in a forward pass."""

    def __init__(self):
        self.through_time = set()

    def after_forward(self, logits):
        self.through_time.add(goes_through_time())


@pytest.mark.parametrize(("setting", "through_time"), [("cut", False), ("through_time", True)])
def test_gradients_go_through_membranes_where_the_training_says_so(network, splits, batch, setting, through_time):
    quantized, watch = learnable(network, batch), Watch()
    training = Training(batch_size=256, membrane_gradient=setting)
    train(quantized, TrainingSession(splits, training), epochs=1, seed=0, phase="", callbacks=[watch])
    assert watch.through_time == {through_time}
    assert not goes_through_time()


def test_a_quantized_network_recovers_by_training(network, splits, batch):
    start = UniformBits(weight_bits=2, spike_bits=2, time_steps=1)
    quantized, records = quantize(network, batch[0][:32], start=start), []
    quantized.fix(quantized.layer_plans)
    quantized(batch[0])
    before = sample_losses(quantized, *splits.train.tensors)
    training = Training(batch_size=32, learning_rate=3e-3)
    train(quantized, TrainingSession(splits, training, on_epoch=records.append), epochs=6, seed=0, phase="")
    assert records[-1].loss < records[0].loss
    assert fell(before, sample_losses(quantized, *splits.train.tensors))
    assert records[-1].validation_score > guessed(100, 10)


@pytest.mark.parametrize("learning_rate", [2e-3, 5e-3])
def test_no_step_collapses_in_training_from_scratch(fresh_network, splits, batch, learning_rate):
    quantized, records = learnable(fresh_network(), batch), []
    quantized.fix(quantized.layer_plans)
    quantized(batch[0])
    steps = copy.deepcopy(quantized.layers)
    before = sample_losses(quantized, *splits.train.tensors)
    training = Training(batch_size=32, learning_rate=learning_rate)
    train(quantized, TrainingSession(splits, training, on_epoch=records.append), epochs=6, seed=0, phase="")
    # A step of Adam moves a parameter by at most 1 − β₁ over √(1 − β₂) of the rate (Kingma and Ba 2015, section 2.1),
    # and these are logarithms: whatever a step was, it ends as a share of it.
    most = 6 * 8 * learning_rate * 0.1 / 0.001**0.5 * (1 + rounding(64))
    for name, layer in quantized.layers.items():
        for kind in ("weight_log_step", "spike_log_step"):
            assert (getattr(layer, kind) - getattr(steps[name], kind)).abs().max() <= most, (name, kind)
        assert layer.quantized_weight().unique().numel() > 2, name
    assert records[-1].loss < records[0].loss
    assert fell(before, sample_losses(quantized, *splits.train.tensors))


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "quantized"])
def test_training_is_identical_for_identical_seeds(fresh_network, splits, batch, quantized):
    def run(seed):
        network = learnable(fresh_network(1), batch) if quantized else fresh_network(1)
        train(network, TrainingSession(splits, TRAINING), epochs=2, seed=seed, phase="")
        return network

    assert states_equal(run(3), run(3))
    assert not states_equal(run(3), run(4))


def test_the_seed_of_training_is_independent_of_torchs_own(fresh_network, splits):
    networks = [fresh_network(), fresh_network()]
    for global_seed, network in enumerate(networks):
        torch.manual_seed(global_seed)
        train(network, TrainingSession(splits, TRAINING), epochs=1, seed=0, phase="")
    assert states_equal(*networks)


class Recorder(Callback):
    def __init__(self, network, penalty=None):
        self.network, self.fixed = network, penalty
        self.sizes, self.epochs = [], []

    def before_batch(self, inputs, targets):
        self.sizes.append(len(inputs))

    def penalty(self):
        return None if self.fixed is None else self.fixed * self.network[0].weight.square().sum()

    def after_epoch(self, epoch, loss):
        self.epochs.append(epoch)
        return {"seen": float(len(self.sizes))}


def test_callbacks_see_every_batch_and_add_to_the_record(fresh_network, splits):
    network, records = fresh_network(), []
    recorder = Recorder(network)
    session = TrainingSession(splits, TRAINING, on_epoch=records.append)
    train(network, session, epochs=2, seed=0, phase="", callbacks=[recorder])
    assert recorder.sizes == [32] * 16
    assert recorder.epochs == [1, 2]
    assert [record.measures for record in records] == [{"seen": 8.0}, {"seen": 16.0}]


def test_penalties_are_trained_on_but_not_reported_as_loss(fresh_network, splits):
    losses, norms = [], []
    # One batch an epoch: the first one's loss is that of the weights before training, whatever the penalty.
    training = Training(batch_size=256, learning_rate=5e-3)
    for penalty in (None, 0.0, 10.0):
        network, records = fresh_network(), []
        callbacks = [Recorder(network, penalty)]
        train(
            network,
            TrainingSession(splits, training, on_epoch=records.append),
            epochs=2,
            seed=0,
            phase="",
            callbacks=callbacks,
        )
        losses.append([record.loss for record in records])
        norms.append(network[0].weight.norm().item())
    assert losses[0] == losses[1]
    assert losses[0][0] == losses[2][0]
    assert losses[0][1] != losses[2][1]
    assert norms[0] == norms[1]
    assert norms[2] < min(norms[0], fresh_network()[0].weight.norm().item())


def test_annealing_brings_the_learning_rate_to_zero(fresh_network, splits):
    moved = {}
    for anneal in (True, False):
        network = fresh_network()
        last = []

        class Last(Callback):
            def before_batch(self, inputs, targets, network=network, last=last):
                last.append(network[9 + 1].weight.detach().clone())

        train(network, TrainingSession(splits, TRAINING), epochs=2, seed=0, phase="", anneal=anneal, callbacks=[Last()])
        moved[anneal] = [(network[10].weight - last[-1]).norm().item(), (last[1] - last[0]).norm().item()]
    assert moved[True][1] == moved[False][1]
    # The last of 16 steps of Adam, each of which moves a parameter by at most √10 of the rate.
    last = TRAINING.learning_rate * (1 + math.cos(math.pi * 15 / 16)) / 2 * math.sqrt(10 * network[10].weight.numel())
    assert moved[True][0] <= last * (1 + rounding(64)) < moved[False][0]


def test_bits_move_at_their_own_rates_and_the_last_step_is_followed(network, splits, batch):
    class Push(Callback):
        def __init__(self, quantized):
            self.quantized = quantized

        def penalty(self):
            return 1e3 * sum(layer.latents.sum() for layer in self.quantized.searched_layers.values())

    quantized = learnable(network, batch)
    for layer in quantized.layers.values():
        layer.straight_through = False
    rates = {"bits_learning_rate": 0.1, "time_learning_rate": 1e-9}
    session = TrainingSession(splits, TRAINING)
    train(quantized, session, epochs=1, seed=0, phase="", callbacks=[Push(quantized)], latent_rates=rates)
    for layer in quantized.searched_layers.values():
        # Eight steps of Adam against a constant slope: 0.1 each, but 0.0775, 0.055 and 0.0325 at the end.
        assert layer.weight_latent.item() == pytest.approx(3 - 0.665, rel=2 * rounding(16))
        # Eight steps of 1e-9, each less than half a unit of 2 in float32.
        assert layer.time_latent.item() == 2
        assert layer.layer_plan.weight_bits == 2
        assert layer.layer_plan.spike_bits == (2, 2)


def test_training_ends_in_the_allocation_it_reports(network, splits, batch):
    quantized = learnable(network, batch)
    plans = []
    session = TrainingSession(
        splits, TRAINING, on_epoch=lambda record: plans.append(copy.deepcopy(quantized.layer_plans))
    )
    train(quantized, session, epochs=1, seed=0, phase="")
    assert plans == [quantized.layer_plans]
    quantized.round_latents()
    assert plans == [quantized.layer_plans]


@pytest.mark.parametrize("samples", [1, 33])
def test_a_last_batch_of_one_sample_is_trained_on_through_batch_norm(splits, samples):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    few = replace(splits, train=part(splits.train, samples))
    before = copy.deepcopy(network.state_dict())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "batch norm has not seen two samples", UserWarning)
        train(network, TrainingSession(few, TRAINING), epochs=1, seed=0, phase="")
    assert not torch.equal(network[1].weight, before["1.weight"])
    # One update for every batch of several.
    assert int(network[2].num_batches_tracked) == samples // 32


class Turned(nn.Linear):
    """A classifier that answers in columns from its second batch on."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        logits = super().forward(x.flatten(1))
        return logits if self.calls == 1 else logits.T


def test_outputs_that_are_not_one_a_sample_are_named(splits):
    network = Turned(splits.train[0][0].numel(), 10)
    with pytest.raises(InputError, match="the network returns 10 rows of logits for 32 samples; give one each"):
        train(network, TrainingSession(splits, TRAINING), epochs=1, seed=0, phase="here")
