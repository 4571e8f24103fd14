"""An Akida network as a model of BrainChip's package ``akida``, which a user has installed under its own licence."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitsearch.deploy.formats.akida.layers import AkidaLayer, AkidaNetwork
from bitsearch.deploy.formats.akida.replay import Replayed
from bitsearch.errors import InputError

Levels = npt.NDArray[np.int8]

_SCORE_STEP = 1 << 12
"""The least step of the last layer, whose sums ``predict`` divides by it: coarse steps keep sixteenths negligible."""


def akida_model(network: AkidaNetwork) -> Any:
    """The model: ``[N, H, W, C]`` uint8 to the last layer's sums, int32, by ``forward``.

    ``predict`` turns them into the network's outputs, up to one common factor and the rounding of its numbers.

    Raises:
        InputError: the package refuses a layer; with its reason.
    """
    import akida

    model = akida.Model()
    first = network.layers[0]
    if not first.reads_image:
        model.add(akida.InputData(_axes(first), input_bits=network.input_bits))
    for layer in network.layers:
        try:
            model.add(_layer(layer, network))
            _set_variables(model.layers[-1], layer, network)
        except (ValueError, RuntimeError, TypeError) as error:
            raise InputError(f"Akida refuses layer {layer.name!r}: {_one_line(error)}") from error
    return model


def nodes(model: Any) -> int:
    """Nodes of a virtual AKD1000 that the model is mapped onto, in one sequence; InputError where it is not."""
    import akida

    try:
        model.map(akida.AKD1000(), hw_only=True)
    except RuntimeError as error:
        raise InputError(f"Akida does not map the network onto an AKD1000: {_one_line(error)}") from error
    return sum(len(layer.mapping.nps) for layer in model.layers if layer.mapping is not None)


class AkidaRuns:
    """A network's activations and sums in Akida's software backend.

    Raises:
        InputError: as :func:`akida_model`.
    """

    def __init__(self, network: AkidaNetwork) -> None:
        import akida

        self._network, self.model = network, akida_model(network)
        layers = self.model.layers
        first = len(layers) - len(network.layers)
        # A model shows what its last layer sends.
        self._until = [akida.Model(layers=layers[: first + count + 1]) for count in range(len(network.layers) - 1)]

    def __call__(self, codes: Tensor) -> Replayed:
        """Of integers that the host makes of samples, ``[N, ...]``."""
        network, inputs = self._network, images(self._network, codes)
        activations = {
            layer.sender: self._results(layer, until.forward(inputs))
            for layer, until in zip(network.layers[:-1], self._until, strict=True)
            if layer.sender is not None
        }
        return Replayed(activations, self._results(network.layers[-1], self.model.forward(inputs)))

    def _results(self, layer: AkidaLayer, results: npt.NDArray[np.generic]) -> Tensor:
        """What a layer yields, ``[N, H, W, C]``, as a :class:`.Replayed` has it."""
        values = torch.from_numpy(results.astype(np.int64)).permute(0, 3, 1, 2)
        if not layer.layer.kernel:
            return values.flatten(1)
        return values.flip((-2, -1)) if self._network.turned else values


def images(network: AkidaNetwork, codes: Tensor) -> npt.NDArray[np.uint8]:
    """Integers that the host makes of samples, ``[N, ...]``, as the model's input."""
    shifted = (codes + network.offset).reshape(len(codes), *network.layers[0].map_shape)
    if network.turned:
        shifted = shifted.flip((-2, -1))
    return np.ascontiguousarray(shifted.permute(0, 2, 3, 1).numpy().astype(np.uint8))


def _one_line(error: Exception) -> str:
    """Its first line, and the next where that only announces it."""
    lines = [line.strip(" *") for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def _axes(layer: AkidaLayer) -> tuple[int, int, int]:
    channels, height, width = layer.map_shape
    return height, width, channels


def _layer(layer: AkidaLayer, network: AkidaNetwork) -> Any:
    import akida

    setting = {"name": layer.operation, "weights_bits": layer.weight_bits, "activation": layer.activation is not None}
    if layer.activation is not None:
        setting["act_bits"] = layer.activation.bits
    if not layer.layer.kernel:
        return akida.FullyConnected(layer.layer.outputs, **setting)
    if layer.pool is not None:
        setting |= {
            "pool_type": akida.PoolType.Max,
            "pool_size": layer.pool.kernel,
            "pool_stride": layer.pool.stride,
        }
    setting |= {
        "filters": layer.layer.outputs,
        "kernel_size": layer.layer.kernel,
        "kernel_stride": layer.layer.stride,
        "padding": akida.Padding.Same if layer.mode == "same" else akida.Padding.Valid,
    }
    if layer.reads_image:
        return akida.InputConvolutional(_axes(layer), padding_value=network.offset, **setting)
    return (akida.SeparableConvolutional if layer.depthwise else akida.Convolutional)(**setting)


def _set_variables(target: Any, layer: AkidaLayer, network: AkidaNetwork) -> None:
    levels = layer.numbers.levels
    target.set_variable("weights", _kernels(levels, layer, network) if layer.layer.kernel else _flat(layer, network))
    if layer.depthwise:
        target.set_variable("weights_pw", np.eye(layer.layer.outputs, dtype=np.int8)[None, None])
    # Every weight, one that meets padding too, has taken the offset with its input.
    sums = levels.reshape(len(levels), -1).astype(np.int64).sum(1)
    shift = network.offset * sums if layer.reads_image else np.zeros_like(sums)
    start, step = _scores(layer) if layer.activation is None else (layer.activation.start, layer.activation.act_step)
    target.set_variable("threshold", (start + shift).astype(np.int32))
    target.set_variable("act_step", step.astype(np.float32))


def _kernels(levels: Levels, layer: AkidaLayer, network: AkidaNetwork) -> Levels:
    """``[kernel, kernel, inputs, outputs]``; all but the layer for images convolve, with a kernel turned round."""
    if layer.reads_image == network.turned:
        levels = levels[:, :, ::-1, ::-1]
    # Of a depthwise layer every kernel is an input's.
    return np.ascontiguousarray(levels.transpose(2, 3, 0, 1) if layer.depthwise else levels.transpose(2, 3, 1, 0))


def _flat(layer: AkidaLayer, network: AkidaNetwork) -> Levels:
    """``[1, 1, inputs, outputs]``, inputs by channel, then column, then row."""
    rows = layer.numbers.levels.reshape(layer.layer.outputs, *layer.map_shape)
    if network.turned:
        rows = rows[:, :, ::-1, ::-1]
    return np.ascontiguousarray(rows.transpose(0, 1, 3, 2).reshape(layer.layer.outputs, -1).T[None, None])


def _scores(layer: AkidaLayer) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """θ and step with which ``predict`` makes outputs of sums, all by one power of two."""
    multiplier, bias = layer.numbers.multiplier.astype(np.float64), layer.numbers.bias.astype(np.float64)
    # A channel without a multiplier is its bias, whatever its sums; its weights are zeros then.
    multiplier = np.where(multiplier == 0, max(multiplier.max(), 1.0), multiplier)
    step = 2.0**layer.layer.shift / multiplier
    start = np.rint(-bias * step)
    return start.astype(np.int64), step * 2.0 ** np.ceil(np.log2(_SCORE_STEP / step.min()))
