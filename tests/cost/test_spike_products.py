"""Attention's products count at the bits of the spikes that they multiply."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import Spikformer
from torch import nn

from bitsearch.cost import CostModel, trace
from bitsearch.cost.profile import profile
from bitsearch.plan import UniformBits

pytestmark = pytest.mark.filterwarnings("ignore:kept at 32 bits")
TOKENS, WIDTH, T = 5, 6, 2


class Attention(nn.Module):
    """q·kᵀ·v of frames ``[T, N, tokens, 4]``, with a neuron of its own for each, or with ReLUs."""

    def __init__(self, node=neuron.IFNode, scale=None, between=None):
        super().__init__()
        self.scale, self.between = scale, between
        self.q, self.k, self.v = (layer.Linear(4, WIDTH) for _ in range(3))
        self.q_node, self.k_node, self.v_node = node(), node(), node()
        self.out = layer.Linear(WIDTH, 2)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        q, k, v = (
            node(make(x)) for make, node in ((self.q, self.q_node), (self.k, self.k_node), (self.v, self.v_node))
        )
        if self.scale is not None:
            q = q * self.scale
        if self.between is not None:
            k = self.between(k)
        return self.out((q @ k.transpose(-1, -2)) @ v).mean(2)


def model_of(network):
    return CostModel(trace(network, torch.rand(T, 3, TOKENS, 4), time_axis=True))


EACH = TOKENS * TOKENS * WIDTH
"""Multiply-accumulates of q·kᵀ, and as many of what it makes times v."""
CASES = [
    # Spikes times spikes, then whole numbers times spikes.
    (Attention(), 1 * 1 + 32 * 1),
    # A level of four, in three bits.
    (Attention(neuron.ILIFNode), 3 * 3 + 32 * 3),
    # What is scaled is no spike any more.
    (Attention(scale=0.5), 32 * 1 + 32 * 1),
    (Attention(nn.ReLU), 32 * 32 + 32 * 32),
    # The largest of some spikes is one of them, a mean is not; a dropout changes nothing that is deployed.
    (Attention(between=lambda k: nn.functional.max_pool2d(k, (3, 1), 1, (1, 0))), 1 * 1 + 32 * 1),
    (Attention(between=lambda k: nn.functional.avg_pool2d(k, (3, 1), 1, (1, 0))), 32 * 1 + 32 * 1),
    (Attention(between=nn.Dropout(0.5)), 1 * 1 + 32 * 1),
]


@pytest.mark.parametrize(
    ("network", "expected"), CASES, ids=["spikes", "levels", "scaled", "ReLU", "largest", "mean", "dropout"]
)
def test_bit_operations_are_those_by_hand(network, expected):
    model = model_of(network)
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=T), None)
    assert model.layer_costs("s_ace", plan)[""] == pytest.approx(T * EACH * expected, rel=1e-12)
    # The gradient's cost is the same one.
    bits = [torch.tensor([getattr(layer, name) for layer in plan.values()]) for name in ("weight_bits", "time_steps")]
    spikes = torch.tensor([layer.mean_spike_bits for layer in plan.values()])
    tensor = model.cost_tensor("s_ace", bits[0].float(), spikes.float(), bits[1].float())
    assert float(tensor) == pytest.approx(model.cost("s_ace", plan), rel=1e-6)


def test_profile_shows_the_bits_of_the_factors():
    network = Attention()
    model = model_of(network)
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=T), None)
    row = profile(network, model, plan).set_index("layer").loc[""]
    # One bit and one bit, 32 bits and one bit, of as many operations.
    assert (row["weight_bits"], row["spike_bits"]) == (16.5, "1")


class Convolving(Attention):
    """Beside a product of spikes it convolves some with others, which is no matrix product."""

    def forward(self, x):
        q, k, v = self.q_node(self.q(x)), self.k_node(self.k(x)), self.v_node(self.v(x))
        convolved = nn.functional.conv1d(q[0], k[0, :1])
        return self.out(q @ (k.transpose(-1, -2) @ v)).mean(2) + convolved.mean()


def test_where_some_products_are_not_followed_all_keep_32_bits():
    (products,) = (one for one in model_of(Convolving()).unquantized if not one.name)
    assert products.factor_bits is None
    assert products.macs > 2 * EACH


def test_spikingjellys_spikformer_multiplies_spikes():
    network = Spikformer(
        T=T,
        in_channels=3,
        img_size_h=16,
        img_size_w=16,
        patch_size=4,
        num_classes=4,
        embed_dims=16,
        num_heads=2,
        depths=1,
    )
    model = CostModel(trace(network, torch.rand(2, 3, 16, 16)))
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=T), None)
    # Two heads of 8 channels, 16 tokens: keys by values, whose sums are then multiplied by the queries.
    each = 2 * 8 * 8 * 16
    assert model.layer_costs("s_ace", plan)["blocks.0.attn"] == pytest.approx(T * each * (1 + 32), rel=1e-12)
