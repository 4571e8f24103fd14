import copy

import pytest
import torch
from torch import nn

from bitsearch.cost.geometry import trace, unquantized
from bitsearch.errors import InputError


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
        return self.late(-self.early(x).abs()) + self.early(x)


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


def test_a_layer_that_never_runs_is_left_out():
    network = Twice()
    network.spare = nn.Linear(4, 4)
    assert [layer.name for layer in geometry(network, 1, 4)] == ["early", "late"]


def test_names_choose_the_layers():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(3, 2))
    layers = trace(network, torch.rand(1, 4), ["2", "1"])
    assert [layer.name for layer in layers] == ["1", "2"]
    assert [layer.first for layer in layers] == [True, False]


def test_nested_modules_are_named_by_their_path():
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.ModuleDict({"unused": nn.Linear(4, 4)})["unused"])
    assert [layer.name for layer in geometry(network, 1, 4)] == ["0.0", "1"]


def test_layers_that_cannot_be_given_bits_are_not_measured_but_listed():
    class Special(nn.Linear):
        pass

    network = nn.Sequential(Special(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 2), nn.Bilinear(1, 1, 1))
    with pytest.warns(UserWarning, match="not counted: 0$"):
        assert [layer.name for layer in trace(network[:3], torch.rand(1, 4))] == ["2"]
    assert unquantized(network) == ["0", "3"]


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
    with pytest.raises(InputError, match=r"cannot run an input of shape \(1, 3\)"):
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
