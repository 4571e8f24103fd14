"""What a network gives back, checked on a few samples before anything is trained."""

import copy

import torch
from torch import Tensor, nn

from bitsearch.data import Splits, batches
from bitsearch.errors import InputError, located
from bitsearch.models.eval_mode import eval_mode

CHECKED = 4
"""Training samples that the network is run on."""


def check_outputs(network: nn.Module, splits: Splits, name: str) -> None:
    """Run a copy of ``network`` in evaluation mode and, as it will be trained, in training mode.

    Args:
        network: on the CPU; left as it is, the states of its neurons included.
        splits: what it is to be trained on.
        name: of the network, for the message.

    Raises:
        InputError: it cannot be copied or run, or its output is not the logits ``[N, classes]``; for event data,
            ``[T, N, classes]`` will do as well.
    """
    label = f"network {name!r}"
    inputs, _ = next(iter(batches(splits.train, CHECKED)))
    steps, samples = (None, len(inputs)) if splits.frames is None else (len(inputs), inputs.shape[1])
    expected: list[tuple[int, ...]] = [(samples, splits.classes)]
    if steps is not None:
        expected.append((steps, samples, splits.classes))
    # A batch norm cannot train on a single sample.
    for training in (False, True) if samples > 1 else (False,):
        try:
            output = _run(network, inputs, training)
        except Exception as error:
            mode = " in training mode" if training else ""
            shape = list(inputs.shape)
            raise InputError(f"{label} cannot run inputs of shape {shape}{mode}: {located(error)}") from error
        _check_output(output, expected, label)


def _run(network: nn.Module, inputs: Tensor, training: bool) -> object:
    network = copy.deepcopy(network)
    with torch.no_grad():
        if training:
            return network.train()(inputs)
        with eval_mode(network):
            return network(inputs)


def _check_output(output: object, expected: list[tuple[int, ...]], label: str) -> None:
    wanted = " or ".join(str(list(shape)) for shape in expected)
    names = " or ".join(("[N, classes]", "[T, N, classes]")[: len(expected)])
    if not isinstance(output, Tensor):
        raise InputError(f"{label} returns {type(output).__name__}; it must return one tensor, the logits {names}")
    if tuple(output.shape) not in expected:
        raise InputError(f"{label} returns shape {list(output.shape)}; it must return logits {names}, here {wanted}")
    if not output.is_floating_point():
        raise InputError(f"{label} returns {str(output.dtype).removeprefix('torch.')}; it must return float32 logits")
