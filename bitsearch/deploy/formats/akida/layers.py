"""A packed network in Akida's first-generation layers, and by name what none of them can express."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bitsearch.deploy.formats.akida.stages import Stage, refused, stages, windows
from bitsearch.deploy.formats.akida.steps import Activation, nearest_activation
from bitsearch.deploy.formats.akida.windows import Mode, common_modes
from bitsearch.deploy.integer.operations import AveragePool, MaxPool, Relu, Reshape, RunNeuron, Scale
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.deploy.integer.thresholds import SumThresholds, sum_thresholds
from bitsearch.quant.uniform import q_max

ACTIVATION_BITS = (1, 2, 4)
WEIGHT_BITS = (2, 4)
"""A weight of one bit is 0 or 1, and the plan's is −1 or 1, which takes two."""
IMAGE_BITS = 8
IMAGE_CHANNELS = (1, 3)
IMAGE_KERNELS = (3, 5, 7)


@dataclass(frozen=True)
class AkidaLayer:
    """One layer: a sum over integer weights, pooling, and the activation of it."""

    name: str
    """In the plan."""
    operation: str
    """That sums up."""
    layer: PackedLayer
    numbers: LayerNumbers
    """With the levels of channels turned round whose multiplier is negative, so that no activation falls."""
    weight_bits: int
    """8 for a layer that reads an image of bytes."""
    input_shape: tuple[int, ...]
    """That its weights read."""
    map_shape: tuple[int, int, int]
    """``[C, H, W]`` of the map that this is, before it is flattened."""
    pool: MaxPool | None
    averaged: bool
    """Whether the host averages the outputs over their map, of which Akida's own has to have three rows."""
    sender: str | None
    """The operation whose spikes its activations are; None of the last layer, which sends its sums."""
    exact: SumThresholds | None
    """The network's thresholds."""
    activation: Activation | None
    """The nearest that Akida has."""
    mode: Mode

    @property
    def reads_image(self) -> bool:
        """Whether it reads bytes."""
        return self.weight_bits == IMAGE_BITS

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a kernel of its own."""
        return self.layer.groups > 1

    @property
    def moved(self) -> npt.NDArray[np.int64]:
        """By how many units of a sum each threshold lies beside the network's, as far as sums come."""
        if self.exact is None or self.activation is None:
            return np.zeros((0, self.layer.outputs), np.int64)
        bound = self.exact.bound
        distance: npt.NDArray[np.int64] = np.clip(self.activation.levels, -bound, bound + 1) - self.exact.levels.numpy()
        return np.abs(distance)


@dataclass(frozen=True)
class AkidaNetwork:
    """Layers that run one after the other, on integers that the host makes of a sample."""

    layers: tuple[AkidaLayer, ...]
    encoder: str
    """The operation whose spikes these integers are."""
    input_bits: int
    offset: int
    """What is added to them so that none is below zero; an image is padded with it."""
    turned: bool
    """Whether images are turned by 180°."""


def akida_network(packed: PackedNetwork) -> AkidaNetwork:
    """The layers of a packed network.

    Raises:
        InputError: what Akida's first generation cannot express; names the layer and the reason.
    """
    program = packed.program
    encoder, chain = stages(packed)
    encoding: PackedLayer = program.layers[program.operations[encoder].layer]  # type: ignore[union-attr]  # of a layer
    layers = [_layer(packed, stage, encoding if stage is chain[0] else None) for stage in chain]
    choice = common_modes([windows(packed, stage) for stage in chain])
    if isinstance(choice, int):
        raise refused(
            layers[choice].name,
            "its windows are padded otherwise; pad (kernel − 1) / 2 where the stride is 1 or cuts the input into whole "
            "windows, as a kernel of 3 with a stride of 2 does an even side; nothing, in the first layer alone",
        )
    turned, modes = choice
    return AkidaNetwork(
        tuple(replace(layer, mode=mode) for layer, mode in zip(layers, modes, strict=True)),
        program.operations[encoder].name,
        encoding.spike_bits[0],
        q_max(encoding.spike_bits[0], signed=True) if encoding.signed else 0,
        turned,
    )


