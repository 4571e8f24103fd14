import copy
from functools import partial

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bitsearch.layers import convert, quantized_layers
from bitsearch.layers.neurons.absorption import AbsorbedReLU
from bitsearch.learnable import quantize
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan, UniformBits

NETWORKS = {
    "resnet20": ("resnet20", {"width": 4}, (3, 16, 16)),
    "resnet18_cifar": ("resnet18_cifar", {"width": 4}, (3, 16, 16)),
    "digits_cnn": ("digits_cnn", {"width": 4}, (1, 8, 8)),
}


def plan_of(**options):
    return LayerPlan(weight_bits=4, spike_bits=(3, 3), time_steps=2, **options)


def converted(network, *names):
    """The network with these layers quantized, or all of them."""
    names = names or [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return convert(network, dict.fromkeys(names, plan_of()))


def relus(network):
    return {name for name, module in network.named_modules(remove_duplicate=False) if isinstance(module, nn.ReLU)}


def absorbed(network):
    return {name for name, module in network.named_modules() if isinstance(module, AbsorbedReLU)}


class Readers(TorchFunctionMode):
    """Runs a network on real tensors and notes which functions read what each ReLU returned."""

    def __init__(self, network, images):
        super().__init__()
        self.names, self.kept, self.readers = {}, [], {}
        for name in relus(network):
            network.get_submodule(name).register_forward_hook(partial(self._note, name))
        with torch.no_grad(), self:
            network(images)

    def _note(self, name, module, arguments, output):
        # Kept, so that no other tensor gets its id.
        self.kept.append(output)
        self.names[id(output)] = name
        self.readers.setdefault(name, set())

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor):
            for argument in arguments:
                if id(argument) in self.names:
                    self.readers[self.names[id(argument)]].add(function.__name__)
        return result


@pytest.mark.parametrize("name", NETWORKS)
def test_those_relus_go_that_only_convolutions_and_linear_layers_read(name):
    factory, options, shape = NETWORKS[name]
    network = make_network(factory, options, input_shape=shape, classes=10)
    images = torch.randn(2, *shape)
    readers = Readers(copy.deepcopy(network), images).readers
    assert set(readers) == relus(network)
    expected = {relu for relu, functions in readers.items() if functions and functions <= {"conv2d", "linear"}}
    quantized = quantize(network, images).network
    assert absorbed(quantized) == expected
    assert relus(quantized) == relus(network) - expected
    assert not absorbed(network)


def test_in_a_residual_network_those_before_an_identity_shortcut_and_the_pooling_stay():
    network = make_network("resnet20", {"width": 4}, input_shape=(3, 16, 16), classes=10)
    quantized = quantize(network, torch.randn(2, 3, 16, 16)).network
    assert relus(quantized) == {"relu", *(f"blocks.{block}.relu2" for block in (0, 1, 3, 4, 6, 7, 8))}
    assert absorbed(quantized) == {
        "blocks.2.relu2",
        "blocks.5.relu2",
        *(f"blocks.{block}.relu1" for block in range(9)),
    }


def gradients(network, images, labels):
    images = images.clone().requires_grad_()
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {"loss": loss.detach(), "images": images.grad, **found}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_those_of_the_network_with_its_relus(name, seed):
    factory, options, shape = NETWORKS[name]
    torch.manual_seed(seed)
    network = make_network(factory, options, input_shape=shape, classes=10)
    images, labels = torch.randn(8, *shape), torch.randint(10, (8,))
    without = quantize(network, images, start=UniformBits(weight_bits=4, spike_bits=2, time_steps=1 + seed))
    kept = copy.deepcopy(without)
    for path in absorbed(kept.network):
        parent, _, child = path.rpartition(".")
        setattr(kept.network.get_submodule(parent), child, nn.ReLU())
    assert relus(kept.network) == relus(network)
    for left_out, stays in zip(
        gradients(without, images, labels).items(), gradients(kept, images, labels).items(), strict=True
    ):
        assert left_out[0] == stays[0]
        assert torch.equal(left_out[1], stays[1]), left_out[0]
    # Steps were renewed on the first batch, from inputs that are negative in the one and clipped in the other.
    for one, other in zip(without.state_dict().items(), kept.state_dict().items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1]), one[0]
    assert torch.equal(without.eval()(images), kept.eval()(images))
    layers = zip(without.layers.values(), kept.layers.values(), strict=True)
    for one, other in layers:
        features = torch.randn(4, *([*one.weight.shape[1:2], 5, 5] if one.weight.dim() > 2 else [one.in_features]))
        if not one.signed_input:
            assert one.count_spikes(features) == other.count_spikes(features.relu())
            assert one.count_synops(features) == other.count_synops(features.relu())


def test_state_dict_keys_are_those_of_the_float_network_and_its_quantizers():
    network = make_network("resnet20", {"width": 4}, input_shape=(3, 16, 16), classes=10)
    quantized = quantize(network, torch.randn(2, 3, 16, 16)).network
    added = {
        f"{name}.{key}"
        for name, layer in quantized_layers(quantized).items()
        for key in layer.state_dict()
        if key not in ("weight", "bias")
    }
    assert [name for name in quantized.state_dict() if name not in added] == list(network.state_dict())


class Block(nn.Module):
    """A linear layer and what ``forward`` does with a ReLU before it."""

    def __init__(self, forward, relu=None):
        super().__init__()
        self.linear, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu = nn.ReLU() if relu is None else relu
        self.how, self.last, self.calls = forward, None, 0

    def forward(self, x):
        return self.how(self, x)


def read_twice(block, x):
    y = block.relu(x)
    return block.linear(y) + y


