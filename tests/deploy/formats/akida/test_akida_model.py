"""Akida's own software computes what its documented formula says, where a user has installed it."""

from importlib.util import find_spec

import pytest
import torch
from akida_networks import SHAPES, inputs_for, packed_network, strided, trained
from torch import nn

from bitsearch.deploy.formats import FORMATS, ConsumerRequest
from bitsearch.deploy.formats.akida.encoded import encoded_batches
from bitsearch.deploy.formats.akida.layers import akida_network
from bitsearch.deploy.formats.akida.model import AkidaRuns, images, nodes
from bitsearch.deploy.formats.akida.replay import logits, replay
from bitsearch.errors import InputError

pytestmark = pytest.mark.skipif(
    find_spec("akida") is None,
    reason="akida is proprietary and not installed: read its licence, then pip install 'bitsearch[akida]'",
)


class Samples(torch.utils.data.Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], 0


@pytest.mark.parametrize("make", SHAPES)
@pytest.mark.parametrize("spike_bits", [1, 2, 4])
def test_every_activation_and_sum_is_that_of_the_formula(make, spike_bits, tmp_path):
    packed, _ = packed_network(trained(make), inputs_for(make), tmp_path, spike_bits)
    network = akida_network(packed)
    runs = AkidaRuns(network)
    for batch in encoded_batches(packed, network, Samples(inputs_for(make, seed=1)), 16):
        expected, results = replay(network, batch.codes), runs(batch.codes)
        assert expected.activations.keys() == results.activations.keys()
        for name, values in expected.activations.items():
            assert torch.equal(results.activations[name], values), name
        assert torch.equal(results.sums, expected.sums)
        assert len(expected.sums.flatten(1).unique(dim=0)) > 1
    assert nodes(runs.model) >= len(network.layers) - 1


def test_its_predictions_are_the_outputs_but_for_one_factor(tmp_path):
    packed, _ = packed_network(trained(strided), inputs_for(strided), tmp_path)
    network = akida_network(packed)
    runs = AkidaRuns(network)
    (batch,) = encoded_batches(packed, network, Samples(inputs_for(strided, seed=1)), 32)
    expected = logits(network, replay(network, batch.codes).sums)
    predicted = torch.from_numpy(runs.model.predict(images(network, batch.codes))).double().mean((1, 2))
    factor = (expected * predicted).sum() / (predicted * predicted).sum()
    last = network.layers[-1]
    unit = last.numbers.multiplier.max() * 2.0 ** -(last.layer.shift + last.layer.fraction)
    # θ is rounded to a whole sum.
    assert (factor * predicted - expected).abs().max() <= unit


@pytest.mark.parametrize("make", SHAPES)
def test_the_check_counts_samples_and_says_so(make, tmp_path):
    x = inputs_for(make)
    packed, network = packed_network(trained(make), x, tmp_path)
    request = ConsumerRequest("akida", packed, network, None, x, Samples(x), 10)
    result = FORMATS["akida"].consume(request)
    assert result.equal
    assert "24 of 24 samples have the outputs of the integer replay with Akida's thresholds; 0 of" in result.lines[0]


def test_a_network_that_is_not_mapped_is_refused_with_layer_and_reason(tmp_path):
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    behind = (nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    packed, _ = packed_network(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), *behind), x, tmp_path)
    with pytest.raises(
        InputError, match=r"^Akida does not map the network onto an AKD1000: .*layer '_2'.* pooling"
    ) as refused:
        nodes(AkidaRuns(akida_network(packed)).model)
    assert "\n" not in str(refused.value)
