import copy
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import layer as spiking
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bitsearch.cost import CostModel
from bitsearch.cost.geometry import NEVER_CALLED
from bitsearch.cost.measurement import measure
from bitsearch.cost.tracing import trace
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits


def geometry(network, *shape):
    return trace(network, torch.rand(shape))


def only(network, *shape):
    (layer,) = geometry(network, *shape)
    return layer


def test_a_small_network_by_hand():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    first, second, third = geometry(network, 5, 1, 4, 4)
    assert [layer.name for layer in (first, second, third)] == ["0", "2", "4"]
    # 2 channels × 4×4 outputs, each 1 × 3×3 products.
    assert (first.macs, first.weights, first.inputs, first.outputs) == (2 * 16 * 9, 2 * 9, 16, 2)
    # 4 channels × 2×2 outputs, each 2 × 3×3 products.
    assert (second.macs, second.weights, second.inputs, second.outputs) == (4 * 4 * 18, 4 * 18, 32, 4)
    assert (third.macs, third.weights, third.inputs, third.outputs) == (16 * 3, 16 * 3, 16, 3)
    assert [layer.first for layer in (first, second, third)] == [True, False, False]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_size_does_not_matter(batch):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    # Whatever the inputs are, something comes to the second layer.
    nn.init.constant_(network[0].weight, 0.01)
    nn.init.constant_(network[0].bias, 1.0)
    assert geometry(network, batch, 1, 4, 4) == geometry(network, 1, 1, 4, 4)


def test_grouped_convolution():
    layer = only(nn.Conv2d(4, 8, 3, groups=4, padding=1), 2, 4, 5, 5)
    # Each output sees 4 / 4 = 1 input channel.
    assert (layer.macs, layer.weights, layer.inputs, layer.outputs) == (8 * 25 * 9, 8 * 9, 100, 8)


def test_depthwise_is_cheaper_than_dense_by_the_number_of_groups():
    dense = only(nn.Conv2d(6, 6, 3), 1, 6, 8, 8)
    depthwise = only(nn.Conv2d(6, 6, 3, groups=6), 1, 6, 8, 8)
    assert dense.macs == 6 * depthwise.macs
    assert dense.weights == 6 * depthwise.weights


def test_strided_convolution():
    layer = only(nn.Conv2d(3, 5, 3, stride=2, padding=1), 1, 3, 9, 9)
    # (9 + 2 − 3) / 2 + 1 = 5 outputs a side.
    assert layer.macs == 5 * 5 * 5 * 3 * 9


def test_dilated_convolution():
    layer = only(nn.Conv2d(3, 5, 3, dilation=2), 1, 3, 9, 9)
    # 9 − 2·2 = 5 outputs a side, still 3×3 products.
    assert layer.macs == 5 * 5 * 5 * 3 * 9


def test_kernel_image_stride_and_padding_that_are_not_square():
    layer = only(nn.Conv2d(2, 3, (1, 5), stride=(1, 2), padding=(0, 2)), 1, 2, 4, 10)
    # 4 rows, (10 + 4 − 5) / 2 + 1 = 5 columns.
    assert (layer.macs, layer.weights, layer.inputs) == (3 * 4 * 5 * 2 * 5, 3 * 2 * 5, 80)


def test_one_dimensional_convolution():
    layer = only(nn.Conv1d(4, 6, 3, groups=2, stride=3), 2, 4, 11)
    # (11 − 3) / 3 + 1 = 3 outputs, each 2 × 3 products.
    assert (layer.macs, layer.weights, layer.inputs, layer.outputs) == (6 * 3 * 2 * 3, 36, 44, 6)


def test_three_dimensional_convolution():
    layer = only(nn.Conv3d(1, 2, 2), 1, 1, 3, 4, 5)
    assert (layer.macs, layer.weights) == (2 * 2 * 3 * 4 * 8, 16)


