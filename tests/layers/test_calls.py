"""Layers that a forward pass calls several times: once a frame, with the same input, or at several places."""

import copy
from itertools import permutations

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import FLOAT64
from torch import nn

import bitsearch
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import Baseline, BitPlan, LayerPlan, Provenance, UniformBits
from bitsearch.quant.recomputation import recomputed_operands
from bitsearch.score import Accuracy

T = 4
WIDE = UniformBits(weight_bits=8, spike_bits=8, time_steps=T)
FIRST = FirstLayer(weight_bits=8, spike_bits=8, time_steps=T)


def quantized_network(network, x, **options):
    """With steps set by ``x``."""
    options = {"time_axis": True, "start": WIDE, "choices": Choices(time_steps=Span(low=1, high=8))} | options
    quantized = bitsearch.quantize(network, x, **options).eval()
    with torch.no_grad():
        quantized(x)
    return quantized


def frames(*shape, count=T):
    """That let neurons fire now and then, in double precision."""
    return 20 * torch.rand(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def parts(node=neuron.LIFNode):
    """Of a convolutional network for frames ``[2, 8, 8]``, all of whose neurons fire, as after some training."""
    torch.manual_seed(0)
    net = (
        nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1, bias=False),
            layer.BatchNorm2d(4),
            node(),
            layer.MaxPool2d(2),
            layer.Conv2d(4, 6, 3, padding=1),
            node(),
            layer.AvgPool2d(2),
            layer.Flatten(),
            layer.Linear(24, 5),
        )
        .double()
        .eval()
    )
    net[4].weight.data *= 8
    return net


