"""What a network gives back, checked on a few samples before anything is trained."""

import copy

import torch
from torch import Tensor, nn

from bitsearch.data import Splits, batches
from bitsearch.errors import InputError, located
from bitsearch.frameworks.neurons import reset_states

CHECKED = 4
"""Training samples that the network is run on."""


def check_outputs(network: nn.Module, splits: Splits, name: str) -> None:
    """Run a copy of ``network`` in evaluation mode and, as it will be trained, in training mode.

    Args:
        network: on the CPU; left as it is, the states of its neurons included.
        splits: what it is to be trained on.
        name: of the network, for the message.

    Raises:
        InputError: it cannot be copied or run, or its output is not what :func:`bitsearch.train.predict.predict`
            takes: logits ``[N, classes]``, or ``[T, N, classes]``.
    """
    label = f"network {name!r}"
    inputs, labels = next(iter(batches(splits.train, CHECKED)))
    # A batch norm cannot train on a single sample.
    for training in (False, True) if len(labels) > 1 else (False,):
        try:
            output = _run(network, inputs, training)
        except Exception as error:
            mode = " in training mode" if training else ""
            shape = list(inputs.shape)
            raise InputError(f"{label} cannot run inputs of shape {shape}{mode}: {located(error)}") from error
        _check_output(output, len(labels), splits.classes, label)


def _run(network: nn.Module, inputs: Tensor, training: bool) -> object:
    network = copy.deepcopy(network)
    reset_states(network)
    with torch.no_grad():
        return network.train(training)(inputs)


def _check_output(output: object, samples: int, classes: int, label: str) -> None:
    form = "logits [N, classes] or [T, N, classes]"
    if not isinstance(output, Tensor):
        raise InputError(f"{label} returns {type(output).__name__}; it must return one tensor, {form}")
    if output.dim() not in (2, 3) or tuple(output.shape[-2:]) != (samples, classes):
        shape = list(output.shape)
        raise InputError(
            f"{label} returns shape {shape} for {samples} samples of {classes} classes; it must return {form}"
        )
    if not output.is_floating_point():
        kind = str(output.dtype).removeprefix("torch.")
        raise InputError(f"{label} returns {kind}; it must return float32 logits")
