import copy

import pytest
import torch
from cost_problems import make_target
from learning import guessed
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.layer import Linear
from torch import nn
from torch.nn import functional as F

from bitsearch import InputError, QuantizedNetwork, quantize
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import Budget, parse_budgets, target_limits
from bitsearch.data import batches
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.plan import UniformBits
from bitsearch.train.evaluate import evaluate


@pytest.mark.parametrize("metric", ["bit_budget", "s_ace"])
def test_the_loop_of_ones_own_meets_its_budget_after_projection(network, splits, metric):
    network = quantize(network, splits.train.tensors[0][:16])
    optimizer = torch.optim.Adam(network.parameter_groups(lr=1e-3), lr=1e-3)
    network.watch(optimizer)
    generator, start = torch.Generator().manual_seed(0), network.layer_plans
    for _ in range(5):
        for images, labels in batches(splits.train, 32, generator):
            loss = F.cross_entropy(network(images), labels) + network.penalty("4x", metric, steps=10)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert evaluate(network, splits.train, 64) > guessed(256, 10)
    assert network.layer_plans != start
    assert network.changes > 0

    plan = network.project("4x", metric=metric)
    budget = network.budget("4x", metric)
    baseline = network.model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)
    assert budget.limit == network.model.cost(metric, baseline) / 4
    assert network.model.cost(metric, plan) <= budget.limit
    assert network.layer_plans == plan
    assert not network.searched_layers
    optimizer = torch.optim.Adam(network.parameter_groups(lr=1e-3), lr=1e-3)
    images, labels = splits.train.tensors
    before = F.cross_entropy(network(images), labels)
    for _ in range(5):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < before
    assert network.layer_plans == plan


