from dataclasses import replace

import pytest
import torch
from tolerances import chained, rounding, summed
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.allocation.methods.activity import SpikeCounter
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.latent_gradient import LatentGradientCallback
from bitsearch.allocation_settings import Allocation
from bitsearch.errors import InputError
from bitsearch.learnable import quantize
from bitsearch.train.evaluate import measure_activity
from bitsearch.train.loop import train
from bitsearch.train.micro_batch import MicroBatches
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


def plain_network():
    """No batch norm, whose statistics are a part's own."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class Small(nn.Module):
    """A network for which there is memory for ``most`` samples; notes how many it was given while it trained."""

    def __init__(self, most):
        super().__init__()
        self.network, self.most, self.given = plain_network().double(), most, []

    def forward(self, x):
        if self.training:
            self.given.append(len(x))
            if len(x) > self.most:
                raise torch.OutOfMemoryError("out of memory")
        return self.network(x)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [None, 1, 3, 8, 100])
def test_parts_are_as_many_in_every_process_and_none_is_empty(processes, size):
    micro = MicroBatches(size, 0, processes)
    for batch in range(1, 20):
        counts = set()
        for number in range(processes):
            share = len(range(number, batch, processes)) or 1
            parts = micro.parts(torch.arange(share), torch.arange(share), batch)
            sizes = [len(labels) for _, labels in parts]
            assert sum(sizes) == share
            assert min(sizes) > 0
            assert max(sizes) <= max(size or share, 2 if processes > 1 else 1)
            assert torch.equal(torch.cat([inputs for inputs, _ in parts]), torch.arange(share))
            counts.add(len(parts))
        assert len(counts) == 1


def test_inputs_with_a_time_axis_are_cut_along_their_batch_axis():
    inputs, labels = torch.arange(30).view(3, 10), torch.arange(10)
    parts = MicroBatches(4, 1, 1).parts(inputs, labels, 10)
    assert [part.shape for part, _ in parts] == [(3, 4), (3, 3), (3, 3)]
    assert torch.equal(torch.cat([part for part, _ in parts], 1), inputs)


RECORDED = 2 * rounding(8)
"""Relative, of an epoch's loss: those of its eight batches are added up in float32, whatever the network's dtype is."""
MOVED = 16 * 1e-3 * 2 * rounding(2**11, torch.float64) / 1e-8
"""Of a weight, after 16 steps of Adam at 1e-3: each moves it by rate·g/(|g| + 1e-8), so that an error of g counts up to
1e8 times; g is a sum over 32 samples of 64 pixels, whose terms come to about one."""


def double(splits):
    parts = [TensorDataset(part.tensors[0].double(), part.tensors[1]) for part in (splits.train, splits.validation)]
    return replace(splits, train=parts[0], validation=parts[1])


@pytest.mark.parametrize(("quantized", "size"), [(False, 5), (True, 5), (True, 8)])
def test_training_in_parts_is_training_on_the_whole_batch(splits, batch, quantized, size):
    """In float64, so that another order of summation moves no activation across a rounding boundary."""
    splits, images = double(splits), batch[0].double()
    losses, networks = [], []
    for micro_batch in (None, size):
        network, records = plain_network().double(), []
        if quantized:
            network = quantize(network, images[:32])
            network.fix(network.layer_plans)
            for layer in network.layers.values():
                for step in (layer.weight_log_step, layer.spike_log_step):
                    step.data = step.data.double()
                    # Their gradients are scaled by the mean part's size: not quite right where parts differ.
                    step.requires_grad_(32 % size == 0)
            # Where steps are set is the one thing that a part decides.
            network(images)
        training = Training(batch_size=32, learning_rate=1e-3, micro_batch=micro_batch)
        train(network, TrainingSession(splits, training, on_epoch=records.append), epochs=2, seed=0, phase="")
        losses.append([record.loss for record in records])
        networks.append(network)
        assert [record.micro_batch for record in records] == [micro_batch] * 2
    assert losses[1] == pytest.approx(losses[0], rel=RECORDED)
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=MOVED)


def test_a_probe_in_parts_measures_the_whole_batch(batch):
    images = batch[0].double()
    quantized = quantize(plain_network().double(), images[:32])
    quantized(images)
    signals = []
    for parts in ([images], images.tensor_split(3)):
        curvature = FisherLossModel(quantized, seed=0)
        curvature.probe(*parts)
        signals.append(curvature)
    for name in quantized.searched_layers:
        whole, cut = (signal.states[name] for signal in signals)
        assert whole.weight_fisher.sum() > 0
        # The Fisher is float32. Of weights it is a squared sum over the parts, which may cancel, but none of which has
        # five times the largest sum; of features it is a sum of squares over the samples.
        roots = whole.weight_fisher.sqrt()
        torch.testing.assert_close(cut.weight_fisher.sqrt(), roots, **summed(4, 3 * 5 * roots.max().item()))
        torch.testing.assert_close(cut.feature_fisher, whole.feature_fisher, **chained(len(images) + 8))
        assert torch.equal(cut.inputs, whole.inputs)


def test_spikes_are_counted_over_all_parts(batch):
    quantized = quantize(plain_network(), batch[0][:32])
    quantized(batch[0])
    whole = measure_activity(quantized, batch[0])
    assert measure_activity(quantized, *batch[0].tensor_split(5)) == whole
    meter = SpikeCounter(quantized, every=1)
    meter.before_batch(*batch[0].tensor_split(5))
    assert quantized.activity == whole


def test_out_of_memory_halves_the_parts_and_goes_on(splits):
    splits = double(splits)
    network, records = Small(most=9), []
    session = TrainingSession(splits, Training(batch_size=32), on_epoch=records.append)
    with pytest.warns(RuntimeWarning, match="out of memory on") as said:
        train(network, session, epochs=2, seed=0, phase="")
    assert [str(warning.message).partition(";")[0] for warning in said] == [
        "out of memory on 32 samples at once",
        "out of memory on 16 samples at once",
    ]
    assert [record.micro_batch for record in records] == [8, 8]
    assert network.given == [32, 16] + [8] * (256 // 8) * 2
    whole, whole_records = Small(most=32), []
    session = TrainingSession(splits, Training(batch_size=32), on_epoch=whole_records.append)
    train(whole, session, epochs=2, seed=0, phase="")
    losses = [record.loss for record in whole_records]
    assert [record.loss for record in records] == pytest.approx(losses, rel=RECORDED)


def test_out_of_memory_in_the_search_phase_leaves_every_layer_learnable(splits, batch):
    quantized = quantize(Small(most=20).float(), batch[0][:16])
    signal = LatentGradientCallback(quantized, Allocation(), 0)
    session = TrainingSession(splits, Training(batch_size=32))
    with pytest.warns(RuntimeWarning, match="going on with 16"):
        train(quantized, session, epochs=1, seed=0, phase="", callbacks=[signal])
    assert signal.curvature.states.keys() == quantized.searched_layers.keys()
    assert all(state.weight_fisher.sum() > 0 for state in signal.curvature.states.values())


def test_out_of_memory_on_one_sample_ends_training(splits):
    with pytest.warns(RuntimeWarning), pytest.raises(InputError, match="single sample"):
        train(Small(most=0), TrainingSession(double(splits), Training(batch_size=4)), epochs=1, seed=0, phase="")


def test_processes_that_train_together_say_what_to_set():
    micro = MicroBatches(None, 0, processes=2)
    parts = micro.parts(torch.zeros(16), torch.zeros(16), 32)
    with pytest.raises(InputError, match=r"16 samples at once.*micro_batch to 8 or less"):
        micro.halve(parts)
