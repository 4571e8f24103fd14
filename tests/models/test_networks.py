"""Every network that has a name: what it returns, that it learns, and what it refuses."""

import pytest
import torch
from spikingjelly.activation_based import functional
from tolerances import FLOAT64
from torch import nn

from bitsearch.errors import InputError
from bitsearch.models import NETWORKS, make_network

SMALL = {
    "digits_cnn": (1, 8, 8),
    "digits_events_cnn": (2, 2, 9, 8),
    "small_cnn": (1, 8, 8),
    "resnet20": (3, 16, 16),
    "resnet18_cifar": (3, 8, 8),
    "resnet19_dvs": (2, 2, 8, 8),
    "resnet18": (3, 32, 32),
    "resnet34": (3, 32, 32),
    "sew_resnet18": (3, 32, 32),
    "sew_resnet34": (3, 32, 32),
    "spiking_vgg11": (3, 32, 32),
    "vggsnn": (2, 2, 16, 16),
    "spikformer_cifar": (3, 8, 8),
    "shd_mlp": (3, 70),
    "spiking_mlp": (3, 70),
    "recurrent_spiking_mlp": (3, 70),
}
"""A small input of every network."""

ANY_OF_TWO = [name for name in SMALL if name.startswith(("resnet", "sew", "spikformer", "spiking_vgg"))]
"""Networks for images and for frames alike."""

EVENTS_ONLY = ["digits_events_cnn", "vggsnn", "shd_mlp", "spiking_mlp", "recurrent_spiking_mlp"]


SPIKING = ["spiking_mlp", "recurrent_spiking_mlp"]
"""Networks whose neurons spike in full precision already."""


def batch(shape, size=4):
    """Random inputs, time first where there is a time axis."""
    inputs = torch.rand(size, *shape)
    return inputs if len(shape) == 3 else inputs.transpose(0, 1)


def mean_logits(network, inputs, shape):
    functional.reset_net(network)
    logits = network(inputs)
    return logits if len(shape) == 3 else logits.mean(0)


def test_the_small_inputs_are_those_of_all_networks():
    assert set(SMALL) == set(NETWORKS)


@pytest.mark.parametrize("name", SMALL)
def test_a_few_steps_fit_random_data(name):
    torch.manual_seed(0)
    shape, labels = SMALL[name], torch.arange(4) % 3
    network = make_network(name, {}, input_shape=shape, classes=3)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    # VGG's two widest layers would take seconds and gigabytes.
    learned = [parameter for parameter in network.parameters() if parameter.numel() < 1e7]
    optimizer = torch.optim.Adam(learned, lr=1e-3, fused=True)
    for parameter in set(network.parameters()) - set(learned):
        parameter.requires_grad_(False)
    inputs, losses = batch(shape), []
    for _ in range(3):
        logits = mean_logits(network, inputs, shape)
        assert logits.shape == (4, 3)
        loss = nn.functional.cross_entropy(logits, labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in learned)


@pytest.mark.parametrize("name", [name for name in SMALL if name not in SPIKING])
def test_every_activation_is_a_relu(name):
    with torch.device("meta"):
        network = make_network(name, {}, input_shape=SMALL[name], classes=3)
    assert any(type(module) is nn.ReLU for module in network.modules())
    assert not any(hasattr(module, "v_threshold") for module in network.modules())


@pytest.mark.parametrize("name", ANY_OF_TWO)
@torch.no_grad()
def test_frames_give_what_each_frame_alone_gives(name):
    shape = SMALL[name][-3:]
    torch.manual_seed(0)
    timed = make_network(name, {}, input_shape=(2, *shape), classes=5).eval()
    with torch.device("meta"):
        still = make_network(name, {}, input_shape=shape, classes=5).eval()
    still.load_state_dict(timed.double().state_dict(), assign=True)
    inputs = torch.rand(2, 3, *shape, dtype=torch.float64)
    assert still(inputs[0]).shape == (3, 5)
    expected = torch.stack([still(frame) for frame in inputs])
    torch.testing.assert_close(timed(inputs), expected, rtol=FLOAT64, atol=FLOAT64)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(), (32,), (2, 3, 4, 5, 6), (3, 0, 32)])
def test_a_shape_it_is_not_made_for_is_refused_in_one_line(name, shape):
    with pytest.raises(InputError) as caught:
        make_network(name, {}, input_shape=shape, classes=3)
    message = str(caught.value)
    assert message.startswith(f"network {name!r} takes inputs of shape (")
    assert f"given: {shape}" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("name", EVENTS_ONLY)
def test_a_network_for_events_refuses_images(name):
    with pytest.raises(InputError, match=r"takes inputs of shape \(T, .*; given: \(3, 32, 32\)"):
        make_network(name, {}, input_shape=(3, 32, 32), classes=3)


@pytest.mark.parametrize(("name", "least"), [("vggsnn", 16), ("spiking_vgg11", 32), ("spikformer_cifar", 4)])
def test_frames_too_small_for_the_poolings_are_refused(name, least):
    with pytest.raises(InputError, match=f"H and W at least {least}; given: "):
        make_network(name, {}, input_shape=(4, 2, least, least - 1), classes=3)


@pytest.mark.parametrize("name", ["digits_cnn", "resnet20", "resnet19_dvs", "vggsnn", "shd_mlp", "spikformer_cifar"])
@pytest.mark.parametrize("width", [0, -8, 2.0, True, "wide"])
def test_a_width_that_is_no_whole_number_is_refused(name, width):
    with pytest.raises(InputError, match=f"network '{name}': width is .*; give a whole number of at least 1"):
        make_network(name, {"width": width}, input_shape=SMALL[name], classes=3)
