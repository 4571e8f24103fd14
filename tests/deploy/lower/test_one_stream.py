"""Layers that read the spikes of one layer's neurons: packed each with its step sizes, and replayed like any others."""

import torch
from branches import branches, images
from packed_reader import run as run_by_hand
from torch.utils.data import TensorDataset

from bitsearch import TieRule, UniformBits, pack, quantize, read, verify


def test_one_stream_is_deployed_as_it_was_trained(tmp_path):
    start = UniformBits(weight_bits=4, spike_bits=3, time_steps=2)
    network = quantize(branches(), images(), ties=[TieRule(share="streams")], start=start)
    network.train()(images())
    network.project("4x")
    plan = network.plan("4x")
    assert plan.layers["right"].stream == "left"
    network.eval()
    pack(network.network, images(), tmp_path / "net.packed", plan)
    packed = read(tmp_path / "net.packed")
    samples = TensorDataset(images(), torch.zeros(len(images()), dtype=torch.long))
    assert verify(packed, network.network, images(), samples).equal
    outputs, _ = run_by_hand(tmp_path / "net.packed", images()[0].tolist())
    assert packed.replay()(images()[:1]).flatten().tolist() == outputs
