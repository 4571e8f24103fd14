"""The input of a network: one tensor, or several by position or by name, as a batch brings them.

Whatever moves, cuts or measures a batch's inputs does it here, so that nothing else has to know how many there are.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.errors import InputError

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""Of a batch, or of a sample: several are given to the network by position, or by the names of its arguments."""
Shape = tuple[int, ...]
InputShape = Shape | tuple[Shape, ...] | dict[str, Shape]
"""Of a sample's input, or of each of several."""


def as_inputs(value: Any) -> Any:
    """Lists and named tuples as a tuple, mappings as a dict, as collate functions make them; all else as it is."""
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(value) if isinstance(value, tuple | list) else value


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors, in their order."""
    if isinstance(inputs, Tensor):
        return (inputs,)
    return tuple(inputs.values()) if isinstance(inputs, dict) else inputs


def map_inputs(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The same number of inputs, each changed by the function."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, dict):
        return {name: function(x) for name, x in inputs.items()}
    return tuple(function(x) for x in inputs)


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """On a device."""
    return map_inputs(lambda x: x.to(device), inputs)


def call_network(network: nn.Module, inputs: Inputs) -> Any:
    """What the network returns: several inputs are its arguments."""
    if isinstance(inputs, Tensor):
        return network(inputs)
    return network(**inputs) if isinstance(inputs, dict) else network(*inputs)


def called_with(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs | None:
    """What :func:`call_network` was given, from a network's arguments; None if they are no inputs of its kind."""
    inputs = dict(kwargs) if kwargs else args[0] if len(args) == 1 else args
    mixed = bool(args and kwargs) or (isinstance(inputs, tuple | dict) and not inputs)
    if mixed or not all(isinstance(x, Tensor) for x in tensors_of(inputs)):
        return None
    return inputs


def single_input(inputs: Inputs, reader: str) -> Tensor:
    """The tensor; InputError where there are several, for which the ``reader``, ``a packed file``, has no place."""
    if isinstance(inputs, Tensor):
        return inputs
    raise InputError(
        f"{reader} has one input, and the network takes {len(inputs)}, of shape {shape_text(shape_of(inputs))}; "
        "deploy a network of one"
    )


def split_inputs(inputs: Inputs, count: int, axis: int) -> list[Inputs]:
    """In parts along an axis of every tensor, as :meth:`torch.Tensor.tensor_split` cuts one."""
    cut = [x.tensor_split(count, axis) for x in tensors_of(inputs)]
    return [_like(inputs, part) for part in zip(*cut, strict=True)]


def narrowed(inputs: Inputs, axis: int, first: int, count: int) -> Inputs:
    """``count`` places of an axis of every tensor, from ``first``."""
    return map_inputs(lambda x: x.narrow(axis, first, count), inputs)


def axis_length(inputs: Inputs, axis: int) -> int:
    """How long an axis is that all of them have in common: samples, or frames."""
    return tensors_of(inputs)[0].shape[axis]


def shape_of(inputs: Inputs, without: int | None = None) -> InputShape:
    """Of every tensor, without the samples' axis if that is given."""

    def shape(x: Tensor) -> Shape:
        return tuple(size for axis, size in enumerate(x.shape) if axis != without)

    if isinstance(inputs, Tensor):
        return shape(inputs)
    if isinstance(inputs, dict):
        return {name: shape(x) for name, x in inputs.items()}
    return tuple(shape(x) for x in inputs)


def dtypes_of(inputs: Inputs) -> Any:
    """Of every tensor, as the inputs hold them."""
    of_each: Any = operator.attrgetter("dtype")
    return map_inputs(of_each, inputs)


def dtypes_text(dtypes: Any) -> str:
    """For messages: ``float32``, ``float32 and int64``, or ``image float32 and token int64``."""
    if isinstance(dtypes, torch.dtype):
        return str(dtypes).removeprefix("torch.")
    names = [f"{name} " for name in dtypes] if isinstance(dtypes, dict) else [""] * len(dtypes)
    each = dtypes.values() if isinstance(dtypes, dict) else dtypes
    return " and ".join(f"{name}{dtypes_text(dtype)}" for name, dtype in zip(names, each, strict=True))


def normal_shape(value: InputShape | Sequence[Any]) -> InputShape:
    """A shape, or shapes, as a user gives them, as :func:`shape_of` does."""
    if isinstance(value, Mapping):
        return {name: tuple(shape) for name, shape in value.items()}
    return tuple(size if isinstance(size, int) else tuple(size) for size in value)  # type: ignore[return-value]  # all alike


def shapes_in(shape: InputShape) -> list[Shape]:
    """Each on its own."""
    if isinstance(shape, dict):
        return list(shape.values())
    # A number has no axes.
    return list(shape) if any(isinstance(size, tuple) for size in shape) else [shape]  # type: ignore[arg-type,list-item]  # all alike


def shape_text(shape: InputShape) -> str:
    """For messages: ``[1, 8, 8]``, ``[1, 8, 8] and [3]``, or ``image [1, 8, 8] and age [3]``."""
    names = list(shape) if isinstance(shape, dict) else None
    texts = [str(list(size)) for size in shapes_in(shape)]
    return " and ".join(texts if names is None else [f"{name} {text}" for name, text in zip(names, texts, strict=True)])


def is_dense(tensor: Tensor) -> bool:
    """Whether its values lie in memory one beside the other, in rows that are equally long."""
    return tensor.layout == torch.strided and not tensor.is_nested


def _like(inputs: Inputs, tensors: Sequence[Tensor]) -> Inputs:
    if isinstance(inputs, Tensor):
        return tensors[0]
    return dict(zip(inputs, tensors, strict=True)) if isinstance(inputs, dict) else tuple(tensors)
