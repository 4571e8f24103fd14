"""A network's prediction for a batch, whatever kind of network it is."""

from torch import Tensor, nn

from bitsearch.frameworks.neurons import reset_states


def predict(network: nn.Module, inputs: Tensor) -> Tensor:
    """Logits ``[N, classes]`` for a batch ``[N, ...]``, or ``[T, N, ...]`` with a time axis.

    States of spiking neurons are reset before; logits of every frame, ``[T, N, classes]``, are averaged.
    """
    reset_states(network)
    return mean_over_frames(network(inputs))


def mean_over_frames(logits: Tensor) -> Tensor:
    """Logits ``[N, classes]``: those of every frame, ``[T, N, classes]``, averaged; others as they are."""
    return logits.mean(0) if logits.dim() == 3 else logits
