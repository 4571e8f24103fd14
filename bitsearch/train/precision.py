"""Half precision: matrix products and convolutions of training steps, by torch's autocast, and what it leaves alone.

Weights, step sizes, latents, the arithmetic of quantizers and neurons, the statistics of batch norm, the loss and the
regularizer are float32 at any precision, and so is everything that is measured.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.frameworks.neurons import is_spiking
from bitsearch.quant.uniform import working_precision
from bitsearch.training import Precision

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Of the precisions that are half of float32."""
_INSTRUCTIONS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
"""Any of these, as torch names what a processor has, and it computes with the type itself."""


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which products are computed as in a training step of that precision."""
    return torch.autocast(device.type, dtype=DTYPES.get(precision), enabled=precision in DTYPES)


def slowness(device: torch.device, precision: Precision) -> str | None:
    """Why training is slower in a half precision than in float32 on a device; None if it is not, or nobody knows."""
    if precision not in DTYPES:
        return None
    if device.type == "cuda":
        lacks = precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Not there before torch 2.11.
        found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
        lacks = bool(found) and not any(found.get(name) for name in _INSTRUCTIONS[precision])
    if not lacks:
        return None
    return (
        f"training.precision is {precision}, for which {device.type} has no instructions here: training works, slower "
        "than in float32"
    )


@contextmanager
def neurons_in_float32(network: nn.Module) -> Iterator[None]:
    """Inside, spiking neurons of a library get float32, whatever a layer in front of them returns.

    In half precision a membrane would lose what is small beside it, frame by frame.
    """
    with ExitStack() as hooks:
        for module in network.modules():
            if is_spiking(module):
                hooks.enter_context(module.register_forward_pre_hook(_in_float32, with_kwargs=True))
        yield


def _in_float32(
    neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(_cast, args)), {name: _cast(value) for name, value in kwargs.items()}


def _cast(value: Any) -> Any:
    return working_precision(value) if isinstance(value, Tensor) and value.is_floating_point() else value