def test_padding_is_multiplied_as_well():
    layer = only(nn.Conv2d(1, 1, 3, padding=1), 1, 1, 2, 2)
    # 4 outputs, 9 products each, of which 5 are with a zero at the edge.
    assert layer.macs == 4 * 9


def test_linear_on_a_sequence_counts_every_token():
    layer = only(nn.Linear(6, 4), 3, 5, 6)
    assert (layer.macs, layer.weights, layer.inputs, layer.outputs) == (5 * 6 * 4, 24, 30, 4)


def test_a_bias_does_not_count():
    assert only(nn.Linear(6, 4, bias=True), 1, 6) == only(nn.Linear(6, 4, bias=False), 1, 6)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.late = nn.Linear(4, 4)
        self.early = nn.Linear(4, 4)

    def forward(self, x):
        return self.late(-self.early(x).abs()) + self.early(x / 2)


def test_a_module_used_twice_counts_twice_in_the_order_of_its_first_call():
    early, late = geometry(Twice(), 2, 4)
    assert (early.name, early.first) == ("early", True)
    assert (late.name, late.first) == ("late", False)
    assert (early.macs, early.weights, early.inputs, early.outputs) == (2 * 16, 16, 8, 4)
    assert (late.macs, late.weights, late.inputs, late.outputs) == (16, 16, 4, 4)


def test_signed_inputs_are_seen():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    first, second = trace(network, torch.tensor([[-1.0, 1, 1, 1]]))
    assert first.signed_input
    assert not second.signed_input
    assert not trace(network, torch.zeros(1, 4))[0].signed_input


def test_a_module_whose_second_input_alone_is_signed():
    class Signed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) + self.layer(-x)

    (layer,) = trace(Signed(), torch.ones(1, 4))
    assert layer.signed_input


def test_names_choose_the_layers():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(3, 2))
    layers = trace(network, torch.rand(1, 4), ["2", "1"])
    assert [layer.name for layer in layers] == ["1", "2"]
    assert [layer.first for layer in layers] == [True, False]


def test_nested_modules_are_named_by_their_path():
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.ModuleDict({"unused": nn.Linear(4, 4)})["unused"])
    assert [layer.name for layer in geometry(network, 1, 4)] == ["0.0", "1"]


def test_mode_weights_buffers_and_hooks_are_left_as_they_were():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(0.5), nn.Flatten()), nn.Linear(8, 2)
    )
    network.train()
    network[2].eval()
    modes = [module.training for module in network.modules()]
    before = copy.deepcopy(network.state_dict())
    geometry(network, 3, 1, 4, 4)
    assert [module.training for module in network.modules()] == modes
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_mode_and_hooks_are_put_back_after_a_failure():
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(5, 2)).train()
    with pytest.raises(InputError):
        geometry(network, 1, 4)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_an_input_that_does_not_fit_names_its_shape():
    with pytest.raises(InputError, match=r"cannot run an input of shape \[1, 3\]"):
        geometry(nn.Linear(4, 4), 1, 3)


def test_a_network_without_layers_to_quantize_is_refused():
    with pytest.raises(InputError, match="no convolution or linear layer"):
        geometry(nn.Sequential(nn.Flatten(), nn.ReLU()), 1, 3)


