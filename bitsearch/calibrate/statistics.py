"""Step sizes and batch norms set anew, by what flows through a quantized network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitsearch.calibrate.samples import CalibrationSamples
from bitsearch.layers.batch_norm import shared_batch_norm
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.predict import run


@torch.no_grad()
def renew_steps(quantized: QuantizedNetwork, samples: CalibrationSamples) -> None:
    """Set every step size anew, in place: layer by layer, by its weights and by what the layers before it send.

    Step renewal (:mod:`bitsearch.quant.renewal`), on one part of the samples.
    """
    for layer in quantized.layers.values():
        layer.weight_step_bits.zero_()
        layer.spike_step_bits.zero_()
    for layer in quantized.layers.values():
        layer.refresh_cache()
    run(quantized, next(samples.parts(samples.fitted)))


@torch.no_grad()
def reestimate_batch_norm(quantized: QuantizedNetwork, samples: CalibrationSamples) -> None:
    """Let every batch norm's running statistics be those of the quantized network, in place, and renew the steps.

    What a layer sends has another mean and variance once it has few bits, which its batch norm was not trained for.
    The mean over all parts of the samples counts.
    """
    with shared_batch_norm(quantized), _gathering(quantized):
        renew_steps(quantized, samples)
        for norm in _norms(quantized):
            norm.reset_running_stats()
        for part in samples.parts(samples.fitted):
            run(quantized, part)
    renew_steps(quantized, samples)


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@contextmanager
def _gathering(network: nn.Module) -> Iterator[None]:
    """Inside, batch norms alone are in training mode, and their running statistics are means over all batches."""
    momenta = {norm: norm.momentum for norm in _norms(network)}
    for norm in momenta:
        norm.train()
        norm.momentum = None
    try:
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.eval()
            norm.momentum = momentum
