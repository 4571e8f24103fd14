"""One spike step size for all of a layer's time steps."""

from types import SimpleNamespace

import pytest
import torch
from cost_problems import make_target
from torch import nn

import bitsearch
from bitsearch.allocation.methods.base import make_learnable_copy
from bitsearch.choices import Choices, FirstLayer
from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace
from bitsearch.study.jobs import allocation_problem
from bitsearch.train.task import load_task

BITS = UniformBits(weight_bits=4, spike_bits=3, time_steps=3)


def linear(spike_bits, choices=None, **options):
    torch.manual_seed(0)
    plan = LayerPlan(
        weight_bits=4, spike_bits=spike_bits, time_steps=len(spike_bits), spike_granularity="layer", **options
    )
    return convert(nn.Sequential(nn.Linear(12, 6)), {"0": plan}, choices and {"0": choices})[0]


def inputs(seed=0, *shape):
    return torch.rand(*shape or (32,), 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", [None, 3])
def test_all_time_steps_have_the_first_ones_size(frames):
    x = inputs(0, 32) if frames is None else inputs(0, frames, 32)
    shared = linear((3, 3, 3), frames=frames)
    shared(x)
    steps = shared.spike_step
    assert steps.shape == (3,)
    assert len(set(steps.tolist())) == 1
    own = linear((3, 3, 3), frames=frames)
    own.spike_granularity = None
    own(x)
    assert steps[0] == own.spike_step[0]
    assert len(set(own.spike_step.tolist())) == 3


def test_the_gradient_of_the_one_size_is_the_sum_of_all_time_steps():
    shared, own = linear((3, 2, 3)), linear((3, 2, 3))
    shared(inputs())
    own.load_state_dict(shared.state_dict())
    own.spike_granularity = None
    with torch.no_grad():
        own.spike_log_step.copy_(shared.spike_step.log())
    for layer in (shared, own):
        layer(inputs(1)).square().sum().backward()
    assert torch.equal(shared(inputs(1)), own(inputs(1)))
    summed = own.spike_log_step.grad.sum()
    torch.testing.assert_close(shared.spike_log_step.grad[0], summed, rtol=1e-5, atol=1e-6)
    assert shared.spike_log_step.grad[1:].tolist() == [0, 0]


def test_a_silent_first_time_step_leaves_the_size_to_the_next():
    layer = linear((3, 3, 3), frames=3)
    x = inputs(0, 3, 32)
    x[0] = 0
    layer(x)
    alone = linear((3,))
    alone(x[1])
    assert set(layer.spike_step.tolist()) == set(alone.spike_step.tolist())
    assert layer.spike_step_bits.tolist() == [3, 3, 3]


def test_a_time_step_that_comes_into_use_takes_the_size_and_new_bits_renew_it():
    layer = linear((3,), Choices())
    layer(inputs())
    before = layer.spike_step[0].item()
    layer.round_latents(4.0, [3.0, 3.0], 2.0)
    layer(inputs())
    assert layer.spike_step[:2].tolist() == [before, before]
    assert layer.renewals == 0
    layer.round_latents(4.0, [2.0, 3.0], 2.0)
    layer(inputs())
    assert layer.renewals == 1
    assert len(set(layer.spike_step[:2].tolist())) == 1
    assert layer.spike_step[0].item() != before


def learnable(network, x, spike_granularity):
    return bitsearch.quantize(network, x, start=BITS, baseline=BITS, spike_granularity=spike_granularity)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


@pytest.fixture(scope="module")
def trained():
    """Quantized networks with a size for every time step and with one, each after a few steps."""
    networks = {}
    for granularity in ("step", "layer"):
        torch.manual_seed(0)
        network = learnable(Network(), inputs(), granularity)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for seed in range(8):
            loss = nn.functional.cross_entropy(network(inputs(seed)), torch.arange(32) % 4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        plan = {name: layer.layer_plan for name, layer in network.layers.items()}
        for name, layer in network.layers.items():
            layer.fix(plan[name])
        networks[granularity] = network.eval()
    return networks


def test_a_plan_says_it_and_its_weights_come_back(trained, tmp_path):
    network = trained["layer"]
    plans = {name: layer.layer_plan for name, layer in network.layers.items()}
    assert {plan.spike_granularity for plan in plans.values()} == {"layer"}
    assert {layer.layer_plan.spike_granularity for layer in trained["step"].layers.values()} == {None}
    again = convert(Network(), {name: LayerPlan.model_validate(plan.model_dump()) for name, plan in plans.items()})
    again.load_state_dict(network.network.state_dict())
    assert torch.equal(again.eval()(inputs(9)), network(inputs(9)))


def test_a_packed_file_has_one_size_and_needs_fewer_bits(trained, tmp_path):
    widths, sizes = {}, {}
    for granularity, network in trained.items():
        plans = {name: layer.layer_plan for name, layer in network.layers.items()}
        sizes[granularity] = bitsearch.pack(network.network, inputs(), tmp_path / granularity)
        assert sizes[granularity] == network.model.cost("weight_memory", plans)
        packed = bitsearch.read(tmp_path / granularity)
        samples = torch.utils.data.TensorDataset(inputs(9), torch.arange(32) % 4)
        assert bitsearch.verify(packed, network.network, inputs(), samples).equal
        numbers = packed.numbers["second"]
        assert len(set(numbers.steps.tolist())) == (1 if granularity == "layer" else 3)
        widths[granularity] = packed.widths["second"]
    # Each of the last two layers saves two of its three sizes; the first has one time step.
    assert sizes["step"] - sizes["layer"] == 2 * 2 * 4
    # Codes of 0 to 7 times levels of ±7, 16 of them, three times: 12 bits with their sign; sizes of their own add 15.
    assert widths["layer"].accumulator == 12 <= 1 + (3 * 16 * 7 * 7).bit_length()
    assert widths["step"].accumulator == 27


def test_sums_too_wide_for_the_target_are_refused(trained, tmp_path):
    target = make_target("narrow", accumulator_bits=20)
    size = bitsearch.pack(trained["layer"].network, inputs(), tmp_path / "good", target=target)
    assert size == bitsearch.pack(trained["layer"].network, inputs(), tmp_path / "any")
    with pytest.raises(InputError, match=r"integers of \d+ bits, and the hardware target 'narrow'.* of 20; search"):
        bitsearch.pack(trained["step"].network, inputs(), tmp_path / "bad", target=target)
    assert not (tmp_path / "bad").exists()


def test_the_setting_reaches_plans_of_every_kind():
    space = SearchSpace.load("digits").override(["allocation.quantizer.spike_granularity=layer"])
    network = Network()
    model = CostModel(trace(network, inputs()))
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    task = SimpleNamespace(model=model, rules=rules, space=space)
    processes = SimpleNamespace(task=task, network=network, seed=0)
    problem = allocation_problem(processes, None, space.allocation, [])
    assert {plan.spike_granularity for plan in problem.plan(BITS).values()} == {"layer"}
    assert load_task(space, device="cpu").model.one_step == {"conv1", "conv2", "conv3", "conv4", "classifier"}
    copy = make_learnable_copy(network, problem.model, rules, space, space.allocation)
    assert {layer.spike_granularity for layer in copy.layers.values()} == {"layer"}
    with pytest.raises(InputError, match="spike_granularity is 'channel'; give 'step' or 'layer'"):
        bitsearch.quantize(network, inputs(), spike_granularity="channel")


def test_an_axis_number_is_no_answer_to_whether_there_is_a_time_axis():
    # `search` takes a number there; here 0 would have meant False.
    with pytest.raises(InputError, match="time_axis is 0; give True if the example's first axis is time"):
        bitsearch.quantize(Network(), inputs(), time_axis=0)
