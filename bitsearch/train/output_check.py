"""What a network gives back, checked on a few samples before anything is trained."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsearch.data import Splits
from bitsearch.errors import InputError, located
from bitsearch.frameworks.neurons import reset_states
from bitsearch.train.predict import describe_output, logits_of, mean_over_frames

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
    inputs, labels = splits.examples(CHECKED)
    # A batch norm cannot train on a single sample.
    for training in (False, True) if len(labels) > 1 else (False,):
        try:
            output = _run(network, inputs, training)
        except (Exception, SystemExit) as error:
            mode = " in training mode" if training else ""
            shape = list(inputs.shape)
            raise InputError(f"{label} cannot run inputs of shape {shape}{mode}: {located(error)}") from error
        logits = _check_output(output, len(labels), splits.classes, label)
        if training:
            _check_gradient(network, logits, labels, label)


def output_count(network: nn.Module, inputs: Tensor, name: str) -> int:
    """How many logits a network gives a sample of ``inputs``; InputError, which names it, if it gives none."""
    label = f"network {name!r}"
    try:
        output = _run(network, inputs, training=False)
    except (Exception, SystemExit) as error:
        shape = list(inputs.shape)
        raise InputError(f"{label} cannot run inputs of shape {shape}: {located(error)}") from error
    return logits_of(output, label).shape[-1]


def _run(network: nn.Module, inputs: Tensor, training: bool) -> object:
    network = copy.deepcopy(network)
    reset_states(network)
    with torch.set_grad_enabled(training):
        return network.train(training)(inputs)


def _check_gradient(network: nn.Module, logits: Tensor, labels: Tensor, label: str) -> None:
    """InputError if the loss has no gradient, or one that cannot be computed."""
    parameters = list(network.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise InputError(
            f"{label} has nothing to train: all of its {len(parameters)} parameters have requires_grad=False; set "
            "it for those that the search may train"
        )
    if not logits.requires_grad:
        raise InputError(
            f"{label} returns logits without a gradient; leave out detach(), no_grad() and operations such as round()"
        )
    try:
        with torch.enable_grad():
            functional.cross_entropy(mean_over_frames(logits).float(), labels).backward()
    except (Exception, SystemExit) as error:
        raise InputError(f"{label} cannot be trained, its gradient fails: {located(error)}") from error


def _check_output(output: object, samples: int, classes: int, label: str) -> Tensor:
    logits = logits_of(output, label)
    if tuple(logits.shape[-2:]) != (samples, classes):
        raise InputError(
            f"{label} returns {describe_output(logits)} for {samples} samples of {classes} classes; it must return "
            "logits [N, classes] or [T, N, classes]"
        )
    return logits