class NamedArgument(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(input=x)


def test_a_layer_called_by_keyword_is_counted():
    assert only(NamedArgument(), 1, 4).macs == 8


def found(network, *inputs):
    """Geometry by name, of a network that may have nothing to quantize."""
    return {layer.name: layer for layer in measure(network, *inputs)}


def test_transposed_convolution():
    network = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    layer = found(network, torch.rand(2, 4, 5, 5))[""]
    # Along an axis, tap k of input i is at 2·i + k − 1 of 10: 5 inputs × 3 taps, less the one at −1.
    assert (layer.macs, layer.weights, layer.inputs, layer.outputs) == (4 * 3 * 14 * 14, 4 * 3 * 9, 100, 6)
    assert layer.fixed_reason is None


@pytest.mark.parametrize(
    ("network", "shape", "macs"),
    [
        (nn.ConvTranspose1d(2, 3, 4, stride=3, dilation=2), (2, 7), 2 * 7 * 3 * 4),
        (nn.ConvTranspose3d(2, 4, 2, groups=2), (2, 3, 3, 3), 2 * 27 * 2 * 8),
    ],
)
def test_transposed_convolutions_of_other_dimensions(network, shape, macs):
    assert found(network, torch.rand(3, *shape))[""].macs == macs


@st.composite
def convolutions(draw):
    """A convolution of any kind, and an input that it takes."""
    dimensions = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups = draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dimensions))

    stride, dilation = sizes(1, 3), sizes(1, 2)
    settings = {"stride": stride, "padding": sizes(0, 1), "dilation": dilation, "groups": groups}
    if transposed:
        settings["output_padding"] = tuple(
            draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True)
        )
    kinds = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d) if transposed else QUANTIZABLE_CONVOLUTIONS
    channels = [groups * draw(st.integers(1, 3)) for _ in range(2)]
    network = kinds[dimensions - 1](*channels, sizes(1, 3), bias=draw(st.booleans()), **settings)
    return network, torch.rand(draw(st.integers(1, 3)), channels[0], *sizes(5, 7))


QUANTIZABLE_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@given(convolutions())
def test_any_convolution_takes_the_products_that_torch_counts(case):
    network, x = case
    if network.transposed:
        # Torch counts what the padding crops as well.
        network.padding = network.output_padding = (0,) * len(network.padding)
    with FlopCounterMode(display=False) as counter:
        network(x)
    assert found(network, x)[""].macs * len(x) == counter.get_total_flops() // 2


@given(convolutions())
def test_a_convolution_takes_a_product_for_every_connection(case):
    network, x = case
    # With ones everywhere and nothing padded, an output is the number of products that it adds up.
    if not network.transposed:
        network.padding = (0,) * len(network.padding)
    nn.init.ones_(network.weight)
    network.bias = None
    assert found(network, x)[""].macs * len(x) == network(torch.ones_like(x)).sum()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.other = self.one
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.other(self.one(x)))


def test_a_shared_module_is_one_entry_with_every_call_and_its_weights_once():
    one, last = geometry(Shared(), 3, 4)
    assert (one.name, one.macs, one.weights, one.inputs) == ("one", 2 * 16, 16, 8)
    assert (last.name, last.macs, last.weights) == ("last", 8, 8)


def test_tied_weights_count_once():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    assert [(layer.macs, layer.weights) for layer in geometry(network, 1, 4)] == [(16, 16), (16, 16), (16, 0)]


def test_an_embedding_tied_to_the_output_layer():
    network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    network[1].weight = network[0].weight
    layers = found(network, torch.randint(9, (2, 5)))
    assert (layers["0"].weights, layers["0"].macs, layers["0"].inputs, layers["0"].first) == (36, 0, 0, True)
    assert (layers["1"].weights, layers["1"].macs, layers["1"].first) == (0, 5 * 36, False)
    assert layers["0"].fixed_reason == "Embedding cannot be given bits; no matrix products were seen in it"


def test_a_residual_add_takes_no_products():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) + x

    assert only(Residual(), 2, 4).macs == 16


def test_a_layer_that_never_runs_is_named_in_a_warning_and_stored():
    network = Twice()
    network.spare = nn.Linear(4, 4)
    network.blocks = nn.ModuleList([nn.ConvTranspose1d(2, 3, 4), nn.ReLU()])
    with pytest.warns(UserWarning, match=r"^never called, and kept at 32 bits: spare, blocks\.0$"):
        layers = geometry(network, 1, 4)
    assert [layer.name for layer in layers] == ["early", "late", "spare", "blocks.0"]
    spare = layers[2]
    assert (spare.macs, spare.weights, spare.inputs, spare.outputs) == (0, 16, 0, 4)
    assert (spare.fixed_reason, spare.first, spare.signed_input) == (NEVER_CALLED, False, False)


