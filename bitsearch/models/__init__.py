"""Networks by name. Each may take the data's input shape and number of classes, and its own options."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from bitsearch.errors import InputError
from bitsearch.models.digits_cnn import digits_cnn, digits_events_cnn
from bitsearch.models.resnet_cifar import resnet18_cifar, resnet19_dvs, resnet20
from bitsearch.models.shd_mlp import shd_mlp
from bitsearch.models.small_cnn import small_cnn
from bitsearch.models.spikformer import spikformer_cifar
from bitsearch.models.spiking_mlp import recurrent_spiking_mlp, spiking_mlp
from bitsearch.models.spiking_zoo import resnet18, resnet34, sew_resnet18, sew_resnet34, spiking_vgg11
from bitsearch.models.vggsnn import vggsnn
from bitsearch.network_inputs import InputShape
from bitsearch.registry import call, find_factory

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "digits_cnn": digits_cnn,
    "digits_events_cnn": digits_events_cnn,
    "small_cnn": small_cnn,
    "resnet20": resnet20,
    "resnet18_cifar": resnet18_cifar,
    "resnet19_dvs": resnet19_dvs,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "sew_resnet18": sew_resnet18,
    "sew_resnet34": sew_resnet34,
    "spiking_vgg11": spiking_vgg11,
    "vggsnn": vggsnn,
    "spikformer_cifar": spikformer_cifar,
    "shd_mlp": shd_mlp,
    "spiking_mlp": spiking_mlp,
    "recurrent_spiking_mlp": recurrent_spiking_mlp,
}


def make_network(name: str, options: Mapping[str, Any], *, input_shape: InputShape, classes: int) -> nn.Module:
    """A float network with fresh weights, from torch's global random generator.

    Args:
        name: a key of :data:`NETWORKS`, or ``package.module:name`` of a function or module class.
        options: keywords that it has to take.
        input_shape: of one input, or of each of several; it gets this where it takes a keyword of that name, as it does
            ``classes``.
        classes: of the data.

    Raises:
        InputError: no such network, options it does not take, or a factory that fails or returns no module.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    >>> network(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    factory = find_factory(name, NETWORKS, "network")
    if isinstance(factory, nn.Module):
        # Resetting its parameters would silently discard loaded weights and any initialization of the factory's.
        raise InputError(
            f"network {name!r} is a network already, so no seed can give it fresh weights; "
            f"give the class {type(factory).__name__}, or a function that makes one"
        )
    network = call(factory, name, options, "network", {"input_shape": input_shape, "classes": classes})
    if not isinstance(network, nn.Module):
        raise InputError(f"network {name!r} returned {type(network).__name__}; it must return a torch.nn.Module")
    return network


__all__ = ["NETWORKS", "make_network"]
