"""Layers with one weight, one stream of spikes, or tied bits: what they learn is one parameter."""

import copy

import pytest
import torch
from branches import branches
from branches import images as branch_images
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from safetensors.torch import load_file, save_file
from torch import nn

from bitsearch.choices import Choices, FirstLayer, Tie
from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.errors import InputError
from bitsearch.layer_rules import TieRule
from bitsearch.layers import convert, quantized_layers
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.sharing import share_spike_steps
from bitsearch.layers.soft_weights import SoftWeights
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import LayerPlan, UniformBits

WEIGHT = frozenset({"weight_bits"})
SPIKES = frozenset({"spike_bits", "time_steps"})


def network(tied=True):
    """Linear layers 0, 2, 4 and 6; 4 has the weight of 2."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(module for _ in range(3) for module in (nn.Linear(6, 6), nn.ReLU())), nn.Linear(6, 6))
    if tied:
        layers[4].weight = layers[2].weight
    return layers


def images():
    return torch.rand(8, 6, generator=torch.Generator().manual_seed(1))


def plan(weight_bits=(8, 3, 3, 4), spike_bits=(4, 4), **options):
    return {
        name: LayerPlan(weight_bits=bits, spike_bits=spike_bits, time_steps=len(spike_bits), **options)
        for name, bits in zip("0246", weight_bits, strict=True)
    }


def learnable(ties=(), granularity="layer"):
    layers = network()
    model = CostModel(trace(layers, images()), ties=ties)
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    bits = UniformBits(weight_bits=4, spike_bits=4, time_steps=2)
    return QuantizedNetwork.learnable(
        layers, model, rules=rules, start=bits, baseline=bits, granularity=granularity, decay=None
    )


def steps(quantized, count, noise=0.0, seed=0):
    """Training steps, with gradients of noise on every latent."""
    optimizer = torch.optim.SGD(quantized.parameter_groups(1e-2, bits_learning_rate=0.3, time_learning_rate=0.3))
    generator = torch.Generator().manual_seed(seed)
    quantized.train()
    for _ in range(count):
        optimizer.zero_grad()
        quantized(images()).square().sum().backward()
        for group in optimizer.param_groups:
            for parameter in group["params"] if group.get("latents") else ():
                parameter.grad = noise * torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    quantized.round_latents()


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_one_weight_is_quantized_alike_in_both_layers_while_it_is_trained(granularity):
    quantized = convert(network(), plan(granularity=granularity))
    parameters = list(quantized.parameters())
    assert len({id(parameter) for parameter in parameters}) == len(parameters)
    optimizer = torch.optim.SGD(parameters, lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        quantized(images()).square().sum().backward()
        optimizer.step()
        assert torch.equal(quantized[2].quantized_weight(), quantized[4].quantized_weight())
    assert quantized[2].weight_log_step is quantized[4].weight_log_step
    assert quantized[2].weight_log_step is not quantized[6].weight_log_step


def test_two_widths_for_one_weight_are_refused():
    with pytest.raises(InputError) as fault:
        convert(network(), plan((8, 3, 5, 4)))
    assert str(fault.value) == (
        "layers '2' and '4' have one weight, and the plan has weight_bits 3 and 5 for it; give both the same"
    )
    convert(network(tied=False), plan((8, 3, 5, 4)))


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_one_weight_whose_channels_are_outputs_here_and_inputs_there(granularity):
    layers = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3))
    layers[2].weight = layers[0].weight
    bits = {
        name: LayerPlan(weight_bits=3, spike_bits=(4,), time_steps=1, granularity=granularity) for name in ("0", "2")
    }
    if granularity == "channel":
        with pytest.raises(
            InputError, match=r'channels are outputs of the one and inputs of the other; .* to "layer"$'
        ):
            convert(layers, bits)
    else:
        quantized = convert(layers, bits)
        quantized(torch.rand(2, 4, 8, 8))
        assert torch.equal(quantized[0].quantized_weight(), quantized[2].quantized_weight())


def test_one_step_is_renewed_once():
    quantized = learnable()
    quantized.train()
    quantized(images())
    for name in ("2", "4"):
        layer = quantized.layers[name]
        layer.set_bits(layer.layer_plan.with_bits(2, layer.layer_plan.spike_bits))
    quantized(images())
    assert quantized.layers["2"].renewals == 1
    assert quantized.layers["4"].renewals == 0
    step = quantized.layers["2"].weight_log_step.detach().clone()
    quantized(images())
    assert torch.equal(quantized.layers["4"].weight_log_step, step)


def test_no_parameter_is_in_two_groups_or_twice_in_one():
    quantized = learnable([Tie(layers=("4", "6"), share=SPIKES)])
    parameters = [id(parameter) for group in quantized.parameter_groups(0.1) for parameter in group["params"]]
    assert sorted(parameters) == sorted(map(id, quantized.parameters()))
    assert len(set(parameters)) == len(parameters)


@examples(30)
@given(
    st.lists(
        st.builds(
            Tie,
            layers=st.lists(st.sampled_from("246"), min_size=2, unique=True).map(tuple),
            share=st.sampled_from([WEIGHT, SPIKES, WEIGHT | SPIKES]),
        ),
        max_size=2,
    ),
    st.integers(0, 1000),
)
def test_bits_that_move_stay_alike_where_they_are_shared(ties, seed):
    quantized = learnable(ties)
    start = quantized.layer_plans
    for _ in range(3):
        steps(quantized, 4, noise=3.0, seed=seed)
        assert quantized.rules.contains(quantized.layer_plans)
        expected = quantized.rules.tied(quantized.layer_plans)
        # With gradients, the allocation has the rounded values, layer by layer.
        weights, spikes, times = (values.detach().tolist() for values in quantized.allocation)
        assert weights == pytest.approx([layer.weight_bits for layer in expected.values()], rel=1e-6)
        assert spikes == pytest.approx([layer.mean_spike_bits for layer in expected.values()], rel=1e-6)
        assert times == pytest.approx([layer.time_steps for layer in expected.values()], rel=1e-6)
    assert quantized.layer_plans != start
    final = quantized.layer_plans
    quantized.fix(final)
    assert quantized.layer_plans == final
    assert quantized.layers["2"].weight_log_step is quantized.layers["4"].weight_log_step


def test_the_gradient_of_a_shared_latent_is_that_of_both_layers():
    quantized = learnable()
    weights, _, _ = quantized.allocation
    (weights * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert quantized.layers["2"].weight_latent is quantized.layers["4"].weight_latent
    assert float(quantized.layers["4"].weight_latent.grad) == 110
    assert float(quantized.layers["6"].weight_latent.grad) == 1000


def test_saved_and_loaded_copied_and_moved_it_stays_shared(tmp_path):
    quantized = learnable([Tie(layers=("4", "6"), share=SPIKES)])
    steps(quantized, 3)
    quantized.fix(quantized.layer_plans)
    save_weights(quantized.network, tmp_path / "w.safetensors")
    other = convert(network(), quantized.layer_plans)
    load_weights(other, tmp_path / "w.safetensors")
    expected = quantized.network.eval()(images())
    assert torch.equal(other.eval()(images()), expected)
    for network_again in (other, copy.deepcopy(other), copy.deepcopy(other).to(torch.float64).float()):
        assert network_again[2].weight_log_step is network_again[4].weight_log_step
        assert torch.equal(network_again(images()), expected)


def test_a_file_with_two_steps_of_one_weight_is_read_as_it_was_written(tmp_path):
    quantized = convert(network(), plan()).eval()
    quantized(images())
    save_weights(quantized, tmp_path / "w.safetensors")
    state = load_file(tmp_path / "w.safetensors")
    state["4.weight_log_step"] = state["4.weight_log_step"] + 0.5
    save_file(state, tmp_path / "old.safetensors")
    load_weights(quantized, tmp_path / "old.safetensors")
    for name, value in state.items():
        assert torch.equal(quantized.state_dict()[name], value), name


def test_soft_weights_of_two_layers_harden_once():
    quantized = convert(network(), plan())
    quantized(images())
    soft = SoftWeights(quantized[2].weight.detach(), 3)
    quantized[2].soft_weights = quantized[4].soft_weights = soft
    soft.eval()
    expected = soft(quantized[2].weight).detach().clone()
    for layer in quantized_layers(quantized).values():
        layer.harden()
    assert quantized[4].soft_weights is None
    assert torch.equal(quantized[4].weight, expected)
    assert torch.allclose(quantized[4].quantized_weight(), expected)


def test_readers_of_one_stream_have_one_step_size_a_time_step_also_when_bits_are_fixed():
    quantized = learnable([Tie(layers=("4", "6"), share=SPIKES)])
    share_spike_steps([quantized.layers["4"], quantized.layers["6"]])
    steps(quantized, 3)
    one, other = quantized.layers["4"], quantized.layers["6"]
    assert one.spike_log_step is other.spike_log_step
    # The first that runs has set it for both.
    assert one.renewals + other.renewals == 0
    assert torch.equal(one.spike_step_bits, other.spike_step_bits)
    quantized.fix(
        {name: layer.with_bits(layer.weight_bits, (3, 2, 1)) for name, layer in quantized.layer_plans.items()}
    )
    assert one.spike_log_step is other.spike_log_step
    assert one.spike_log_step.shape == (3,)
    quantized(images())
    assert one.spike_step_bits.tolist() == other.spike_step_bits.tolist() == [3, 2, 1]


def test_gradients_of_a_batch_in_parts_are_brought_to_the_whole_once():
    quantized = learnable([Tie(layers=("4", "6"), share=SPIKES)])
    share_spike_steps([quantized.layers["4"], quantized.layers["6"]])
    for layer in quantized.layers.values():
        layer.spike_log_step.grad = torch.ones_like(layer.spike_log_step)
    quantized.merge_gradients(4)
    for layer in quantized.layers.values():
        assert torch.equal(layer.spike_log_step.grad, torch.full_like(layer.spike_log_step, 0.5))


def streams(tied=True):
    """Learnable, of layers 'left' and 'right' that read the same eight ReLUs."""
    layers = branches()
    model = CostModel(trace(layers, branch_images()), ties=[TieRule(share="streams")] if tied else [])
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    bits = UniformBits(weight_bits=4, spike_bits=3, time_steps=2)
    return QuantizedNetwork.learnable(
        layers, model, rules=rules, start=bits, baseline=bits, granularity="layer", decay=None
    )


def test_layers_of_one_stream_have_one_step_size_and_send_the_same_spikes():
    quantized, x = streams(), branch_images()
    left, right = quantized.layers["left"], quantized.layers["right"]
    assert left.spike_log_step is right.spike_log_step
    assert left.spike_latent is right.spike_latent
    seen = {}
    for name in ("left", "right"):
        quantized.layers[name].observer = lambda x, spikes, weight, name=name: seen.setdefault(name, spikes.detach())
    optimizer = torch.optim.SGD(quantized.parameter_groups(1e-2), lr=1e-2)
    for _ in range(3):
        seen.clear()
        optimizer.zero_grad()
        quantized.train()(x).square().sum().backward()
        optimizer.step()
        assert torch.equal(seen["left"], seen["right"])
        assert torch.equal(left.spike_step_bits, right.spike_step_bits)
    assert streams(tied=False).layers["left"].spike_log_step is not streams(tied=False).layers["right"].spike_log_step


def test_layers_of_one_stream_take_further_time_steps_together():
    quantized, x = streams(), branch_images()
    quantized.train()(x)
    for steps in (1, 3):
        plan = quantized.layer_plans
        plan |= {name: plan[name].with_bits(4, (3,) * steps) for name in ("left", "right")}
        quantized.fix(plan)
        left, right = quantized.layers["left"], quantized.layers["right"]
        assert left.spike_log_step is right.spike_log_step
        assert [len(layer.spike_step_bits) for layer in (left, right)] == [steps, steps]
        quantized(x)
        assert left.spike_step_bits.tolist() == right.spike_step_bits.tolist() == [3.0] * steps
    assert quantized.layer_plans == plan


def test_a_plan_keeps_its_streams_when_it_is_applied_with_its_weights(tmp_path):
    quantized, x = streams(), branch_images()
    quantized.train()(x)
    plan = quantized.layer_plans
    assert {name: layer.stream for name, layer in plan.items()}["right"] == "left"
    quantized.fix(plan)
    assert quantized.layers["left"].spike_log_step is quantized.layers["right"].spike_log_step
    quantized.eval()
    save_weights(quantized, tmp_path / "weights.safetensors")
    again = convert(branches(), plan).eval()
    load_weights(again, tmp_path / "weights.safetensors")
    assert torch.equal(again(x), quantized(x))
    assert again.left.spike_log_step is again.right.spike_log_step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"right": {"spike_bits": (3, 2)}},
            r"one stream of spikes, and the plan has spike_bits \(3, 3\) and \(3, 2\)",
        ),
        ({"right": {"decay": 0.5}}, "the plan has decay 1.0 and 0.5 for it; give both the same"),
        (
            {"right": {"stream": "middle"}},
            "'right' reads the spikes of 'middle', which has no neurons of its own",
        ),
        ({"left": {"stream": "head"}}, "layer 'right' reads the spikes of 'left', which has no neurons of its own"),
        ({"right": {"stream": "right"}}, "layer 'right' reads the spikes of 'right', which has no neurons of its own"),
    ],
)
def test_a_plan_whose_streams_cannot_be_is_refused(changes, message):
    plan = streams().layer_plans
    plan |= {name: plan[name].model_copy(update=fields) for name, fields in changes.items()}
    with pytest.raises(InputError, match=message):
        convert(branches(), plan)
