"""Layers that read the same neurons: whose populations there are, by which ties, and what each of them costs."""

import pytest
import torch
from branches import branches, images
from cost_problems import EVERY_WIDTH, make_target
from tolerances import FLOAT64
from torch import nn

from bitsearch.choices import Choices, FirstLayer, Tie
from bitsearch.cost import AllowedBits, CostModel, Target, trace
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.plan import LayerPlan, UniformBits

SPIKES = ("spike_bits", "time_steps")
ENERGY = {"accumulate": 1.0, "state_byte": 3.0}
HARDWARE = make_target("chip", membrane_bits=16, energy=ENERGY, cores={"count": 99, "bytes_each": 10})


def model_of(*ties, target=HARDWARE):
    return CostModel(trace(branches(), images()), target=target, ties=ties)


def plan(left=(4, (3, 3)), right=(2, (5,))):
    bits = {"stem": (8, (8,)), "left": left, "right": right, "head": (8, (1,))}
    return {name: LayerPlan(weight_bits=w, spike_bits=s, time_steps=len(s)) for name, (w, s) in bits.items()}


def sources(network, inputs, **options):
    return {layer.name: layer.source for layer in trace(network, inputs, **options) if layer.source}


def test_layers_that_read_the_same_values_are_known_by_the_first():
    assert sources(branches(), images()) == {"right": "left"}


@pytest.mark.parametrize(
    ("between", "same"),
    [
        (lambda x: x, True),
        (lambda x: x.unsqueeze(1).squeeze(1), True),
        (lambda x: nn.functional.dropout(x, training=False), True),
        (lambda x: x[:, :6], False),
        (lambda x: x + 1, False),
        (lambda x: torch.relu(x).mul_(2), False),
        (lambda x: x.mul_(2), False),
    ],
)
def test_what_something_was_done_to_is_another_stream(between, same):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left = nn.Linear(4, 8), nn.Linear(8, 3)
            self.right = nn.Linear(between(torch.ones(1, 8)).shape[-1], 3)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            return self.left(x) + self.right(between(x))

    assert sources(Net(), images()) == ({"right": "left"} if same else {})


def test_layers_called_in_a_loop_read_the_same_if_every_call_does():
    class Loop(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 3)
            self.last = last

        def forward(self, x):
            total = 0
            for frame in x:
                frame = torch.relu(self.stem(frame))
                total = total + self.left(frame) + self.right(frame)
            return total + (self.right(2 * frame) if self.last else 0)

    frames = torch.rand(3, 2, 4)
    assert sources(Loop(False), frames, time_axis=True) == {"right": "left"}
    assert sources(Loop(True), frames, time_axis=True) == {}


def test_untied_readers_have_two_populations_which_stand_in_memory_together():
    model = model_of()
    assert model.ties == ()
    assert model.neurons_of("right") == "right"
    # 8 neurons of 16 bits: two bytes each, twice with a second step; and the spikes of all steps.
    left, right = 8 * 2 * 2 + 8 * 2 * 3 / 8, 8 * 2 + 8 * 1 * 5 / 8
    layers = model.layer_costs("working_memory", plan())
    assert (layers["left"], layers["right"]) == (left, right)
    assert model.cost("working_memory", plan()) == left + right
    # Alike, they are still two: each has step sizes of its own.
    alike = plan(left=(4, (3,)), right=(2, (3,)))
    assert model.cost("working_memory", alike) == 2 * (8 * 2 + 3)
    # An accumulation 1 pJ; a byte of states 3 pJ, written and read once a step.
    stem, head = 4 * 8 + 3 * 2 * (4 * 16 + 4 * 8) / 8, 6 * 2 + 3 * 2 * (6 * 16 + 6) / 8
    energies = 2 * 8 * 6 + 3 * 2 * 2 * (8 * 16 + 8 * 3) / 8, 8 * 6 + 3 * 2 * (8 * 16 + 8 * 5) / 8
    assert model.cost("energy", plan()) == pytest.approx(stem + sum(energies) + head, rel=FLOAT64)