class OwnTimeAxis(nn.Module):
    """Shows its input at several steps; what is behind the mean over them is static."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.body = nn.Sequential(Linear(8, 16), neuron.IFNode(), Linear(16, 16), neuron.IFNode())
        self.head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
        functional.set_step_mode(self.body, "m")

    def forward(self, x):
        return self.head(self.body(x.unsqueeze(0).repeat(self.steps, 1, 1)).mean(0))


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_layers_with_and_without_a_time_axis_learn_together(steps):
    torch.manual_seed(0)
    x, labels = torch.rand(32, 8), torch.arange(32) % 4
    network = quantize(OwnTimeAxis(steps), x).train()
    frames = None if steps == 1 else steps
    assert [layer.frames for layer in network.layers.values()] == [frames, frames, None, None]
    # The first layer has no choice; another has as many as it has frames, four without any.
    most = [network.rules.choices[name].time_steps.high for name in list(network.layers)[1:]]
    assert most == [min(steps, 4) if frames else 4, 4, 4]
    loss = F.cross_entropy(network(x), labels) + network.penalty("2x", "s_ace", steps=10)
    loss.backward()
    assert all(layer.time_latent.grad.isfinite() for layer in network.searched_layers.values())
    network.project("2x", metric="s_ace")
    assert network(x).shape == (32, 4)


def test_quantizing_keeps_weights_and_gives_the_first_layer_its_own_bits(network, batch):
    before = copy.deepcopy(network.state_dict())
    quantized = quantize(network, batch[0][:8])
    assert isinstance(quantized, QuantizedNetwork)
    assert not any(isinstance(module, QuantizedLayer) for module in network.modules())
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value)
        assert torch.equal(quantized.network.state_dict()[name], value)
    plans = quantized.layer_plans
    assert list(plans) == ["0", "3", "6", "10"]
    assert (plans["0"].weight_bits, plans["0"].spike_bits, plans["0"].signed_input) == (8, (8,), True)
    assert all((plan.weight_bits, plan.spike_bits) == (4, (4, 4)) for plan in list(plans.values())[1:])
    assert list(quantized.searched_layers) == ["3", "6", "10"]


def test_the_arguments_of_quantize_reach_the_layers(network, batch):
    quantized = quantize(
        network,
        batch[0][:8],
        choices=Choices(weight_bits=Span(low=2, high=3), time_steps=Span(low=1, high=3)),
        start=UniformBits(weight_bits=3, spike_bits=5, time_steps=1),
        first_layer=FirstLayer(weight_bits=6, spike_bits=7, time_steps=2, counted=False),
        baseline=UniformBits(weight_bits=4, spike_bits=2, time_steps=1),
        granularity="channel",
        decay=0.5,
    )
    first, *searched = quantized.layer_plans.values()
    assert (first.weight_bits, first.spike_bits, first.granularity) == (6, (7, 7), "channel")
    for plan in searched:
        assert (plan.weight_bits, plan.spike_bits, plan.granularity, plan.decay) == (3, (5,), "channel", 0.5)
    assert quantized.budget("2x").limit == pytest.approx(4)
    with torch.no_grad():
        for layer in quantized.searched_layers.values():
            layer.weight_latent.fill_(100.0)
            layer.time_latent.fill_(100.0)
    quantized(batch[0])
    assert {(plan.weight_bits, plan.time_steps) for plan in list(quantized.layer_plans.values())[1:]} == {(3, 3)}


@pytest.mark.parametrize("span", ["weight_bits", "spike_bits", "time_steps"])
def test_narrow_choices_hold_from_the_start(network, batch, span):
    choices = Choices(**{span: Span(low=1, high=1)})
    quantized = quantize(network, batch[0][:8], choices=choices)
    for name in quantized.searched_layers:
        plan = quantized.layer_plans[name]
        assert plan.weight_bits in choices.weight_bits
        assert plan.time_steps in choices.time_steps
        assert all(bits in choices.spike_bits for bits in plan.spike_bits)
    plan = quantized.project("16x")
    assert quantized.model.cost("bit_budget", plan) <= quantized.budget("16x").limit


def test_only_training_rounds_the_latents_anew(network, batch):
    quantized = quantize(network, batch[0][:8])
    with torch.no_grad():
        quantized.layers["3"].weight_latent.fill_(2.0)
    quantized.eval()(batch[0])
    assert quantized.layer_plans["3"].weight_bits == 4
    quantized.train()(batch[0])
    assert quantized.layer_plans["3"].weight_bits == 2
    assert quantized.changes == 1
    quantized(batch[0])
    assert quantized.changes == 1


def trained_a_little(network, batch, watched=True):
    quantized = quantize(network, batch[0][:8])
    optimizer = torch.optim.Adam(quantized.parameter_groups(1e-3), lr=1e-3)
    if watched:
        quantized.watch(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(quantized(batch[0]), batch[1]).backward()
        optimizer.step()
    with torch.no_grad():
        for layer in quantized.searched_layers.values():
            layer.weight_latent.fill_(float(layer.layer_plan.weight_bits))
            layer.spike_latent[: layer.active_steps] = layer.spike_bits[: layer.active_steps]
            layer.time_latent.fill_(float(layer.active_steps))
    quantized.round_latents()
    return quantized, optimizer


def test_a_renewed_steps_momentum_is_reset_and_no_other_layers(network, batch):
    quantized, optimizer = trained_a_little(network, batch)
    changed, other = quantized.layers["3"], quantized.layers["6"]
    before = {key: optimizer.state[other.weight_log_step][key].clone() for key in ("exp_avg", "exp_avg_sq")}
    assert optimizer.state[changed.weight_log_step]["exp_avg"] != 0
    with torch.no_grad():
        changed.weight_latent.sub_(1)
        changed.spike_latent.sub_(1)
    quantized.round_latents()
    for step in (changed.weight_log_step, changed.spike_log_step):
        state = optimizer.state[step]
        assert state["exp_avg"].abs().sum() == 0
        assert state["exp_avg_sq"].abs().sum() == 0
        assert state["step"] == 3
    for key, value in before.items():
        assert value != 0
        assert torch.equal(optimizer.state[other.weight_log_step][key], value)
    assert optimizer.state[changed.weight]["exp_avg"].abs().sum() > 0


def test_an_unwatched_optimizer_is_left_alone(network, batch):
    quantized, optimizer = trained_a_little(network, batch, watched=False)
    with torch.no_grad():
        quantized.layers["3"].weight_latent.sub_(1)
    quantized.round_latents()
    assert optimizer.state[quantized.layers["3"].weight_log_step]["exp_avg"] != 0


def test_parameter_groups_hold_every_parameter_once_and_decay_only_weights(network, batch):
    quantized = quantize(network, batch[0][:8], granularity="channel")
    groups = quantized.parameter_groups(1e-3, weight_decay=0.1, bits_learning_rate=0.2, time_learning_rate=0.3)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in quantized.parameters()}
    names = {id(parameter): name for name, parameter in quantized.named_parameters()}
    kinds = {}
    for group in groups:
        for parameter in group["params"]:
            kinds[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert {kind for name, kind in kinds.items() if name.endswith(("weight_latent", "spike_latent"))} == {(0.2, 0.0)}
    assert {kind for name, kind in kinds.items() if name.endswith("time_latent")} == {(0.3, 0.0)}
    assert {kind for name, kind in kinds.items() if name.endswith("_log_step")} == {(5e-3, 0.0)}
    decayed = {name for name, kind in kinds.items() if kind == (1e-3, 0.1)}
    assert decayed == {"network.0.weight", "network.3.weight", "network.6.weight", "network.10.weight"}


def test_a_copy_is_independent(network, batch):
    quantized = quantize(network, batch[0][:8])
    quantized(batch[0])
    other = copy.deepcopy(quantized)
    assert torch.equal(other.eval()(batch[0]), quantized.eval()(batch[0]))
    with torch.no_grad():
        other.layers["3"].weight_latent.fill_(1.0)
    other.train()(batch[0])
    assert other.layer_plans["3"].weight_bits == 1
    assert quantized.layer_plans["3"].weight_bits == 4


def test_several_budgets_are_met_at_once(network, batch):
    quantized = quantize(network, batch[0][:8], target="power_of_two")
    requests = ("4x", "memory=900B", quantized.budget("latency=2x"), "energy=2x")
    plan = quantized.project(*requests, metric="s_ace")
    model = quantized.model
    for metric, request in (("s_ace", "4x"), ("weight_memory", "900B"), ("latency", "2x"), ("energy", "2x")):
        assert quantized.budget(request, metric).met_by(model, plan), metric
    assert quantized.rules.contains(plan)
    assert quantized.layer_plans == plan


def test_a_projection_meets_the_limits_of_the_target(network, batch):
    free = quantize(network, batch[0][:8])
    wanted = free.model.cost("weight_memory", free.project("2x", metric="s_ace"))
    least = free.model.cost("weight_memory", free.rules.smallest(free.model))
    small = make_target("small", memory={"weight_bytes": int((wanted + least) / 2)})
    quantized = quantize(network, batch[0][:8], target=small)
    plan = quantized.project("2x", metric="s_ace")
    assert quantized.model.cost("weight_memory", plan) <= small.memory.weight_bytes
    outcomes = {outcome.metric: outcome for outcome in quantized.plan("2x", metric="s_ace").budget}
    assert outcomes["weight_memory"].met
    assert outcomes["weight_memory"].limit == small.memory.weight_bytes
    # They are asked for once, and without any budget too.
    alone = quantize(network, batch[0][:8], target=small)
    alone.project(*parse_budgets("1x", "s_ace", alone.model, alone.baseline))
    assert len(alone.plan(*target_limits(small)).budget) == 1
    alone = quantize(network, batch[0][:8], target=small)
    assert target_limits(small)[0].met_by(alone.model, alone.project())
    too_small = make_target("too_small", memory={"weight_bytes": int(least) - 1})
    with pytest.raises(InputError, match=r"target too_small .* is infeasible"):
        quantize(network, batch[0][:8], target=too_small).project("2x")


def test_a_target_decides_what_the_layers_get(network, batch):
    target = make_target(
        weight_bits=[1, 2, 4, 8], spike_bits=[2, 8], first_layer={"weight_bits": 4}, last_layer={"weight_bits": 8}
    )
    quantized = quantize(network, batch[0][:8], target=target)
    assert {name: (plan.weight_bits, plan.spike_bits) for name, plan in quantized.layer_plans.items()} == {
        "0": (4, (8,)),
        "3": (4, (2, 2)),
        "6": (4, (2, 2)),
        "10": (8, (2, 2)),
    }
    assert quantized.searched_layers["10"].choices.weight_bits.values == (8,)
    by_name = quantize(network, batch[0][:8], target="binary_fpga")
    assert [plan.weight_bits for plan in by_name.layer_plans.values()] == [8, 1, 1, 8]
    assert by_name.model.target.name == "binary_fpga"


def test_a_target_refuses_what_it_cannot_do_in_one_line(network, batch):
    for options, said in (
        ({"granularity": "channel"}, "one weight step size a layer"),
        ({}, "first_layer.weight_bits is 8, but the hardware target 'coarse' allows 1, 2"),
        (
            {"choices": Choices(weight_bits=[3]), "first_layer": FirstLayer(weight_bits=2)},
            "are none of the hardware target",
        ),
    ):
        target = make_target("coarse", weight_bits=[1, 2], granularity=["layer"])
        with pytest.raises(InputError) as caught:
            quantize(network, batch[0][:8], target=target, **options)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def set_latents(layer, weight, spikes, steps):
    with torch.no_grad():
        layer.weight_latent.fill_(weight)
        layer.spike_latent.copy_(torch.tensor(spikes))
        layer.time_latent.fill_(steps)


@pytest.fixture
def with_gaps(network, batch):
    """Four weight bits of 1, 2, 4 and 8; 4 spike bits of 1, 4 and 8; two time steps of 1, 2 and 4."""
    choices = Choices(weight_bits=[1, 2, 4, 8], spike_bits=[1, 4, 8], time_steps=[1, 2, 4])
    return quantize(network, batch[0][:8], choices=choices)


@pytest.mark.parametrize(
    ("latent", "bits"),
    [
        # Of 4 bits; half-way to 8 is 6, to 2 is 3, and a little more is needed.
        (4.6, 4),
        (6.0, 4),
        (6.04, 4),
        (6.06, 8),
        (7.9, 8),
        (3.4, 4),
        (3.0, 4),
        (2.96, 4),
        (2.94, 2),
        # Half-way between 1 and 2 a far latent takes the larger.
        (1.6, 2),
        (1.5, 2),
        (1.4, 1),
    ],
)
def test_where_widths_are_missing_latents_round_to_those_there_are(with_gaps, latent, bits):
    layer = with_gaps.layers["3"]
    set_latents(layer, latent, [4.0] * 4, 2.0)
    with_gaps.round_latents()
    assert layer.layer_plan.weight_bits == bits
    # Coming back takes as much beyond the middle again.
    if bits != 4:
        middle = (4 + bits) / 2
        for back, then in ((middle, min(bits, 8)), (middle + (0.06 if bits < 4 else -0.06), 4)):
            if bits != 1:
                set_latents(layer, back, [4.0] * 4, 2.0)
                with_gaps.round_latents()
                assert layer.layer_plan.weight_bits == then


def test_spike_bits_and_time_steps_round_to_those_there_are(with_gaps):
    layer = with_gaps.layers["3"]
    for spikes, steps, expected in (
        ([6.04, 2.46, 4.0, 4.0], 3.04, (4, 4)),
        ([6.06, 2.44, 4.0, 4.0], 3.04, (8, 1)),
        ([6.06, 2.44, 4.0, 4.0], 3.06, (8, 1, 1, 1)),
        ([5.96, 2.54, 1.0, 8.0], 2.96, (8, 1, 1, 8)),
        ([5.94, 2.56, 1.0, 8.0], 2.94, (4, 4)),
        ([4.0, 4.0, 1.0, 8.0], 1.46, (4, 4)),
        ([4.0, 4.0, 1.0, 8.0], 1.44, (4,)),
    ):
        set_latents(layer, 4.0, spikes, steps)
        with_gaps.round_latents()
        assert layer.layer_plan.spike_bits == expected
    assert with_gaps.rules.contains(with_gaps.layer_plans)


def test_latents_that_wander_stay_within_the_rules(with_gaps, batch):
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(60):
        for layer in with_gaps.searched_layers.values():
            with torch.no_grad():
                for latent in (layer.weight_latent, layer.spike_latent, layer.time_latent):
                    latent.add_(torch.randn(latent.shape, generator=generator))
        with_gaps.round_latents()
        plans = with_gaps.layer_plans
        assert with_gaps.rules.contains(plans)
        seen |= {(plan.weight_bits, plan.time_steps) for plan in plans.values()}
        weights, spikes, steps = with_gaps.allocation
        assert weights.tolist() == [plan.weight_bits for plan in plans.values()]
        assert spikes.tolist() == pytest.approx([plan.mean_spike_bits for plan in plans.values()])
        assert steps.tolist() == [plan.time_steps for plan in plans.values()]
    assert {bits for bits, _ in seen} == {1, 2, 4, 8}
    assert {steps for _, steps in seen} == {1, 2, 4}


def test_a_budget_may_be_given_as_such(network, batch):
    quantized = quantize(network, batch[0][:8])
    budget = Budget("weight_memory", "mine", 900.0)
    assert quantized.penalty(budget, steps=10).requires_grad
    assert quantized.model.cost("weight_memory", quantized.project(budget)) <= 900


@pytest.mark.parametrize(
    ("request_text", "metric", "said"),
    [
        ("latency=1ms", "bit_budget", "'latency' needs a hardware target with a table [latency]"),
        ("memory=1uJ", "bit_budget", "'uJ' is no unit of weight_memory"),
        ("memory=1B", "bit_budget", "infeasible: the smallest feasible value is"),
        ("1000x", "bit_budget", "infeasible: the smallest feasible value is"),
        ("quarter", "bit_budget", "'quarter' is not understood"),
        ("0x", "bit_budget", "is not positive and finite"),
        ("4x", "joules", "'joules' is not a cost metric"),
        ("4x", "ns_ace", "ns_ace depends on how often neurons fire"),
    ],
)
@pytest.mark.parametrize("method", ["penalty", "project", "budget"])
def test_budgets_that_cannot_be_are_refused_in_one_line(network, batch, method, request_text, metric, said):
    quantized = quantize(network, batch[0][:8])
    options = {"steps": 10} if method == "penalty" else {}
    with pytest.raises(InputError) as caught:
        getattr(quantized, method)(request_text, metric=metric, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert quantized.searched_layers


def test_what_cannot_be_quantized_is_refused_in_one_line(network, batch):
    for given, example, said in (
        (nn.Sequential(nn.Flatten(), nn.ReLU()), batch[0][:4], "no convolution or linear layer"),
        (network, torch.randn(4, 3, 8, 8), "cannot run an input of shape [4, 3, 8, 8]"),
    ):
        with pytest.raises(InputError) as caught:
            quantize(given, example)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_budgets_on_spikes_need_them_counted(network, batch):
    learnable = quantize(network, batch[0])
    for use in (lambda: learnable.penalty("ns_ace=100", steps=10), lambda: learnable.project("ns_ace=100", "2x")):
        with pytest.raises(InputError, match="ns_ace depends on how often neurons fire; count spikes first"):
            use()
    with pytest.raises(InputError, match="no budget is given"):
        learnable.project()


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (None, "example_input: its input is NoneType; give a float32 tensor"),
        ({"x": [1.0] * 6, "y": torch.zeros(4, 6)}, "example_input: its input 'x' is list; give a float32 tensor"),
        ((torch.zeros(4, 6), None), "example_input: its input 1 is NoneType; give a float32 tensor"),
        (torch.full((4, 6), float("nan")), r"example_input: its input is nan at \[0, 0\]; mend"),
    ],
)
def test_an_example_that_is_no_input_is_named(example, message):
    with pytest.raises(InputError, match=message):
        quantize(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), example)
