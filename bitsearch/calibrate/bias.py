"""Bias correction: what quantization moves the mean of a channel by is taken off its bias (Nagel et al. 2019)."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from bitsearch.calibrate.samples import CalibrationSamples
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.network_inputs import axis_length
from bitsearch.train.layer_outputs import watched
from bitsearch.train.predict import run

PARTS_AT_ONCE = 8
"""Parts of the samples that go through the network together: no gradients are taken, so that little is kept."""


@torch.no_grad()
def correct_biases(quantized: QuantizedNetwork, network: nn.Module, samples: CalibrationSamples) -> None:
    r"""Bring the mean output of every channel to the float network's, in place, one layer after the other.

    .. math::
        b_c \leftarrow b_c + \mathbb{E}[y_c] - \mathbb{E}[\hat y_c]

    with y the float layer's outputs and ŷ those of the quantized one behind layers that are corrected already. Where
    all samples go through the network together, one pass corrects all layers that are called once in it, each as its
    outputs come by; every other layer takes a pass of its own. A layer without a bias is left as it is: where a batch
    norm follows, re-estimating that does the same.
    """
    biased = [name for name, layer in quantized.layers.items() if layer.bias is not None]
    sums: dict[str, list[Tensor]] = {name: [] for name in biased}
    once = set(biased)
    with watched(network, biased) as outputs:
        for part in samples.parts(samples.fitted):
            run(network, part)
            for name, calls in outputs.items():
                once -= {name} if len(calls) != 1 else set()
                sums[name] += [_channel_sums(quantized.layers[name], call) for call in calls]
                calls.clear()
    targets = {name: _mean(each) for name, each in sums.items() if each}
    together = axis_length(samples.fitted, samples.batch_axis) <= PARTS_AT_ONCE * samples.at_once
    passing = [name for name in targets if together and name in once]
    if passing:
        _correct_in_passing(quantized, {name: targets[name] for name in passing}, samples)
    _correct_one_by_one(quantized, {name: targets[name] for name in targets if name not in passing}, samples)


def _correct_in_passing(quantized: QuantizedNetwork, targets: dict[str, Tensor], samples: CalibrationSamples) -> None:
    """In one pass of all samples, whose outputs go on corrected."""

    def corrector(layer: QuantizedLayer, target: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def correct(module: nn.Module, arguments: object, outputs: Tensor) -> Tensor:
            shift = _add_to_bias(layer, target, [_channel_sums(layer, outputs)])
            return outputs + shift.view(-1, *[1] * (layer.sample_dims - 1)).to(outputs.dtype)

        return correct

    with ExitStack() as hooks:
        for name, target in targets.items():
            layer = quantized.layers[name]
            hooks.callback(layer.register_forward_hook(corrector(layer, target)).remove)
        run(quantized, samples.fitted)


def _correct_one_by_one(quantized: QuantizedNetwork, targets: dict[str, Tensor], samples: CalibrationSamples) -> None:
    """A pass a layer."""
    for name, target in targets.items():
        layer, sums = quantized.layers[name], []
        with watched(quantized.network, [name]) as outputs:
            for part in samples.parts(samples.fitted):
                run(quantized, part)
                sums += [_channel_sums(layer, call) for call in outputs[name]]
                outputs[name].clear()
        if sums:
            _add_to_bias(layer, target, sums)


def _add_to_bias(layer: QuantizedLayer, target: Tensor, sums: Sequence[Tensor]) -> Tensor:
    """What is added to it, ``[channels]``, float64."""
    shift = target - _mean(sums)
    assert isinstance(layer.bias, Tensor)
    layer.bias += shift.to(layer.bias.dtype)
    return shift


def _channel_sums(layer: QuantizedLayer, outputs: Tensor) -> Tensor:
    """``[channels + 1]``: the sums of every channel, and how many elements each has; float64."""
    channels = outputs.double().movedim(outputs.dim() - layer.sample_dims, 0).flatten(1)
    return torch.cat([channels.sum(1), channels.new_tensor([float(channels.shape[1])])])


def _mean(sums: Sequence[Tensor]) -> Tensor:
    total = torch.stack(list(sums)).sum(0)
    return total[:-1] / total[-1].clamp_min(1)
