import pytest
import torch
from spikingjelly.activation_based.neuron import IFNode
from torch import nn

from bitsearch.errors import InputError
from bitsearch.models import make_network
from bitsearch.models.digits_cnn import digits_cnn, digits_events_cnn


def test_logits_and_layer_names():
    network = digits_cnn()
    assert network(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert layers == ["conv1", "conv2", "conv3", "conv4", "classifier"]


@pytest.mark.parametrize(("shape", "classes", "width"), [((3, 8, 8), 4, 2), ((2, 16, 12), 7, 5)])
def test_other_inputs_classes_and_widths(shape, classes, width):
    network = digits_cnn(input_shape=shape, classes=classes, width=width)
    assert network(torch.rand(2, *shape)).shape == (2, classes)
    widths = [module.out_channels for module in network if isinstance(module, nn.Conv2d)]
    assert widths == [width, 2 * width, 2 * width, 4 * width]


def test_the_second_and_fourth_convolution_halve_the_image():
    network = digits_cnn()
    x, sides = torch.rand(1, 1, 8, 8), []
    for module in network:
        x = module(x)
        if isinstance(module, nn.Conv2d):
            sides.append(x.shape[-1])
    assert sides == [8, 4, 4, 2]


def test_every_convolution_is_followed_by_batch_norm_and_relu_and_has_no_bias():
    modules = list(digits_cnn())
    for number in range(4):
        convolution, norm, relu = modules[3 * number : 3 * number + 3]
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.bias is None
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(relu, nn.ReLU)


@pytest.mark.parametrize("side", [8, 9, 16, 34])
def test_frames_of_any_size(side):
    network = digits_events_cnn(input_shape=(3, 2, side, side), width=2)
    assert network(torch.rand(3, 5, 2, side, side)).shape == (3, 5, 10)
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert names == ["conv1", "conv2", "conv3", "conv4", "classifier"]


def test_integrate_and_fire_neurons_stand_in_place_of_the_relus():
    modules = list(digits_events_cnn(width=2, neuron="if"))
    assert not any(isinstance(module, nn.ReLU) for module in modules)
    for number in range(4):
        assert isinstance(modules[3 * number + 2], IFNode)
        # NIR's files say a soft reset.
        assert modules[3 * number + 2].v_reset is None
    with pytest.raises(InputError, match="network 'digits_events_cnn': neuron is 'lif'; allowed: relu, if"):
        digits_events_cnn(neuron="lif")


def test_make_network_passes_shape_classes_and_options():
    network = make_network("digits_cnn", {"width": 3}, input_shape=(2, 8, 8), classes=4)
    assert network.conv1.weight.shape == (3, 2, 3, 3)
    assert network.classifier.weight.shape == (4, 12)


def test_weights_come_from_torchs_generator():
    first, again = (
        make_network("digits_cnn", {}, input_shape=(1, 8, 8), classes=10).conv1.weight
        for _ in range(2)
        if torch.manual_seed(0) is not None
    )
    assert torch.equal(first, again)


def test_wrong_names_and_options_are_refused():
    with pytest.raises(InputError, match="no network named 'digits_cn'; known: digits_cnn"):
        make_network("digits_cn", {}, input_shape=(1, 8, 8), classes=10)
    with pytest.raises(InputError, match=r"network 'digits_cnn' does not take .*'depth': 9"):
        make_network("digits_cnn", {"depth": 9}, input_shape=(1, 8, 8), classes=10)


def test_a_users_own_network(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n"
        "def make(*, input_shape, classes, scale=1):\n"
        "    return nn.Linear(input_shape[0] * scale, classes)\n"
        "def wrong(*, input_shape, classes):\n"
        "    return 'a network'\n"
        "class Head(nn.Linear):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__(3, classes)\n"
        "network = Head(5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network = make_network("own_network:make", {"scale": 2}, input_shape=(3,), classes=5)
    assert network.weight.shape == (5, 6)
    assert make_network("own_network:Head", {}, input_shape=(3,), classes=4).weight.shape == (4, 3)
    assert make_network("torch.nn:Linear", {"in_features": 3, "out_features": 2}, input_shape=(3,), classes=2)
    with pytest.raises(InputError, match=r"'own_network:network' is a network already, .* give the class Head, or a"):
        make_network("own_network:network", {}, input_shape=(3,), classes=5)
    with pytest.raises(InputError, match=r"'own_network:wrong' returned str; it must return a torch\.nn\.Module"):
        make_network("own_network:wrong", {}, input_shape=(3,), classes=5)