@pytest.mark.parametrize(
    "model",
    [
        lambda: model_of(TieRule(share="streams")),
        lambda: model_of(TieRule(match=["left", "right"], share=SPIKES)),
        lambda: model_of(Tie(layers=("left", "right"), share=frozenset(SPIKES))),
        lambda: model_of(target=HARDWARE.model_copy(update={"one_spike_stream": True})),
    ],
    ids=["streams", "by name", "by layers", "by the target"],
)
def test_tied_readers_have_one_population(model):
    model = model()
    assert model.neurons_of("right") == "left"
    alike = plan(left=(4, (3, 3)), right=(2, (3, 3)))
    # One stream: its neurons and its spikes stand at the first layer.
    left = 8 * 2 * 2 + 8 * 2 * 3 / 8
    layers = model.layer_costs("working_memory", alike)
    assert (layers["left"], layers["right"]) == (left, 0)
    assert model.cost("working_memory", alike) == left
    updates = 3 * 2 * 2 * (8 * 16 + 8 * 3) / 8
    assert model.layer_costs("energy", alike)["left"] == 2 * 8 * 6 + updates
    assert model.layer_costs("energy", alike)["right"] == 2 * 8 * 6
    # Weights and channels of the second alone, whose steps are the first one's: ⌈(⌈48·2/8⌉ + 8·6) / 10⌉ cores.
    assert model.layer_costs("cores", alike)["right"] == -(-(12 + 48) // 10)
    # What is no population is as it was.
    for metric in ("bit_budget", "s_ace", "latency"):
        if metric in model.metrics:
            assert model.cost(metric, alike) == model_of().cost(metric, alike)
    made = model.uniform(AllowedBits.make(model, Choices(), FirstLayer()).maximum, None)
    assert {name: layer.stream for name, layer in made.items()} == {
        "stem": None, "left": None, "right": "left", "head": None
    }  # fmt: skip


def test_tensors_cost_what_numbers_do():
    for model in (model_of(), model_of(TieRule(share="streams"))):
        alike = plan(left=(4, (3, 3)), right=(2, (3, 3)))
        numbers = [[8.0, 4, 2, 8], [8.0, 3, 3, 1], [1.0, 2, 2, 1]]
        tensors = [torch.tensor(row, requires_grad=True) for row in numbers]
        cost = model.cost_tensor("working_memory", *tensors)
        assert cost.item() == model.cost("working_memory", alike)
        cost.backward()
        # A bit of the spikes of eight neurons in two steps is two bytes; tied, the first layer's counts for both.
        slopes = [0, 2, 0 if model.ties else 2, 0]
        assert tensors[1].grad.tolist() == slopes


def test_the_ties_of_streams_say_why():
    (tie,) = model_of(TieRule(share="streams")).ties
    assert str(tie) == "left, right: spike_bits time_steps (one stream of spikes: [[ties]] '*')"
    assert model_of(TieRule(match="head", share="streams")).ties == ()
    with pytest.raises(InputError, match="near: 'right'"):
        model_of(TieRule(match="rigt", share="streams"))


def test_rules_of_one_stream_may_not_contradict_each_other():
    model = model_of(TieRule(share="streams"))
    with pytest.raises(InputError) as fault:
        AllowedBits.make(model, Choices(), FirstLayer(), [LayerRule(match="left", spike_granularity="layer")])
    assert str(fault.value) == (
        "layers 'left' and 'right' are tied (one stream of spikes: [[ties]] '*'), and [[layers]] give one of them "
        "spike_granularity 'layer' and the other none; match both"
    )
    rules = [LayerRule(match="left", spike_bits=[1, 2]), LayerRule(match="right", spike_bits=[2, 3])]
    assert AllowedBits.make(model, Choices(), FirstLayer(), rules).choices["left"].spike_bits.values == (2,)
    rules[1] = LayerRule(match="right", spike_bits=3)
    with pytest.raises(InputError, match=r"^layers 'left' and 'right' have one spike_bits \(tied: left, "):
        AllowedBits.make(model, Choices(), FirstLayer(), rules)


def test_neuromorphic_chips_send_one_stream():
    chips = {name for name in Target.names() if Target.load(name).one_spike_stream}
    assert chips == {"akida_1000", "loihi_2", "neuromorphic", "speck_2f", "xylo_2"}
    assert make_target(weight_bits=EVERY_WIDTH, one_spike_stream=True).one_spike_stream


def test_step_sizes_of_one_stream_are_stored_once_by_hand():
    same = plan(right=(2, (3, 3)))
    tie = Tie(layers=("left", "right"), share=SPIKES, why="a test")
    # Weights, step sizes, and eight bytes a channel, of stem, left, right and head.
    apart = (32 + 4 + 64) + (24 + 8 + 48) + (12 + 8 + 48) + (12 + 4 + 16)
    assert model_of().cost("weight_memory", same) == apart
    assert model_of(tie).cost("weight_memory", same) == apart - 8
    one = {name: layer.model_copy(update={"spike_granularity": "layer"}) for name, layer in same.items()}
    assert model_of().cost("weight_memory", one) == apart - 4 - 4
    assert model_of(tie).cost("weight_memory", one) == apart - 8 - 4
    assert model_of(tie).layer_costs("weight_memory", one)["right"] == 12 + 48


def test_the_solvers_costs_have_the_step_sizes_of_the_plans():
    tie = Tie(layers=("left", "right"), share=SPIKES, why="a test")
    model = model_of(tie).with_one_step(["left", "right"])
    bits = UniformBits(weight_bits=4, spike_bits=3, time_steps=2)
    plans = model.uniform(bits, None)
    assert [layer.spike_granularity for layer in plans.values()] == [None, "layer", "layer", None]
    vectors = [torch.full((4,), float(number)) for number in (4, 3, 2)]
    assert float(model.cost_tensor("weight_memory", *vectors)) == model.cost("weight_memory", plans)
