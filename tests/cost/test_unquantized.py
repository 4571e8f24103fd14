"""What keeps 32 bits costs what it does for a whole input: all frames, every part of a batch, every path."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import bitsearch
from bitsearch.cost import CostModel, Target, trace
from bitsearch.cost.geometry import DEPENDS_ON_DATA
from bitsearch.cost.profile import profile

pytestmark = [pytest.mark.filterwarnings("ignore:kept at 32 bits"), pytest.mark.filterwarnings("ignore:never called")]
FLOAT = 32 * 32
"""Bit operations of a multiply-accumulate."""


def excluding(frames):
    network = nn.Sequential(
        layer.Linear(8, 16), neuron.IFNode(), layer.Linear(16, 16), neuron.IFNode(), layer.Linear(16, 4)
    )
    functional.set_step_mode(network, "m")
    return bitsearch.quantize(network, torch.rand(frames, 6, 8), time_axis=True, exclude=["2"])


@pytest.mark.parametrize("frames", [1, 2, 10])
def test_an_excluded_layer_works_once_a_frame(frames):
    network = excluding(frames)
    costs = {
        metric: network.model.layer_costs(metric, network.layer_plans)["2"]
        for metric in ("s_ace", "weight_memory", "working_memory", "energy")
    }
    assert costs["s_ace"] == 16 * 16 * FLOAT * frames
    # Kept once, without a step size; and of one frame after the other, 16 currents and as many inputs.
    assert costs["weight_memory"] == 16 * 16 * 4 + 8 * 16
    assert costs["working_memory"] == 16 * network.model.target.membrane_bits / 8 + 16 * 4
    table = Target.load("generic").energy
    operation = table.bit_operation * FLOAT + table.accumulate
    states = 2 * 16 * (network.model.target.membrane_bits + 32) / 8
    expected = frames * (256 * operation + table.state_byte * states) + table.weight_byte * 16 * 16 * 4
    assert costs["energy"] == pytest.approx(expected)


def test_means_count_its_frames_too():
    network = excluding(10)
    plans = {name: plan.with_bits(8, (8,) * 10) for name, plan in network.layer_plans.items()}
    # 8 and 16 inputs with bits, 16 without, 10 time steps each; weights 128, 64 at 8 bits and 256 at 32.
    assert network.model.means(plans) == pytest.approx(((192 * 8 + 256 * 32) / 448, (24 * 8 + 16 * 32) / 40, 10.0))
    table = profile(network.network, network.model, plans).set_index("layer")
    assert table.loc["2", "time_steps"] == 10


class Products(nn.Module):
    """Attention's products, frame by frame, and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.a, self.lif, self.gru, self.c = (
            nn.Linear(4, 6),
            neuron.IFNode(step_mode="m"),
            nn.GRU(6, 5),
            nn.Linear(5, 2),
        )

    def forward(self, x):
        y = self.lif(self.a(x))
        y = (y @ y.transpose(-1, -2)) @ y
        return self.c(self.gru(y.mean(2))[0])


def test_products_and_recurrent_layers_work_once_a_frame():
    network, x = Products(), torch.rand(7, 3, 5, 4)
    model = CostModel(trace(network, x, time_axis=True))
    plan = {name.name: bitsearch.LayerPlan(weight_bits=8, spike_bits=(8,) * 7, time_steps=7) for name in model.layers}
    # No weights, no step sizes; and the recurrent layer's matrices and biases as they are.
    memory = model.layer_costs("weight_memory", plan)
    assert memory[""] == 0
    assert memory["gru"] == 4 * 3 * (5 * 6 + 5 * 5) + 8 * (2 * 3 * 5)
    costs = model.layer_costs("s_ace", plan)
    # Spikes times spikes, and their sums times spikes.
    assert costs[""] == 7 * 5 * 5 * 6 * (1 * 1 + 32 * 1)
    assert costs["gru"] == 7 * 3 * (6 * 5 + 5 * 5) * FLOAT


class Unrolled(nn.Module):
    def __init__(self, multi):
        super().__init__()
        self.multi = multi
        self.a, self.lif, self.b = layer.Linear(4, 6), neuron.IFNode(), layer.Linear(6, 2)
        functional.set_step_mode(self, "m" if multi else "s")

    def forward(self, x):
        if self.multi:
            return self.b(self.lif(self.a(x.unsqueeze(0).repeat(16, 1, 1)))).mean(0)
        return sum(self.b(self.lif(self.a(x))) for _ in range(16)) / 16


@pytest.mark.parametrize("exclude", [[], ["b"]])
def test_a_loop_of_the_networks_own_costs_what_its_multi_step_twin_costs(exclude):
    costs = []
    for multi in (True, False):
        network = bitsearch.quantize(Unrolled(multi), torch.rand(3, 4), exclude=exclude)
        plans = {name: plan.with_bits(4, (4,) * plan.time_steps) for name, plan in network.layer_plans.items()}
        costs.append(network.model.layer_costs("s_ace", plans)["b"])
        steps = plans["b"].time_steps if "b" in plans else 16
        assert costs[-1] == 6 * 2 * (16 if "b" in plans else FLOAT) * steps
    if exclude:
        assert costs[0] == costs[1]


class Experts(nn.Module):
    """Its second layer sees a part of every batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.expert, self.last = nn.Linear(8, 8), nn.Linear(8, 72), nn.Linear(72, 4)

    def forward(self, x):
        y = self.gate(x).relu()
        z = y.new_zeros(len(x), 72)
        hard = x[:, 0] > 0.5
        z[hard] = self.expert(y[hard])
        return self.last(z)


def test_a_part_of_a_batch_counts_as_one_input_at_most():
    x = torch.rand(32, 8, generator=torch.Generator().manual_seed(1))
    with pytest.warns(UserWarning, match=DEPENDS_ON_DATA):
        layers = {one.name: one for one in trace(Experts(), x)}
    assert 0 < layers["expert"].macs <= 8 * 72
    assert (layers["gate"].macs, layers["last"].macs) == (64, 72 * 4)


class Early(nn.Module):
    """Goes on where the first input is large."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.more, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        y = self.a(x).relu()
        return self.last(self.more(y) if x[0].sum() > 1.5 else y)


@pytest.mark.parametrize("first", [0.0, 1.0])
def test_costs_of_a_path_that_the_data_choose_are_marked(first):
    x = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    x[0] = first
    line = f"^{DEPENDS_ON_DATA}: more; costs are those of the example$"
    with pytest.warns(UserWarning, match=line):
        model = CostModel(trace(Early(), x))
    dependent = {one.name: one.data_dependent for one in (*model.layers, *model.unquantized)}
    assert dependent == {"a": False, "last": False, "more": True}
    table = profile(
        Early(), model, model.uniform(bitsearch.UniformBits(weight_bits=8, spike_bits=4, time_steps=1), None)
    )
    assert first == 0.0 or table.set_index("layer").loc["more", "note"] == DEPENDS_ON_DATA


def test_costs_of_an_ordinary_network_are_not(recwarn):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2))
    assert not any(one.data_dependent for one in trace(network, torch.rand(5, 4)))
    assert len(recwarn) == 0
