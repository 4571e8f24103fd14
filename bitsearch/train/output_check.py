"""What a network gives back, checked on a few samples before anything is trained."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bitsearch.data import Splits
from bitsearch.data.inputs import dtype_name
from bitsearch.errors import InputError, located
from bitsearch.frameworks.neurons import reset_states
from bitsearch.network_inputs import Inputs, call_network, shape_of, shape_text, tensors_of
from bitsearch.task_settings import TaskSettings
from bitsearch.train.predict import LOGITS, OutputForm, over_steps
from bitsearch.train.tasks import LearningTask, make_learning_task

CHECKED = 4
"""Training samples that the network is run on."""


def check_outputs(network: nn.Module, splits: Splits, name: str, task: LearningTask | None = None) -> None:
    """Run a copy of ``network`` in evaluation mode and, as it will be trained, in training mode.

    Args:
        network: on the CPU; left as it is, the states of its neurons included.
        splits: what it is to be trained on.
        name: of the network, for the message.
        task: that it is trained for; classification by default.

    Raises:
        InputError: it cannot be copied or run, or its output is not what the task takes, by default logits
            ``[N, classes]``, or ``[T, N, classes]``; or the loss is below zero or not finite.
    """
    label = f"network {name!r}"
    task = task or make_learning_task(TaskSettings(), splits.classes)
    for path, parameter in network.named_parameters():
        if not is_lazy(parameter) and not parameter.is_meta and not bool(parameter.detach().isfinite().all()):
            raise InputError(f"{label}: its {path} holds values that are not finite; give weights that are")
    inputs, labels = splits.examples(CHECKED)
    # A batch norm cannot train on a single sample.
    for training in (False, True) if len(labels) > 1 else (False,):
        try:
            output = _run(network, inputs, training)
        except (Exception, SystemExit) as error:
            mode = " in training mode" if training else ""
            shape = shape_text(shape_of(inputs))
            raise InputError(
                f"{label} cannot run inputs of shape {shape}{mode}: {_cause(network, inputs, error)}"
            ) from error
        outputs = task.form.read(output, label)
        if outputs.device != labels.device:
            raise InputError(f"{label} returns a tensor on {outputs.device}; make it where the network's inputs are")
        task.check(over_steps(outputs, task.form), outputs, labels, label)
        if training:
            _check_gradient(network, task, outputs, labels, label)


def output_count(network: nn.Module, inputs: Inputs, name: str, form: OutputForm = LOGITS) -> int:
    """How many logits, or values, a network gives (a position); InputError, which names it, if it gives none."""
    label = f"network {name!r}"
    try:
        output = _run(network, inputs, training=False)
    except (Exception, SystemExit) as error:
        shape = shape_text(shape_of(inputs))
        raise InputError(f"{label} cannot run inputs of shape {shape}: {_cause(network, inputs, error)}") from error
    return form.read(output, label).shape[2 if form.every_step else 1]


def _run(network: nn.Module, inputs: Inputs, training: bool) -> object:
    network = copy.deepcopy(network)
    reset_states(network)
    with torch.set_grad_enabled(training):
        return call_network(network.train(training), inputs)


def _cause(network: nn.Module, inputs: Inputs, error: BaseException) -> str:
    """Where its call failed, or what its parameters are that inputs are not: float32, on the CPU."""
    for name, parameter in network.named_parameters():
        if parameter.device.type != "cpu":
            return f"its {name} is on {parameter.device}; make it on the CPU, from where --device moves it"
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            return f"its {name} is {dtype_name(parameter)}, inputs are float32; convert the network by .float()"
    if all(x.dtype == torch.int64 for x in tensors_of(inputs)) and "long" in str(error).lower():
        return f"{located(error)}; its inputs are int64, as an embedding takes them: give layers float32"
    return located(error)


def _check_gradient(network: nn.Module, task: LearningTask, outputs: Tensor, targets: Tensor, label: str) -> None:
    """InputError if the loss has no gradient, or one that cannot be computed."""
    parameters = list(network.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise InputError(
            f"{label} has nothing to train: all of its {len(parameters)} parameters have requires_grad=False; set "
            "it for those that the search may train"
        )
    if not outputs.requires_grad:
        raise InputError(
            f"{label} returns {task.form.words} without a gradient; leave out detach(), no_grad() and operations such "
            "as round()"
        )
    for name, module in network.named_modules():
        if getattr(module, "sparse", False) is True:
            raise InputError(f"{label}: the gradient of its {name} is sparse; make it with sparse=False")
    try:
        with torch.enable_grad():
            loss = task.loss.summed(outputs.float(), targets) / len(outputs)
            if not loss.requires_grad:
                raise InputError(
                    f"{label} cannot be trained: the loss does not depend on what it returns (task.loss); leave out "
                    "detach(), no_grad() and operations such as argmax()"
                )
            loss.backward()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{label} cannot be trained, its gradient fails: {located(error)}") from error