def test_a_lazy_layer_that_never_runs_is_named():
    network = nn.Sequential(nn.Linear(4, 3))
    network[0].register_module("spare", nn.LazyLinear(2))
    network.register_module("head", nn.Identity())
    network.head.register_module("lazy", nn.LazyConv2d(3, 3))
    network.head.forward = lambda x: x
    with pytest.raises(InputError, match=r"no shape yet: 0\.spare, head\.lazy; call it in forward\(\), or leave it"):
        trace(network, torch.rand(2, 4))


def test_a_lazy_layer_that_runs_is_a_layer():
    assert [layer.name for layer in trace(nn.Sequential(nn.LazyLinear(3)), torch.rand(2, 4)).layers] == ["0"]


def test_weights_used_without_a_call_are_not_taken_for_spare():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(nn.functional.linear(x, self.layer.weight))

    with pytest.warns(UserWarning, match=r"^kept at 32 bits: \(the network\), layer$"):
        last, network, layer = geometry(Functional(), 5, 4)
    assert (last.name, last.macs, last.fixed_reason) == ("last", 6, None)
    assert (network.name, network.macs, network.weights) == ("", 12, 0)
    assert network.fixed_reason == "matrix products outside of layers"
    assert (layer.name, layer.macs, layer.weights) == ("layer", 0, 12)
    assert layer.fixed_reason == "its weights are used without calling it"


def test_asking_for_a_weight_s_type_is_no_use_of_it():
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare = nn.Linear(4, 3)

        def forward(self, x):
            return x.to(self.spare.weight.dtype).reshape(-1, self.spare.weight.shape[1])

    assert found(Asking(), torch.rand(2, 4))["spare"].fixed_reason == NEVER_CALLED


