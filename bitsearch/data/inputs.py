"""Whether the input of a sample, or of a batch, can be trained on."""

import torch
from torch import Tensor

from bitsearch.errors import InputError


def check_input(inputs: object, place: str) -> None:
    """Raise InputError, which names the ``place``, unless a sample's or a batch's input is dense, finite float32."""
    if not isinstance(inputs, Tensor):
        kind = f"{type(inputs).__module__}.{type(inputs).__qualname__}".removeprefix("builtins.")
        raise InputError(
            f"{place}: its input is {kind}; give a float32 tensor, as torchvision.transforms.ToTensor() makes"
        )
    if not is_dense(inputs):
        kind = "nested" if inputs.is_nested else str(inputs.layout).removeprefix("torch.")
        raise InputError(f"{place}: its input is a {kind} tensor; give a dense one, as .to_dense() makes")
    if inputs.is_meta:
        raise InputError(f"{place}: its input is on the device meta, and has no values; give one on the CPU")
    if inputs.dtype != torch.float32:
        remedy = "convert them by .float()" if inputs.is_floating_point() else "divide by 255 or normalize them"
        raise InputError(f"{place}: inputs are {dtype_name(inputs)}; they must be float32, so {remedy}")
    if not bool(inputs.isfinite().all()):
        raise InputError(f"{place}: {_not_finite(inputs)}; mend or leave out such samples")


def is_dense(tensor: Tensor) -> bool:
    """Whether its values lie in memory one beside the other, in rows that are equally long."""
    return tensor.layout == torch.strided and not tensor.is_nested


def dtype_name(tensor: Tensor) -> str:
    """Such as ``float64``."""
    return str(tensor.dtype).removeprefix("torch.")


def _not_finite(inputs: Tensor) -> str:
    position = (~inputs.isfinite()).nonzero()[0].tolist()
    return f"its input is {float(inputs[tuple(position)])} at {position}"
