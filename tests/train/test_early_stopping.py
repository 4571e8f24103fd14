import copy

import pytest
import torch
from torch import nn

from bitsearch.train import loop
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.early_stopping import EarlyStopping
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

SCORES = [0.2, 0.5, 0.5, 0.4, 0.9]


def test_it_stops_when_no_epoch_was_better_and_brings_back_the_best():
    network = nn.Linear(1, 1)
    stopping, weights = EarlyStopping(network, 2), []
    for epoch, score in enumerate(SCORES[:4], start=1):
        nn.init.constant_(network.weight, epoch)
        weights.append(epoch)
        assert stopping.after_epoch(score) == (epoch == 4)
    stopping.restore()
    # The third was as good as the second, and no better.
    assert network.weight.item() == 2


@pytest.fixture
def scored(monkeypatch):
    """Every epoch's validation accuracy is the next of the scores."""
    left = iter(SCORES)
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: next(left))


@pytest.mark.usefixtures("scored")
def test_a_training_ends_early_with_its_best_epoch(fresh_network, splits, tmp_path):
    network, records, kept = fresh_network(), [], []

    def on_epoch(record):
        records.append(record)
        kept.append(copy.deepcopy(network.state_dict()))

    path = tmp_path / "kept.safetensors"
    with Checkpoint(path) as checkpoint:
        session = TrainingSession(splits, Training(batch_size=128), on_epoch, checkpoint)
        loop.train(network, session, epochs=5, seed=0, phase="a", patience=2)
    assert [record.validation_score for record in records] == SCORES[:4]
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in kept[1].items())
    # Started again it has ended, and has the same weights.
    again = fresh_network()
    with Checkpoint(path) as checkpoint:
        session = TrainingSession(splits, Training(batch_size=128), records.append, checkpoint)
        loop.train(again, session, epochs=5, seed=0, phase="a", patience=2)
    assert len(records) == 4
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in kept[1].items())


def test_the_best_epoch_is_measured_with_the_average(fresh_network, splits):
    network, records = fresh_network(), []
    training = Training(batch_size=64, ema=0.8)
    session = TrainingSession(splits, training, on_epoch=records.append)
    loop.train(network, session, epochs=4, seed=0, phase="", patience=4)
    assert session.score(network) == max(record.validation_score for record in records)
