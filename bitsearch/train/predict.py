"""A network's prediction for a batch, whatever kind of network it is."""

from collections.abc import Mapping

from torch import Tensor, nn

from bitsearch.data.inputs import is_dense
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import reset_states


def predict(network: nn.Module, inputs: Tensor) -> Tensor:
    """Logits ``[N, classes]`` for a batch ``[N, ...]``, or ``[T, N, ...]`` with a time axis.

    States of spiking neurons are reset before; logits of every frame, ``[T, N, classes]``, are averaged.

    Raises:
        InputError: the network returns no tensor of logits, as it may for some inputs only.
    """
    reset_states(network)
    return mean_over_frames(logits_of(network(inputs), "the network"))


def mean_over_frames(logits: Tensor) -> Tensor:
    """Logits ``[N, classes]``: those of every frame, ``[T, N, classes]``, averaged; others as they are."""
    return logits.mean(0) if logits.dim() == 3 else logits


def logits_of(output: object, label: str) -> Tensor:
    """A network's output; InputError, which names ``label`` and what the output holds, if it is no tensor of logits."""
    if isinstance(output, Tensor) and is_dense(output) and output.dim() in (2, 3) and output.is_floating_point():
        return output
    raise InputError(
        f"{label} returns {describe_output(output)}; it must return one float tensor, logits [N, classes] or "
        "[T, N, classes]"
    )


def describe_output(output: object) -> str:
    """What a network returned: ``dict with logits: float32 [4, 10], loss: float32 []``, or ``int64 [4]``."""
    if isinstance(output, Tensor):
        if not is_dense(output):
            return "no dense tensor"
        return f"{str(output.dtype).removeprefix('torch.')} {list(output.shape)}"
    names: list[object]
    if isinstance(output, Mapping):
        names, values = list(output), list(output.values())
    elif isinstance(output, tuple | list):
        values = list(output)
        names = list(getattr(output, "_fields", range(len(values))))
    else:
        return type(output).__name__
    parts = [f"{name}: {describe_output(value)}" for name, value in zip(names[:4], values, strict=False)]
    return f"{type(output).__name__} with {', '.join(parts) or 'nothing in it'}{', …' if len(names) > 4 else ''}"