def shared(block, x):
    # Once before a quantized layer, once at the end.
    return block.relu(block.linear(block.relu(x)))


def read_in_evaluation(block, x):
    y = block.relu(x)
    return block.linear(y) if block.training else block.linear(y) + y


def read_in_training(block, x):
    y = block.relu(x)
    return block.linear(y) + y if block.training else block.linear(y)


def shortcut_around(block, x):
    x = x * 1.0
    return block.linear(block.relu(x)) + x


def branches(block, x):
    return block.linear(block.relu(x)) if x.sum() > 0 else block.other(x)


def counts(block, x):
    return block.linear(block.relu(x)) * len(x)


def float_reader(block, x):
    y = block.relu(x)
    return block.linear(y) + block.other(y)


def pooled(block, x):
    return block.linear(F.max_pool1d(block.relu(x), 1))


def returned(block, x):
    y = block.relu(x)
    return block.linear(y), y


class OwnReLU(nn.ReLU):
    pass


@pytest.mark.parametrize(
    ("forward", "relu"),
    [
        (read_twice, None),
        (shared, None),
        (read_in_evaluation, None),
        (read_in_training, None),
        (shortcut_around, nn.ReLU(inplace=True)),
        (branches, None),
        (counts, None),
        (float_reader, None),
        (pooled, None),
        (returned, None),
        (lambda block, x: block.linear(block.relu(x)), OwnReLU()),
        (lambda block, x: block.linear(block.relu(x)), nn.ReLU6()),
        (lambda block, x: block.linear(block.relu(x)), nn.LeakyReLU()),
    ],
    ids=[
        "read by an addition",
        "shared with a use that needs it",
        "read in evaluation only",
        "read in training only",
        "in place, its input read elsewhere",
        "control flow on data",
        "a length that symbols have not",
        "read by a float layer",
        "read by pooling",
        "returned",
        "a subclass",
        "ReLU6",
        "leaky",
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_relu_that_does_something_stays(forward, relu, training):
    torch.manual_seed(0)
    block = Block(forward, relu).train(training)
    quantized = convert(block, {"linear": plan_of()})
    assert type(quantized.relu) is type(block.relu)
    assert quantized.training == training
    x = torch.randn(5, 4)
    expected = copy.deepcopy(quantized)
    expected.relu = nn.Sequential(copy.deepcopy(block.relu))
    for one, other in zip(quantized(x.clone()), expected(x.clone()), strict=True):
        assert torch.equal(one, other)


def test_a_relu_shared_by_uses_that_all_clip_goes():
    block = Block(lambda block, x: block.other(block.relu(block.linear(block.relu(x)))))
    assert absorbed(converted(block)) == {"relu"}


@pytest.mark.parametrize("register", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
@pytest.mark.parametrize("where", ["0", "0.1", "1"])
def test_a_relu_that_somebody_watches_stays(register, where):
    # On the ReLU itself, on the block whose output it is, and on the layer whose input it is.
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 4))
    seen = []
    hook = getattr(network.get_submodule(where), f"register_{register}_hook")
    hook(lambda module, *values: seen.append(values))
    quantized = converted(network)
    assert not absorbed(quantized)
    assert seen == []
    quantized(torch.randn(3, 4, requires_grad=True)).sum().backward()
    assert len(seen) == 1


def test_a_signed_first_layer_keeps_the_relu_before_it():
    network = nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    quantized = convert(network, {"1": plan_of(signed_input=True), "3": plan_of()})
    assert relus(quantized) == {"0"}
    assert absorbed(quantized) == {"2"}


def test_of_a_network_quantized_in_part_only_the_relus_before_quantized_layers_go():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    assert absorbed(converted(network, "4")) == {"3"}


def test_nothing_of_the_search_for_relus_stays_in_the_network():
    def keeps(block, x):
        block.calls += 1
        block.last = x
        return block.linear(block.relu(x))

    block = Block(keeps)
    quantized = converted(block)
    assert absorbed(quantized) == {"relu"}
    for network in (block, quantized):
        assert network.last is None
        assert network.calls == 0
        assert network.training
    assert quantized.linear.weight.requires_grad


@pytest.mark.parametrize("nested", [False, True])
def test_a_spiking_neuron_of_spikingjelly_gets_no_symbols_as_its_state(nested):
    layers = [nn.Linear(4, 4), neuron.LIFNode(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)]
    network = nn.Sequential(nn.Sequential(*layers[:4]), layers[4]) if nested else nn.Sequential(*layers)
    quantized = converted(network)
    assert absorbed(quantized) == {"0.3" if nested else "3"}
    for module in [*network.modules(), *quantized.modules()]:
        if isinstance(module, neuron.LIFNode):
            assert module.v == 0
            assert list(module.memories()) == [0.0]
    quantized(torch.rand(3, 4)).sum().backward()


def test_global_randomness_is_left_alone_by_tracing():
    network = Block(lambda block, x: block.linear(F.dropout(block.relu(x), training=block.training)))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    converted(network)
    assert torch.equal(torch.get_rng_state(), before)


def test_on_a_time_axis_a_relu_stays_since_a_membrane_integrates_what_is_negative():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    plans = {
        name: LayerPlan(weight_bits=8, spike_bits=(8, 8), time_steps=2, signed_input=name == "0", frames=2)
        for name in ("0", "2")
    }
    converted = convert(network, plans)
    assert type(converted[1]) is nn.ReLU
    x = torch.randn(2, 7, 3)
    # A membrane that were rectified would be off by as much as it is itself.
    hidden = converted[0](x)
    assert hidden.min() < 0
    assert torch.equal(converted(x), converted[2](hidden.clamp_min(0)))
    assert not torch.equal(converted(x), converted[2](hidden))
