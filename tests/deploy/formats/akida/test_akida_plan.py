"""A search for the chip ends with a plan that its layers can express, and that its thresholds hardly change."""

import pytest
import torch
from akida_networks import inputs_for, trained
from akida_networks import pooled as colours
from torch.utils.data import TensorDataset

import bitsearch
from bitsearch.deploy.formats.akida.chip import chip_network
from bitsearch.deploy.formats.akida.encoded import encoded_batches
from bitsearch.deploy.formats.akida.replay import logits, replay

pytestmark = pytest.mark.training


def parts():
    """Three sets of images in which one of the three channels is brightest."""
    for seed, count in ((1, 48), (2, 24), (3, 24)):
        labels = torch.arange(count) % 3
        x = inputs_for(colours, seed, count) * 0.3
        x[torch.arange(count), labels] += 1
        yield TensorDataset(x, labels)


def test_a_network_of_ones_own_gets_a_plan_for_the_chip(tmp_path):
    data = tuple(parts())
    result = bitsearch.search(
        trained(colours),
        data,
        budget="weight_memory=1.6x",
        target="akida_1000",
        trials=1,
        full_precision_epochs=2,
        epochs=2,
        out=tmp_path / "run",
    )
    first, *others = result.best.layers.values()
    assert (first.weight_bits, first.spike_bits) == (8, (8,))
    assert {layer.weight_bits for layer in others} <= {2, 4}
    assert {bits for layer in others for bits in layer.spike_bits} <= {1, 2, 4}
    assert all(layer.time_steps == 1 and not layer.signed_input for layer in others)
    result.deploy(tmp_path / "packed")
    packed = bitsearch.read(tmp_path / "packed")
    network = chip_network(packed)
    same = 0
    for batch in encoded_batches(packed, network, data[2], 24):
        outputs = logits(network, replay(network, batch.codes).sums)
        same += int((outputs.argmax(1) == batch.outputs.argmax(1)).sum())
    assert same >= 22