def test_a_subclass_is_counted_and_kept():
    class Special(nn.Linear):
        pass

    network = nn.Sequential(Special(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    with pytest.warns(UserWarning, match="^kept at 32 bits: 0$"):
        special, last = geometry(network, 1, 4)
    assert (special.macs, special.weights, special.first) == (8, 8, True)
    assert special.fixed_reason is not None
    assert special.fixed_reason.startswith("a subclass of Linear (")
    assert last.fixed_reason is None


def test_a_network_of_subclasses_alone_is_refused_but_measured():
    class Special(nn.Linear):
        pass

    network = Special(4, 3)
    with pytest.raises(InputError, match=r"no convolution or linear layer .*: a subclass of Linear"):
        geometry(network, 2, 4)
    assert found(network, torch.rand(2, 4))[""].macs == 12


def test_products_of_a_subclass_beyond_its_layer_are_counted():
    class LowRank(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.down = nn.Linear(4, 1, bias=False)
            self.up = nn.Parameter(torch.rand(1, 4))

        def forward(self, x):
            return super().forward(x) + self.down(x) @ self.up + x @ x.new_ones(4, 4)

    layers = found(LowRank(), torch.rand(3, 4))
    assert (layers["down"].macs, layers["down"].fixed_reason) == (4, None)
    assert (layers[""].macs, layers[""].weights) == (16 + 4 + 16, 16 + 4)


def test_the_products_of_a_hook_belong_to_the_module_around_the_layer():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].register_forward_hook(lambda module, args, output: output @ torch.ones(4, 4))
    layers = found(network, torch.rand(3, 4))
    assert {name: layer.macs for name, layer in layers.items()} == {"0": 16, "1": 8, "": 16}


def test_weights_of_a_module_s_own():
    class Positioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.rand(1, 5, 4))
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return self.layer(x + self.position)

    layers = found(Positioned(), torch.rand(3, 5, 4))
    assert (layers[""].weights, layers[""].macs, layers[""].inputs, layers[""].outputs) == (20, 0, 0, 0)
    assert layers["layer"].first
    assert not layers[""].first


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_counts_its_projections_and_its_products(batch_first, need_weights):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

        def forward(self, x):
            x = x if batch_first else x.transpose(0, 1)
            return self.attention(x, x, x, need_weights=need_weights)[0]

    layers = found(Attention(), torch.rand(3, 5, 8))
    # Projections of 5 tokens to q, k, v and out; q·k and attention·v for every pair of tokens.
    attention = layers["attention"]
    assert (attention.macs, attention.weights) == (5 * 8 * 24 + 5 * 8 * 8 + 2 * 5 * 5 * 8, 8 * 24)
    assert attention.fixed_reason == "MultiheadAttention cannot be given bits"
    out = layers["attention.out_proj"]
    assert (out.macs, out.weights, out.fixed_reason) == (0, 64, "its weights are used without calling it")


def test_a_transformer_layer_hides_nothing_in_a_fused_kernel():
    fast = torch.backends.mha.get_fastpath_enabled()
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layers = found(network, torch.rand(3, 5, 8))
    assert sum(layer.macs for layer in layers.values()) == 5 * 8 * 32 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 16
    assert layers["linear1"].fixed_reason is None
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Sequence(nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x):
        return self.recurrent(x if self.recurrent.batch_first else x.transpose(0, 1))[0]


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers(kind, gates, batch_first):
    network = Sequence(kind(4, 6, num_layers=2, bidirectional=True, batch_first=batch_first))
    layer = found(network, torch.rand(3, 5, 4))["recurrent"]
    # Both directions of both layers; the second layer sees both directions of the first.
    weights = 2 * gates * 6 * (4 + 6) + 2 * gates * 6 * (12 + 6)
    assert (layer.macs, layer.weights, layer.outputs) == (5 * weights, weights, 2 * 2 * 2 * gates * 6)
    assert layer.fixed_reason == f"{kind.__name__} cannot be given bits"


def test_what_multiplies_without_a_matrix_product_says_so():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = nn.Bilinear(2, 3, 4)

        def forward(self, x):
            return self.pair(x[:, :2], x[:, 2:])

    layer = found(Pair(), torch.rand(3, 5))["pair"]
    assert (layer.macs, layer.weights) == (0, 24)
    assert layer.fixed_reason == "Bilinear cannot be given bits; no matrix products were seen in it"


@pytest.mark.parametrize(
    "product",
    [
        lambda x: torch.stack([torch.mv(torch.ones(2, 4), row) for row in x]),
        lambda x: torch.stack([torch.addmv(torch.ones(2), torch.ones(2, 4), row) for row in x]),
        lambda x: torch.stack([torch.dot(row, row) + torch.dot(row, row) for row in x]),
    ],
)
def test_products_with_vectors_are_counted(product):
    class Network(nn.Module):
        def forward(self, x):
            return product(x)

    assert found(Network(), torch.rand(3, 4))[""].macs == 8


def test_work_that_does_not_depend_on_the_batch_counts_whole():
    class Bias(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Linear(7, 4)
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) + self.table(x.new_ones(5, 7)).sum(0)

    for batch in (1, 2, 3):
        layers = found(Bias(), torch.rand(batch, 4))
        assert (layers["table"].macs, layers["layer"].macs) == (5 * 28, 16)


def test_windows_folded_into_the_batch_count_together():
    network = nn.Sequential(nn.Unflatten(1, (6, 4)), nn.Flatten(0, 1), nn.Linear(4, 2))
    assert only(network, 5, 24).macs == 6 * 8


@pytest.mark.parametrize("steps", [1, 3])
def test_multi_step_layers_count_one_input_and_one_time_step(steps):
    network = nn.Sequential(
        spiking.Conv2d(1, 2, 3, step_mode="m"),
        spiking.SeqToANNContainer(nn.Conv2d(2, 2, 2), nn.Flatten()),
        spiking.Linear(2, 3, step_mode="m"),
    )
    layers = found(network, torch.rand(steps, 2, 1, 4, 4))
    assert {name: layer.macs for name, layer in layers.items()} == {"0": 2 * 4 * 9, "1.0": 2 * 8, "2": 6}
    assert layers["1.0"].inputs == 8
    assert {layer.fixed_reason for layer in layers.values()} == {None}
    # A single frame is as good as a static input.
    assert {layer.frames for layer in layers.values()} == {steps if steps > 1 else None}


def test_a_loop_over_time_steps_counts_every_call():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return sum(self.layer(x * (t + 1)) for t in range(3))

    assert only(Loop(), 2, 4).macs == 3 * 8


def test_what_a_loop_computes_of_the_same_input_again_and_again_counts_once():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return sum(self.layer(x.clone()) for _ in range(3))

    layer = only(Loop(), 2, 4)
    assert (layer.macs, layer.inputs, layer.loop, layer.calls) == (8, 4, "same", 3)


def test_old_weight_norm_keeps_the_layer_s_geometry():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.utils.weight_norm(nn.Linear(4, 3))
    layer = only(network, 2, 4)
    assert (layer.macs, layer.weights, layer.fixed_reason) == (12, 12, None)


class InARow(nn.Module):
    """One layer, called eight times; a convolution, called on two sizes."""

    def __init__(self):
        super().__init__()
        self.first, self.linear, self.conv = nn.Linear(10, 16), nn.Linear(16, 16), nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        for _ in range(8):
            x = torch.relu(self.linear(x))
        halves = torch.relu(self.conv(x[:, None, :4])), torch.relu(self.conv(x[:, None]))
        return torch.cat(halves, 2)


def test_memory_of_a_layer_that_is_called_several_times_is_that_of_its_largest_call():
    layers = {layer.name: layer for layer in trace(InARow(), torch.rand(4, 10))}
    assert [(layer.calls, layer.inputs, layer.call_inputs) for layer in layers.values()] == [
        (1, 10, None),
        (8, 8 * 16, 16),
        (2, 4 + 16, 16),
    ]
    model = CostModel(list(layers.values()))
    plan = {name: LayerPlan(weight_bits=4, spike_bits=(3, 2), time_steps=2) for name in layers}
    # 32-bit currents and potentials of 16 neurons, and 5 bits of spikes for each.
    assert model.layer_costs("working_memory", plan)["linear"] == 16 * (4 + 4) + 16 * 5 / 8
    assert model.layer_costs("working_memory", plan)["conv"] == 16 * (4 + 4) + 16 * 5 / 8
    assert model.layer_costs("s_ace", plan)["linear"] == 8 * 16 * 16 * 4 * 5


class Mirror(nn.Module):
    """An autoencoder that decodes with the transposed weights of its encoder."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.code, self.inner = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.inner(torch.relu(self.code(x))))
        x = torch.relu(nn.functional.linear(x, self.inner.weight.t()))
        return nn.functional.linear(x, self.code.weight.t())


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
def test_a_weight_that_is_multiplied_outside_of_its_layer_is_stored_at_32_bits():
    layers = trace(Mirror(), torch.rand(5, 6))
    assert {layer.name: layer.weights for layer in layers} == {"code": 0, "inner": 0, "": 6 * 4 + 4 * 3}
    model = CostModel(layers)
    plan = model.uniform(UniformBits(weight_bits=2, spike_bits=4, time_steps=1), None)
    # Step sizes and channels of two layers, and the weights as float32.
    assert model.cost("weight_memory", plan) == (4 + 8 * 4) + (4 + 8 * 3) + 4 * 36


def test_a_weight_whose_norm_is_read_is_its_layers():
    class Bounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            return self.fc(x) / self.fc.weight.abs().sum()

    assert [layer.weights for layer in trace(Bounded(), torch.rand(5, 6))] == [24]
