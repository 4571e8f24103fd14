import torch

from bitsearch.learnable import quantize
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.evaluate import evaluate, evaluate_with_activity
from bitsearch.train.fabric import make_fabric
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training


def test_a_network_is_measured_on_the_validation_split(network, splits, batch):
    session = TrainingSession(splits, Training(batch_size=32, micro_batch=8))
    quantized = quantize(network, batch[0][:32])
    assert session.measure(quantized) == evaluate_with_activity(quantized, splits.validation, 8)
    assert session.score(quantized) == evaluate(quantized, splits.validation, 8)


def test_a_session_brings_its_processes_or_trains_alone(splits):
    device = torch.device("cpu")
    fabric = make_fabric(device)
    assert TrainingSession(splits, fabric=fabric).fabric_on(device) is fabric
    alone = TrainingSession(splits).fabric_on(device)
    assert (alone.device, alone.world_size) == (device, 1)


def test_the_seconds_are_those_of_what_keeps_the_state(splits):
    assert TrainingSession(splits).seconds == 0
    with Checkpoint(None) as checkpoint:
        assert TrainingSession(splits, checkpoints=checkpoint).seconds > 0
