"""Whether the input of a sample, or of a batch, can be trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bitsearch.errors import InputError
from bitsearch.network_inputs import Inputs, as_inputs, dtypes_of, dtypes_text, is_dense

KINDS = (torch.float32, torch.int64, torch.bool)
"""What an input may be: values; numbers of tokens or classes, which an embedding reads; masks."""


def check_input(value: object, place: str, kinds: Sequence[torch.dtype] = KINDS) -> Inputs:
    """What a sample's or a batch's input is: a tensor, or several in a tuple or a dict, dense and of ``kinds``.

    Floats have to be finite.

    Raises:
        InputError: which names the ``place`` and, of several, the one that is something else.
    """
    inputs = as_inputs(value)
    several = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else ()
    if several and not any(isinstance(x, Tensor) for x in several):
        # A list of numbers, say, which is no container of inputs.
        _check_tensor(value, place, "its input", "inputs are", kinds)
    if not isinstance(inputs, tuple | dict):
        _check_tensor(inputs, place, "its input", "inputs are", kinds)
        return inputs  # type: ignore[no-any-return]  # a tensor
    if not inputs:
        raise InputError(f"{place}: its input is an empty {type(value).__name__}; give at least one tensor")
    for name, x in inputs.items() if isinstance(inputs, dict) else enumerate(inputs):
        if isinstance(inputs, dict) and not (isinstance(name, str) and name.isidentifier()):
            raise InputError(f"{place}: its input has the key {name!r}; name inputs as the network's arguments")
        _check_tensor(x, place, f"its input {name!r}", f"its input {name!r} is", kinds)
    return inputs


def _check_tensor(inputs: object, place: str, title: str, are: str, kinds: Sequence[torch.dtype]) -> None:
    if not isinstance(inputs, Tensor):
        kind = f"{type(inputs).__module__}.{type(inputs).__qualname__}".removeprefix("builtins.")
        raise InputError(
            f"{place}: {title} is {kind}; give a float32 tensor, as torchvision.transforms.ToTensor() makes"
        )
    if not is_dense(inputs):
        kind = "nested" if inputs.is_nested else str(inputs.layout).removeprefix("torch.")
        raise InputError(f"{place}: {title} is a {kind} tensor; give a dense one, as .to_dense() makes")
    if inputs.is_meta:
        raise InputError(f"{place}: {title} is on the device meta, and has no values; give one on the CPU")
    if inputs.dtype not in kinds:
        remedy = "divide by 255 or normalize them; numbers of tokens or classes are int64"
        remedy = "convert them by .float()" if inputs.is_floating_point() else remedy
        raise InputError(f"{place}: {are} {dtype_name(inputs)}; they must be float32, so {remedy}")
    if not bool(inputs.isfinite().all()):
        raise InputError(f"{place}: {_not_finite(inputs, title)}; mend or leave out such samples")


def check_alike(inputs: Inputs, dtypes: object, place: str) -> None:
    """InputError, which names the ``place``, unless inputs are of the kinds that others are."""
    if dtypes_of(inputs) != dtypes:
        kinds = dtypes_text(dtypes_of(inputs))
        raise InputError(f"{place} has inputs of {kinds}, others have {dtypes_text(dtypes)}; bring them to one")


def dtype_name(tensor: Tensor) -> str:
    """Such as ``float64``."""
    return str(tensor.dtype).removeprefix("torch.")


def _not_finite(inputs: Tensor, title: str) -> str:
    position = (~inputs.isfinite()).nonzero()[0].tolist()
    return f"{title} is {float(inputs[tuple(position)])} at {position}"