class Loop(nn.Module):
    """Single-step modules, once a frame."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.stack([self.net(frame) for frame in x])


class Whole(nn.Module):
    """The same in multi-step mode."""

    def __init__(self, net):
        super().__init__()
        self.net = copy.deepcopy(net)
        functional.set_step_mode(self.net, "m")

    def forward(self, x):
        return self.net(x)


NODES = {
    "if": neuron.IFNode,
    "lif": neuron.LIFNode,
    "slow lif": lambda: neuron.LIFNode(tau=5.0, decay_input=False),
    "parametric lif": lambda: neuron.ParametricLIFNode(init_tau=3.0),
}


def linear_parts(node=neuron.LIFNode):
    """Nothing stands between the neurons and the layers that read them."""
    torch.manual_seed(0)
    made = [layer.Linear(8, 16), node(), layer.Linear(16, 16), node(), layer.Linear(16, 4)]
    made[2].weight.data *= 4
    return nn.Sequential(*made).double().eval()


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_a_loop_of_linear_layers_gives_what_its_multi_step_twin_gives(node):
    net, x = linear_parts(node), frames(16, 8)
    loop, whole = (quantized_network(kind(net), x) for kind in (Loop, Whole))
    torch.testing.assert_close(loop(x), whole(x), rtol=FLOAT64, atol=FLOAT64)


@pytest.mark.filterwarnings("ignore:the network does not run with one frame less")
def test_an_unrolled_loop_gives_what_a_loop_gives():
    class Written(Loop):
        def forward(self, x):
            return torch.stack([self.net(x[0]), self.net(x[1]), self.net(x[2]), self.net(x[3])])

    net, x = linear_parts(), frames(16, 8)
    loop, written = (quantized_network(kind(copy.deepcopy(net)), x) for kind in (Loop, Written))
    assert torch.equal(loop(x), written(x))


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_a_loop_over_frames_gets_the_plan_of_its_multi_step_twin(node):
    net, x = parts(node), frames(3, 2, 8, 8)
    loop, whole = (bitsearch.quantize(kind(net), x, time_axis=True, start=WIDE) for kind in (Loop, Whole))
    assert {plan.loop for plan in loop.layer_plans.values()} == {"frames"}
    assert {plan.loop for plan in whole.layer_plans.values()} == {None}
    alike = {name: plan.model_copy(update={"loop": None}) for name, plan in loop.layer_plans.items()}
    assert alike == whole.layer_plans


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_loop_over_frames_gives_what_its_multi_step_twin_gives(node, bits):
    net, x = parts(node), frames(3, 2, 8, 8)
    start = UniformBits(weight_bits=8, spike_bits=bits, time_steps=T)
    loop, whole = (quantized_network(kind(net), x, start=start) for kind in (Loop, Whole))
    torch.testing.assert_close(loop(x), whole(x), rtol=FLOAT64, atol=FLOAT64)


def test_gradients_of_a_loop_are_those_of_its_multi_step_twin():
    net, x = parts(), frames(3, 2, 8, 8)
    gradients = []
    for kind in (Loop, Whole):
        quantized = quantized_network(kind(net), x)
        quantized(x).square().mean().backward()
        gradients.append({name: p.grad for name, p in quantized.named_parameters() if name.endswith(".weight")})
    assert gradients[0].keys() == gradients[1].keys()
    for name, wanted in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], wanted, rtol=FLOAT64, atol=FLOAT64)


class Feedback(nn.Module):
    """A recurrent layer whose state is written by hand; the order of registration is anything."""

    def __init__(self, order=("a", "lif", "back", "out")):
        super().__init__()
        torch.manual_seed(0)
        made = {"a": nn.Linear(8, 16), "back": nn.Linear(16, 16, bias=False), "out": nn.Linear(16, 4)}
        made["lif"] = neuron.LIFNode()
        for name in order:
            self.add_module(name, made[name])

    def forward(self, x):
        spikes, out = x.new_zeros(x.shape[1], 16), []
        for frame in x:
            spikes = self.lif(self.a(frame) + self.back(spikes))
            out.append(self.out(spikes))
        return torch.stack(out)


@pytest.mark.parametrize("order", list(permutations(("a", "lif", "back", "out")))[::4], ids=" ".join)
def test_a_recurrent_network_is_the_same_however_it_is_registered(order):
    x = frames(6, 8).float()
    one, other = (quantized_network(network, x) for network in (Feedback(), Feedback(order)))
    assert one.layer_plans == other.layer_plans
    assert torch.equal(one(x), other(x))


def networks():
    """By name, each with frames for it."""
    return {
        "loop": (Loop(parts().float()), frames(3, 2, 8, 8).float()),
        "whole": (Whole(parts().float()), frames(3, 2, 8, 8).float()),
        "recurrent": (Feedback(), frames(6, 8).float()),
    }


@pytest.mark.parametrize("name", networks())
def test_the_order_of_frames_matters(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x)
    last, reversed_last = quantized(x)[-1], quantized(torch.cat([x[:-1].flip(0), x[-1:]]))[-1]
    assert not torch.equal(last, reversed_last)


@pytest.mark.parametrize("name", networks())
def test_a_pass_does_not_know_the_one_before(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x)
    wanted = quantized(x)
    quantized(x.flip(0))
    assert torch.equal(quantized(x), wanted)


@pytest.mark.parametrize("name", networks())
def test_the_first_pass_is_like_every_other(name):
    network, x = networks()[name]
    quantized = bitsearch.quantize(network, x, time_axis=True).eval()
    assert torch.equal(quantized(x), quantized(x))


@pytest.mark.parametrize("name", networks())
def test_a_batch_of_another_size_may_follow(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x)
    wanted = quantized(x)
    assert quantized(x[:, :1]).shape == wanted[:, :1].shape
    assert torch.equal(quantized(x), wanted)


def test_a_pass_that_fails_leaves_nothing_behind():
    network, x = networks()["recurrent"]
    quantized = quantized_network(network, x)
    wanted = quantized(x)
    with pytest.raises(RuntimeError):
        quantized(torch.cat([x, x], 2))
    assert torch.equal(quantized(x), wanted)


@pytest.mark.parametrize("name", networks())
def test_a_network_is_copied_after_a_pass(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x)
    quantized.train()(x).sum()
    quantized.eval()
    assert torch.equal(copy.deepcopy(quantized)(x), quantized(x))


@pytest.mark.parametrize("name", networks())
def test_every_parameter_that_is_used_learns(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x).train()
    quantized(x).square().mean().backward()
    for path, parameter in quantized.named_parameters():
        if path.endswith("weight"):
            assert parameter.grad is not None, path
            assert parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("name", networks())
def test_a_second_training_step_is_possible(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x).train()
    optimizer = torch.optim.SGD(quantized.parameter_groups(0.01))
    losses = []
    for _ in range(3):
        loss = quantized(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", networks())
def test_what_is_recomputed_in_backward_gives_the_same_gradients(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x)
    gradients = []
    for recompute in (False, True):
        quantized.zero_grad()
        if recompute:
            with recomputed_operands():
                quantized(x).square().mean().backward()
        else:
            quantized(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in quantized.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)


@pytest.mark.parametrize("name", networks())
def test_more_frames_than_the_plan_has_are_refused(name):
    network, x = networks()[name]
    quantized = quantized_network(network, x)
    with pytest.raises(InputError, match=rf"the plan is for inputs of {len(x)} frames"):
        quantized(torch.cat([x, x]))


def spike_steps(quantized):
    return {name: found.spike_step[: found.active_steps].tolist() for name, found in quantized.layers.items()}


def test_a_recurrent_layer_lives_though_its_first_input_is_zero():
    torch.manual_seed(0)
    x = torch.rand(8, 32, 8) * 4
    quantized = quantized_network(Feedback(), x)
    fed = []
    quantized.network.back.register_forward_hook(lambda module, args, output: fed.append(output.abs().max().item()))
    quantized(x)
    assert fed[0] == 0
    assert max(fed) > 0.1


def test_no_step_size_is_set_by_silence():
    torch.manual_seed(0)
    quantized = quantized_network(Feedback(), torch.rand(8, 32, 8) * 4)
    assert all(step > 1e-3 for steps in spike_steps(quantized).values() for step in steps)


def test_a_step_stays_open_until_something_comes_in():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4))
    converted = convert(network, {"0": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1)})
    for dark in (torch.zeros(3, 4), torch.zeros(0, 4), -torch.rand(3, 4)):
        converted(dark)
        assert not converted[0].spike_step_bits.any()
    x = torch.rand(64, 4)
    converted(x)
    assert converted[0].spike_step.item() == pytest.approx(x.max().item() / 255, rel=0.05)


@pytest.mark.parametrize("loop", [None, "frames", "shared", "same"])
def test_a_silent_input_gives_the_bias(loop):
    frames = 2 if loop == "frames" else None
    plan = LayerPlan(weight_bits=8, spike_bits=(8, 8), time_steps=2, frames=frames, loop=loop)
    converted = convert(nn.Sequential(nn.Linear(4, 3)), {"0": plan})
    assert torch.equal(converted(torch.zeros(2, 4)), converted[0].bias.expand(2, 3))


class Unrolled(nn.Module):
    """A convolution at several places, whose inputs grow."""

    def __init__(self, depth=6, channels=8):
        super().__init__()
        torch.manual_seed(0)
        self.depth, self.act = depth, nn.ReLU()
        self.stem, self.again = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels, 10)
        self.again.weight.data *= 3

    def forward(self, x):
        x = self.act(self.stem(x))
        for _ in range(self.depth):
            x = x + self.act(self.again(x))
        return self.head(x.mean((2, 3)))


def unrolled():
    """(network, its quantized twin, inputs)."""
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = Unrolled().eval()
    quantized = bitsearch.quantize(network, x[:32], start=WIDE, first_layer=FIRST).eval()
    quantized(x)
    return network, quantized, x


def test_a_layer_at_several_places_has_one_step_for_all_of_them():
    _, quantized, x = unrolled()
    largest = []
    quantized.network.again.register_forward_pre_hook(lambda module, args: largest.append(args[0].max().item()))
    quantized(x)
    assert largest == sorted(largest)
    clipped = quantized.layers["again"].spike_step[0].item() * 255
    assert clipped > 0.8 * largest[-1]


def test_a_layer_at_several_places_is_as_precise_as_any():
    network, quantized, x = unrolled()
    error = (network(x) - quantized(x)).norm() / network(x).norm()
    # 0.010; where the first place sets the step, 0.75.
    assert error < 0.02


def test_a_later_pass_does_not_move_the_step_of_several_places():
    _, quantized, x = unrolled()
    before = quantized.layers["again"].spike_step.clone()
    quantized(3 * x)
    assert torch.equal(quantized.layers["again"].spike_step, before)


def test_new_bits_of_a_layer_at_several_places_get_a_step_from_all_of_them():
    _, quantized, x = unrolled()
    plans = quantized.layer_plans
    quantized.fix(plans | {"again": plans["again"].with_bits(8, (4,) * T)})
    largest = []
    quantized.network.again.register_forward_pre_hook(lambda module, args: largest.append(args[0].max().item()))
    quantized(x)
    assert quantized.layers["again"].spike_step[0].item() * 15 > 0.5 * largest[-1]


def test_places_may_have_inputs_of_different_sizes():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.again = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            for _ in range(3):
                x = torch.relu(self.again(x))[:, :, ::2, ::2]
            return self.head(x.mean((2, 3)))

    network, x = Pyramid().eval(), torch.rand(16, 1, 8, 8)
    quantized = bitsearch.quantize(network, x, start=WIDE, first_layer=FIRST).eval()
    quantized(x)
    error = (network(x) - quantized(x)).norm() / network(x).norm()
    assert error < 0.02


def shared_layer(loop):
    torch.manual_seed(0)
    plan = LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, loop=loop)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 3)

        def forward(self, *inputs):
            return [self.a(x) for x in inputs]

    return convert(Net(), {"a": plan}).eval()


def test_the_same_input_is_computed_once():
    converted, x = shared_layer("same"), torch.rand(2, 4)
    converted(x)
    computed = []
    converted.a.observer = lambda *operands: computed.append(operands)
    one, other = converted(x, x.clone())
    assert torch.equal(one, other)
    assert len(computed) == 1


def test_an_input_that_is_not_the_same_is_computed_anew():
    converted, plain = shared_layer("same"), shared_layer(None)
    x, y = torch.rand(2, 4), torch.rand(2, 4)
    for network in (converted, plain):
        network(x)
    for found, wanted in zip(converted(x, y, x), plain(x, y, x), strict=True):
        assert torch.equal(found, wanted)


def test_an_input_that_is_changed_in_place_is_computed_anew():
    converted, x = shared_layer("same"), torch.rand(2, 4)
    converted(x)
    one = converted.a(x)
    x.mul_(0.5)
    other = converted.a(x)
    assert not torch.equal(one, other)


def test_a_result_that_is_changed_in_place_does_not_come_back():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.lif, self.b = nn.Linear(4, 4), neuron.IFNode(), nn.Linear(4, 2)

        def forward(self, x):
            return sum(self.b(self.lif(self.a(x).mul_(2.0).add_(1.0))) for _ in range(T))

    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    quantized = bitsearch.quantize(Net(), x, start=WIDE, first_layer=FIRST).eval()
    seen = []
    with torch.no_grad():
        quantized(x)
        quantized.network.lif.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
        quantized(x)
    assert all(torch.equal(current, seen[0]) for current in seen)


def test_a_weight_that_learns_between_passes_is_seen():
    for loop in ("same", "shared", None):
        converted, x = shared_layer(loop), torch.rand(2, 4)
        before = converted(x)[0].clone()
        converted.a.weight.data.neg_()
        converted.a.bias.data.neg_()
        torch.testing.assert_close(converted(x)[0], -before, rtol=1e-5, atol=1e-6)


def test_dropout_in_front_of_a_layer_in_a_static_loop_is_drawn_each_time():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.drop, self.a, self.lif, self.b = nn.Dropout(0.5), nn.Linear(64, 8), neuron.IFNode(), nn.Linear(8, 2)

        def forward(self, x):
            return sum(self.b(self.lif(self.a(self.drop(x)))) for _ in range(T))

    x = torch.rand(4, 64)
    quantized = bitsearch.quantize(Net(), x)
    assert quantized.layer_plans["a"].loop == "same"
    results = []
    quantized.network.a.register_forward_hook(lambda module, args, output: results.append(output))
    quantized.train()(x)
    assert not torch.equal(results[0], results[1])


class StaticLoop(nn.Module):
    """A still image, once a time step."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return sum(self.net(x) for _ in range(T)) / T


