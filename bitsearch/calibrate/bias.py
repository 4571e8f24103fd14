"""Bias correction: what quantization moves the mean of a channel by is taken off its bias (Nagel et al. 2019)."""

import torch
from torch import Tensor, nn

from bitsearch.calibrate.samples import CalibrationSamples
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.train.layer_outputs import watched
from bitsearch.train.predict import run


@torch.no_grad()
def correct_biases(quantized: QuantizedNetwork, network: nn.Module, samples: CalibrationSamples) -> None:
    r"""Bring the mean output of every channel to the float network's, in place, one layer after the other.

    .. math::
        b_c \leftarrow b_c + \mathbb{E}[y_c] - \mathbb{E}[\hat y_c]

    with y the float layer's outputs and ŷ those of the quantized one behind layers that are corrected already. A layer
    without a bias is left as it is: where a batch norm follows, re-estimating that does the same.
    """
    biased = [name for name, layer in quantized.layers.items() if layer.bias is not None]
    with watched(network, biased) as float_outputs:
        targets: dict[str, list[Tensor]] = {name: [] for name in biased}
        for part in samples.parts(samples.fitted):
            run(network, part)
            for name, calls in float_outputs.items():
                targets[name] += [_channel_sums(quantized.layers[name], call) for call in calls]
                calls.clear()
    with watched(quantized.network, biased) as outputs:
        for name in biased:
            layer, sums = quantized.layers[name], []
            for part in samples.parts(samples.fitted):
                run(quantized, part)
                sums += [_channel_sums(layer, call) for call in outputs[name]]
                for calls in outputs.values():
                    calls.clear()
            bias = layer.bias
            if sums and isinstance(bias, Tensor):
                bias += (_mean(targets[name]) - _mean(sums)).to(bias.dtype)


def _channel_sums(layer: QuantizedLayer, outputs: Tensor) -> Tensor:
    """``[channels + 1]``: the sums of every channel, and how many elements each has; float64."""
    channels = outputs.double().movedim(outputs.dim() - layer.sample_dims, 0).flatten(1)
    return torch.cat([channels.sum(1), channels.new_tensor([float(channels.shape[1])])])


def _mean(sums: list[Tensor]) -> Tensor:
    total = torch.stack(sums).sum(0)
    return total[:-1] / total[-1].clamp_min(1)