def _layer(packed: PackedNetwork, stage: Stage, encoding: PackedLayer | None) -> AkidaLayer:
    program = packed.program
    operation = program.operations[stage.weights]
    owner = operation.layer  # type: ignore[union-attr]  # a stage's operations are a layer's
    layer, numbers = program.layers[owner], packed.numbers[owner]
    shape = packed.analysis.operations[stage.weights].inputs[0].shape
    reads_image = encoding is not None and _check_input(owner, layer, shape, encoding)
    _check_geometry(owner, layer, shape)
    if layer.kernel and _map_shape(packed, stage, first=encoding is not None) != shape:
        raise refused(owner, "it reads a map that was reshaped")
    if layer.weight_bits > (IMAGE_BITS if reads_image else WEIGHT_BITS[-1]):
        raise refused(owner, f"it has weights of {layer.weight_bits} bits, and at most {WEIGHT_BITS[-1]} are")
    # Where nothing is multiplied, the channel is its bias, and its sum may be zero.
    signs = np.sign(numbers.multiplier).astype(np.int8)
    turned_round = replace(
        numbers,
        levels=numbers.levels * signs.reshape(-1, *[1] * (numbers.levels.ndim - 1)),
        multiplier=np.abs(numbers.multiplier),
    )
    pool = None if stage.pool is None else program.operations[stage.pool]
    sender, exact, activation = _activation(packed, stage)
    return AkidaLayer(
        owner,
        operation.name,
        layer,
        turned_round,
        IMAGE_BITS if reads_image else next(bits for bits in WEIGHT_BITS if bits >= layer.weight_bits),
        shape,
        _map_shape(packed, stage, first=encoding is not None),
        _checked_pool(pool) if isinstance(pool, MaxPool) else None,
        isinstance(pool, AveragePool),
        sender,
        exact,
        activation,
        "same",
    )


def _map_shape(packed: PackedNetwork, stage: Stage, *, first: bool) -> tuple[int, int, int]:
    """Of what a layer reads, as its maker has it; of the first layer, as the host gives it."""
    operations, index = packed.program.operations, stage.weights
    if not first:
        # Currents and spikes of a neuron are of one shape.
        while isinstance(operations[index - 1], Reshape | RunNeuron | Relu | Scale):
            index -= 1
    shape = packed.analysis.values[index].shape
    return (*shape, *[1] * (3 - len(shape)))  # type: ignore[return-value]  # three axes by now


def _activation(packed: PackedNetwork, stage: Stage) -> tuple[str | None, SumThresholds | None, Activation | None]:
    if stage.neuron is None:
        return None, None, None
    operation = packed.program.operations[stage.neuron]
    name: str = operation.layer  # type: ignore[union-attr]  # a stage's operations are a layer's
    layer = packed.program.layers[name]
    _check_neuron(name, layer)
    bits = layer.spike_bits[0]
    if layer.signed:
        raise refused(name, "it reads spikes of both signs, and activations are never below zero")
    if bits not in ACTIVATION_BITS or layer.q_max(0) != q_max(bits, signed=False):
        raise refused(
            name,
            f"it reads spikes of 0 … {layer.q_max(0)}, and activations have 1, 2 or 4 bits",
        )
    exact = sum_thresholds(packed, stage.weights, stage.between, stage.neuron)
    return operation.name, exact, nearest_activation(bits, exact.levels.numpy(), exact.bound)


def _check_neuron(name: str, layer: PackedLayer) -> None:
    if layer.time_steps > 1:
        raise refused(name, f"it has {layer.time_steps} time steps, and there is one; search with time_steps = 1")


def _check_input(name: str, layer: PackedLayer, shape: tuple[int, ...], encoding: PackedLayer) -> bool:
    """Whether the first layer reads an image of bytes."""
    _check_neuron(name, encoding)
    square = len(layer.kernel) == 2 and layer.kernel[0] in IMAGE_KERNELS
    if square and shape[0] in IMAGE_CHANNELS and layer.groups == 1:
        return True
    bits, sign = encoding.spike_bits[0], "both signs" if encoding.signed else "one sign"
    if encoding.signed or bits not in ACTIVATION_BITS:
        raise refused(
            name,
            f"it reads inputs of {bits} bits and {sign}, which only a convolution of 3×3, 5×5 or 7×7 over 1 or 3 "
            "channels does; others take 1, 2 or 4 bits that are never below zero",
        )
    return False


def _check_geometry(name: str, layer: PackedLayer, shape: tuple[int, ...]) -> None:
    axes = len(layer.kernel)
    if layer.output_padding is not None:
        raise refused(name, "it is a transposed convolution")
    if axes == 1 or (not axes and len(shape) > 1):
        raise refused(name, f"it works on {len(shape)} axes; flatten them, or convolve over two")
    if len({*layer.kernel}) > 1 or len({*layer.stride}) > 1 or set(layer.dilation) != {1}:
        raise refused(name, "its kernel is no square, or its strides differ, or it is dilated")
    if layer.groups > 1 and not layer.groups == layer.outputs == shape[0]:
        raise refused(name, "its channels are in groups; all together, or each alone, can be")


def _checked_pool(pool: MaxPool) -> MaxPool:
    if len({*pool.kernel}) > 1 or len({*pool.stride}) > 1 or set(pool.dilation) != {1}:
        raise refused(pool.name, "its window is no square, or its strides differ, or it is dilated")
    return pool
