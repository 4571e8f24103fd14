"""Every search space that comes with bitsearch: its network is built and run on inputs of its data's true shape."""

import pytest
import torch

from bitsearch.models import NETWORKS, make_network
from bitsearch.space import SearchSpace, shipped_spaces

DATA = {
    "digits": ((1, 8, 8), 10),
    "digits_events": ((2, 12, 12), 10),
    "image_folder": ((3, 32, 32), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion_mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "imagenet": ((3, 224, 224), 1000),
    "n_mnist": ((2, 34, 34), 10),
    "cifar10_dvs": ((2, 128, 128), 10),
    "dvs128_gesture": ((2, 128, 128), 11),
    "n_caltech101": ((2, 180, 240), 101),
    "shd": ((700,), 20),
    "fsdd": ((32,), 10),
}
"""Published shape of an image, or of one frame of event data, and number of classes."""

EVENTS = {"digits_events", "n_mnist", "cifar10_dvs", "dvs128_gesture", "n_caltech101", "shd", "fsdd"}

SPACES = {name: SearchSpace.load(name) for name in shipped_spaces()}


def frame_shape(space):
    shape, _ = DATA[space.data]
    size = space.data_options.get("size")
    return shape if size is None or len(shape) == 1 else (shape[0], size, size)


def test_the_published_settings_are_shipped():
    pairs = {(space.data, space.network) for space in SPACES.values()}
    assert pairs >= {
        ("cifar10", "resnet18_cifar"),
        ("cifar100", "resnet18_cifar"),
        ("cifar10", "spikformer_cifar"),
        ("cifar10_dvs", "vggsnn"),
        ("cifar10_dvs", "resnet19_dvs"),
        ("dvs128_gesture", "vggsnn"),
        ("n_caltech101", "vggsnn"),
        ("n_mnist", "digits_events_cnn"),
        ("shd", "shd_mlp"),
        ("imagenet", "sew_resnet34"),
        ("imagenet", "resnet18"),
    }


@pytest.mark.parametrize("name", SPACES)
@torch.no_grad()
def test_the_network_runs_on_the_datas_true_shape(name):
    space = SPACES[name]
    assert space.network in NETWORKS
    shape, classes = frame_shape(space), DATA[space.data][1]
    torch.manual_seed(0)
    if space.data in EVENTS:
        network = make_network(space.network, space.network_options, input_shape=(2, *shape), classes=classes)
        assert network(torch.rand(2, 2, *shape)).shape == (2, 2, classes)
        return
    if space.data == "imagenet":
        # Its pooling takes any size; a smaller image is enough to run every layer.
        shape = (3, 64, 64)
    network = make_network(space.network, space.network_options, input_shape=shape, classes=classes)
    logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", [name for name, space in SPACES.items() if space.data in EVENTS - {"digits_events"}])
def test_the_time_steps_of_event_data_are_its_frames(name):
    space = SPACES[name]
    frames = space.data_options["frames"]
    assert space.baseline.time_steps == space.first_layer.time_steps == frames
    # More steps than frames would have nothing to see.
    assert space.choices.time_steps.high == space.allocation.start.time_steps == frames


@pytest.mark.parametrize("name", [name for name, space in SPACES.items() if "root" in shipped_spaces()[name]])
def test_a_space_without_its_data_says_so_and_sets_no_root(name):
    space, text = SPACES[name], shipped_spaces()[name]
    assert "root" not in space.data_options
    assert "\n# root = " in text
    assert "root" in space.description
