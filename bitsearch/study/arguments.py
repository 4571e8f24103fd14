"""Arguments of a Python program, brought to the kinds that a search works with: each wrong one is one line."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bitsearch.errors import InputError
from bitsearch.registry import import_path
from bitsearch.task_settings import TaskSettings
from bitsearch.train.tasks.criterion import DEFAULTS, criterion_settings
from bitsearch.validation import shown


def texts(value: Any, name: str) -> Any:
    """A budget, or several, as one types them: numbers are texts, of which a message then says how they are meant.

    Raises:
        InputError: neither texts nor numbers.
    """
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    if isinstance(value, Sequence):
        return [text for one in value if (text := texts(one, name)) is not None] or None
    raise InputError(f"{name} is {shown(value)}; give a text such as '4x', or several")


def seconds(value: Any) -> float | None:
    """Of a timeout; InputError if it is no number, or below zero."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise InputError(f"timeout is {shown(value)}; give seconds, a number from 0")
    return float(value)


def cost_name(value: Any, name: str) -> str | None:
    """Name of a cost; InputError for anything but a text, such as the function that is to be the task's score."""
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{name} is {shown(value)}; give a cost by its name, such as 'energy'; scores are task={{...}}'s")


def device_name(value: Any) -> str:
    """Name of a device, which may be torch's own object; InputError for anything else."""
    if isinstance(value, str | torch.device):
        return str(value)
    raise InputError(f"device is {shown(value)}; give 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")


def rules(value: Any) -> Sequence[Any]:
    """Rules, of which a single one may be given by itself."""
    return [value] if isinstance(value, str | Mapping) or not isinstance(value, Sequence) else value


def recipe(training: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``[training]``: a table, and what was given by itself. An optimizer is known by what imports it.

    Raises:
        InputError: no table, or an optimizer that no run can make anew.
    """
    if training is not None and not isinstance(training, Mapping):
        raise InputError(f"training is {shown(training)}; give a dict of its fields, such as {{'schedule': 'cosine'}}")
    fields = {**(training or {}), **{name: value for name, value in named.items() if value is not None}}
    optimizer = fields.get("optimizer")
    if isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer is {type(optimizer).__name__} of parameters that it was made with, and every trial has its "
            "own; give the class, optimizer=torch.optim.SGD, and its keywords as training={'optimizer_options': {...}}"
        )
    if callable(optimizer):
        fields["optimizer"] = import_path(optimizer, "optimizer")
    return fields


def task_settings(task: Any, loss: Any, own: TaskSettings) -> dict[str, Any] | None:
    """A task's fields; its loss and metric, where they are objects, by what imports them or by torch's names.

    Args:
        task: name, fields, or None for the space's own.
        loss: in place of the task's own.
        own: the space's.

    Raises:
        InputError: no task, a loss or a part of it that was given twice, or an object that cannot be made anew.
    """
    given = task is not None
    if isinstance(task, str):
        task = {"name": task}
    elif task is None:
        task = {} if loss is None else own.model_dump(exclude_defaults=True) | {"loss": None}
    if not isinstance(task, Mapping):
        raise InputError(f"task is {shown(task)}; give its name, such as 'regression', or a dict of its fields")
    if loss is not None and task.get("loss") is not None:
        raise InputError("loss was given twice, by itself and in task; give it once")
    fields = {name: value for name, value in task.items() if name != "loss" or value is not None}
    if loss is not None:
        fields["loss"] = loss
    if isinstance(fields.get("metric"), nn.Module):
        raise InputError(
            f"task.metric is {shown(fields['metric'])}, which is made already, and each measurement has its own; give "
            "its class, and its keywords as metric_options"
        )
    known = criterion_settings(fields.get("loss"))
    if known is not None:
        # What torch's object says of itself, its defaults too, and not what the space says of another loss.
        said = {**DEFAULTS, **known}
        for name in DEFAULTS if given else ():
            if name in fields and fields[name] != said[name]:
                raise InputError(f"{name} was given twice, {fields[name]!r} in task and {said[name]!r} by the loss")
        fields = {name: value for name, value in fields.items() if name not in DEFAULTS} | known
    named = {name: import_path(value, name) if callable(value) else value for name, value in fields.items()}
    return named or None


def check_source(source: Any) -> None:
    """InputError for a network that is no module yet: its class, its weights, or where it is imported from."""
    if isinstance(source, type) and issubclass(source, nn.Module):
        raise InputError(f"network is the class {source.__name__}; give one that is made: {source.__name__}(...)")
    if isinstance(source, Mapping):
        raise InputError(f"network is {type(source).__name__}; give the torch module that has these weights")
    if isinstance(source, str) and ":" in source:
        raise InputError(f"network is {source!r}; give the torch module itself, or a search space that names it")