def static_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), neuron.IFNode(), nn.Linear(8, 8), neuron.IFNode(), nn.Linear(8, 3)).double()


class StaticSequence(nn.Module):
    """A still image, repeated, in one call."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        functional.set_step_mode(net, "m")

    def forward(self, x):
        return self.net(x.unsqueeze(0).repeat(T, 1, 1)).mean(0)


def test_a_still_image_in_a_loop_gives_what_its_sequence_gives():
    x, net = frames(5, 6)[0], static_net()
    sequence = copy.deepcopy(net)
    one = FirstLayer(weight_bits=8, spike_bits=8, time_steps=1)
    loop = quantized_network(StaticLoop(net), x, time_axis=False, first_layer=one)
    whole = quantized_network(StaticSequence(sequence), x, time_axis=False, first_layer=one)
    assert [layer.macs for layer in loop.model.layers] == [layer.macs for layer in whole.model.layers]
    torch.testing.assert_close(loop(x), whole(x), rtol=FLOAT64, atol=FLOAT64)


def test_two_passes_over_a_still_image_are_equal():
    x = frames(5, 6)[0]
    quantized = quantized_network(StaticLoop(static_net()), x, time_axis=False)
    assert torch.equal(quantized(x), quantized(x))


def test_a_neuron_that_stays_is_reset_by_the_user():
    network, x = networks()["loop"]
    network.net.add_module("readout", neuron.IFNode())
    quantized = quantized_network(network, x)
    functional.reset_net(quantized)
    wanted = quantized(x)
    functional.reset_net(quantized)
    assert torch.equal(quantized(x), wanted)


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(layer.Linear(8, 16), neuron.ParametricLIFNode(init_tau=3.0), layer.Linear(16, 4))
        functional.set_step_mode(self.net, "m")

    def forward(self, x):
        return self.net(x)


def rebuilt(tmp_path):
    """(trained and quantized, rebuilt from its plan and weights as evaluate does, inputs)."""
    trained, x = Learned(), 4 * torch.rand(4, 32, 8, generator=torch.Generator().manual_seed(1))
    # What training made of it: a time constant of two.
    trained.net[1].w.data.fill_(0.0)
    quantized = bitsearch.quantize(trained, x, time_axis=True).eval()
    quantized.fix(quantized.layer_plans)
    quantized(x)
    save_weights(quantized.network, tmp_path / "weights.safetensors")
    again = convert(Learned(), quantized.layer_plans).eval()
    load_weights(again, tmp_path / "weights.safetensors")
    return quantized, again, x


def test_a_learned_time_constant_is_rebuilt(tmp_path):
    quantized, again, _ = rebuilt(tmp_path)
    assert again.net[1].gain.item() == quantized.network.net[1].gain.item() == 0.5


def test_a_learned_time_constant_gives_the_same_logits(tmp_path):
    quantized, again, x = rebuilt(tmp_path)
    assert torch.equal(quantized(x), again(x))


def test_a_learned_decay_is_in_the_plan(tmp_path):
    quantized, again, _ = rebuilt(tmp_path)
    assert quantized.layer_plans["net.2"].decay == again.net[2].decay == 0.5


@pytest.mark.parametrize("name", ["loop", "recurrent"])
def test_a_loop_is_rebuilt_from_its_plan_and_weights(name, tmp_path):
    network, x = networks()[name]
    quantized = quantized_network(network, x)
    quantized.fix(quantized.layer_plans)
    quantized(x)
    save_weights(quantized.network, tmp_path / "weights.safetensors")
    again = convert(networks()[name][0], quantized.layer_plans).eval()
    load_weights(again, tmp_path / "weights.safetensors")
    assert torch.equal(quantized(x), again(x))


def plan_of(quantized):
    return BitPlan(
        space="s",
        network="n",
        budget=(),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={}),
        layers=quantized.layer_plans,
        costs={},
        accuracy=Accuracy(),
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command=""),
    )


@pytest.mark.parametrize("name", networks())
def test_loops_and_neurons_are_written_and_read(name):
    network, x = networks()[name]
    plan = plan_of(quantized_network(network, x))
    assert BitPlan.from_json(plan.to_json()) == plan


def without(plan, *fields):
    """As an earlier version wrote it."""
    layers = {
        name: LayerPlan.model_validate(found.model_dump(exclude=set(fields))) for name, found in plan.layers.items()
    }
    return plan.model_copy(update={"layers": layers})


def test_an_old_plan_takes_the_neurons_registered_in_front():
    network, x = networks()["whole"]
    plan = plan_of(quantized_network(network, x))
    old = without(plan, "neurons", "loop", "in_place")
    assert "neurons" not in old.to_json()
    converted = bitsearch.apply(BitPlan.from_json(old.to_json()), network)
    assert [type(converted.net[index]) for index in (2, 5)] == [InputCurrent, InputCurrent]


def test_an_old_plan_leaves_neurons_behind_the_last_layer():
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4), neuron.IFNode())
    plan = LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1)
    converted = convert(network, {"0": plan, "2": plan})
    assert [type(converted[index]) for index in (1, 3)] == [InputCurrent, neuron.IFNode]


def test_a_new_plan_takes_the_neurons_that_it_names():
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4), neuron.IFNode())
    plan = LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, neurons=())
    converted = convert(network, {"0": plan, "2": plan.model_copy(update={"neurons": ("3",)})})
    assert [type(converted[index]) for index in (1, 3)] == [neuron.IFNode, InputCurrent]


def test_a_plan_without_a_loop_has_none():
    assert LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1).loop is None


@pytest.mark.parametrize("name", ["gone", "0", "1.surrogate_function"])
def test_a_plan_that_names_a_neuron_the_network_lacks_is_refused_in_one_line(name):
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4))
    plan = LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, neurons=())
    with pytest.raises(InputError, match=f"the plan names a neuron '{name}' that the network does not have") as caught:
        convert(network, {"0": plan, "2": plan.model_copy(update={"neurons": (name,)})})
    assert len(str(caught.value).splitlines()) == 1


def test_a_refused_plan_leaves_the_network_as_it_was():
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4))
    plan = LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, neurons=("gone",))
    with pytest.raises(InputError):
        convert(network, {"2": plan})
    assert [type(module) for module in network] == [layer.Linear, neuron.IFNode, layer.Linear]


def test_a_loop_that_is_none_of_the_three_is_refused():
    with pytest.raises(ValueError, match="loop"):
        LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, loop="often")


def test_a_loop_over_frames_has_a_step_a_frame():
    with pytest.raises(ValueError, match="time_steps is 2, but the layer is called for 4 frames"):
        LayerPlan(weight_bits=8, spike_bits=(8, 8), time_steps=2, frames=4, loop="frames")


def test_spikes_of_a_loop_are_counted_like_those_of_its_twin():
    net, x = parts(), frames(3, 2, 8, 8)
    loop, whole = (bitsearch.measure_activity(quantized_network(kind(net), x), x) for kind in (Loop, Whole))
    assert loop == whole
    assert all(0 < rate < 1 for rate in list(loop.synaptic_rate.values())[1:])
