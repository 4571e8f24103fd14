import pytest
import torch
from torch import nn

from bitsearch.cost import CostModel, trace
from bitsearch.cost.profile import profile
from bitsearch.plan import UniformBits


class Deconvolution(nn.ConvTranspose2d):
    pass


@pytest.fixture
def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        Deconvolution(4, 2, 2, stride=2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
def test_every_layer_is_a_row_and_shares_add_up(network):
    model = CostModel(trace(network, torch.randn(2, 1, 8, 8)))
    bits = UniformBits(weight_bits=3, spike_bits=2, time_steps=2)
    plan = model.uniform(bits, None)
    table = profile(network, model, plan).set_index("layer")
    assert list(table.index) == ["0", "4", "2"]
    assert table.loc["2", "note"].startswith("a subclass of ConvTranspose2d (")
    assert list(table["weight_bits"]) == [3, 3, 32]
    assert list(table["spike_bits"]) == ["2 2", "2 2", "32"]
    assert list(table["macs"]) == [64 * 9 * 4, 5120, 64 * 4 * 2 * 4]
    assert list(table["shape"]) == ["4×1×3×3", "10×512", "4×2×2×2"]
    assert list(table["s_ace"]) == [64 * 9 * 4 * 12, 5120 * 12, 64 * 4 * 2 * 4 * 1024]
    for column in ("share.s_ace", "share.weight_memory", "share.energy"):
        assert table[column].sum() == pytest.approx(1)
    assert table["weight_memory"].sum() == model.cost("weight_memory", plan)
    assert table["working_memory"].max() == model.cost("working_memory", plan)
    assert table.loc["0", "bit_budget"] == 12
    # What does not add up has no shares; what needs spike counts is not there.
    assert not {"share.bit_budget", "share.working_memory", "ns_ace", "synops"} & set(table)


def test_a_layers_cost_that_needs_spike_counts_is_not_zero_without_them():
    network = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    model = CostModel(trace(network, torch.randn(2, 8)), first_layer_counted=False)
    plan = model.uniform(UniformBits(weight_bits=3, spike_bits=2, time_steps=2), None)
    assert all(value != value for value in model.layer_costs("ns_ace", plan).values())
    # A layer that is not counted has no share in the means.
    assert model.layer_costs("bit_budget", plan) == {"0": 0.0, "2": 12.0}
