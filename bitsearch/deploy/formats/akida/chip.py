"""What an AKD1000 has of the layers that Akida's first generation has.

Source: BrainChip, "Akida 1.0 hardware constraints", and the messages of its package; whether there are nodes and memory
enough, the package alone knows.
"""

from collections.abc import Sequence

from bitsearch.deploy.formats.akida.layers import AkidaLayer, AkidaNetwork, akida_network
from bitsearch.deploy.formats.akida.stages import refused
from bitsearch.deploy.integer.packed_file import PackedNetwork

KERNELS = (1, 3, 5, 7)
IMAGE_SIDES = (5, 256)
POOL_WINDOWS = (1, 2)


def chip_network(packed: PackedNetwork) -> AkidaNetwork:
    """The layers of a packed network; InputError as :func:`.akida_network`, and for what the chip does not run."""
    network = akida_network(packed)
    _check(network.layers)
    return network


def _check(layers: Sequence[AkidaLayer]) -> None:
    for layer, follower in zip(layers, [*layers[1:], None], strict=True):
        for reason in (_of_image(layer, follower), _of_convolution(layer), _of_pooling(layer, follower)):
            if reason is not None:
                raise refused(layer.name, f"{reason}, on an AKD1000")


def _of_image(layer: AkidaLayer, follower: AkidaLayer | None) -> str | None:
    if not layer.reads_image:
        return None
    least, most = IMAGE_SIDES
    height, width = layer.input_shape[1:]
    if follower is None:
        return "a convolution over images has activations and another layer behind it"
    if min(height, width) < least or width > most:
        return f"images have {least} pixels a side at least and {most} in a row at most, and its own {height}×{width}"
    return None


def _of_convolution(layer: AkidaLayer) -> str | None:
    if layer.reads_image or not layer.layer.kernel:
        return None
    kernel, stride = layer.layer.kernel[0], layer.layer.stride[0]
    if kernel not in KERNELS:
        return f"kernels have 1, 3, 5 or 7 pixels a side, and its own {kernel}"
    if stride != 1 and (stride, kernel) != (2, 3):
        return f"strides are 1, or 2 with a kernel of 3×3, and it has {stride} with {kernel}×{kernel}"
    return None


def _of_pooling(layer: AkidaLayer, follower: AkidaLayer | None) -> str | None:
    if layer.pool is None:
        return None
    window, stride = layer.pool.kernel[0], layer.pool.stride[0]
    if window not in POOL_WINDOWS or (layer.reads_image and stride != window):
        beside = ", side by side" if layer.reads_image else ""
        return f"max pooling has windows of 2×2{beside}, and the one behind it {window}×{window}, {stride} apart"
    if not layer.reads_image and (follower is None or not follower.layer.kernel):
        return "max pooling behind another convolution than the one over images needs a convolution to follow"
    return None
