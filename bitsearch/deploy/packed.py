"""The packed file: integer weights at exactly their bit widths, in a safetensors container.

Per layer: ``NAME.weight``, uint8, the weight levels, shifted to be non-negative and packed by
:func:`bitsearch.deploy.bitpacking.pack_bits`; ``NAME.multiplier`` and ``NAME.bias``, float32 ``[outputs]``, so that an
output is multiplier · Σ weight level · mean spike + bias (batch norm folded in where it follows the layer);
``NAME.spike_step``, float32 ``[T]``. The header's ``bitsearch.layers`` holds shapes and bit widths as JSON.

The tensors together take exactly the bytes that the cost model calls ``weight_memory``.
"""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bitsearch.deploy.bitpacking import pack_bits, unpack_bits
from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, quantized_layers
from bitsearch.models.eval_mode import eval_mode
from bitsearch.quant.uniform import largest_level, to_levels

FORMAT_VERSION = 1
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def pack(network: nn.Module, example_input: Tensor, path: str | os.PathLike[str]) -> int:
    """Write a trained quantized network to ``path``.

    Args:
        network: from :func:`bitsearch.apply`, with weights loaded.
        example_input: a batch ``[N, ...]``, to find which batch norm follows which layer.
        path: file to write, whole or not at all.

    Returns:
        The bytes of its tensors, header not included.

    Raises:
        InputError: nothing quantized, weights outside of quantized layers, a layer whose steps were never set, or a
            file that cannot be written.
    """
    layers = quantized_layers(network)
    if not layers:
        raise InputError("the network has no quantized layer; rebuild it with bitsearch.apply")
    for name, layer in layers.items():
        if layer.searchable or not bool(layer.weight_step_bits):
            raise InputError(f"layer {name!r} is not trained with fixed bits; load the weights of its plan first")
    kept = [
        name
        for name, module in network.named_modules()
        if not isinstance(module, QuantizedLayer) and any(p.dim() >= 2 for p in module.parameters(recurse=False))
    ]
    if kept:
        raise InputError(
            f"{', '.join(kept)} cannot be given bits, and a packed file holds quantized layers only; "
            "replace it with convolutions or linear layers"
        )
    norms = _following_norms(network, example_input)
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {}
    for name, layer in layers.items():
        bits = int(layer.weight_bits)
        tensors[f"{name}.weight"] = torch.from_numpy(pack_bits(_stored_levels(layer), bits))
        tensors[f"{name}.multiplier"], tensors[f"{name}.bias"] = _folded(layer, norms.get(name))
        tensors[f"{name}.spike_step"] = layer.spike_step.detach().clone()
        header[name] = {"shape": list(layer.weight.shape), **layer.layer_plan.model_dump(mode="json")}
    draft = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        save_file(tensors, draft, {"bitsearch.format": str(FORMAT_VERSION), "bitsearch.layers": json.dumps(header)})
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def unpack(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Integer weight levels of every layer, by its name, in the weight's shape (int64).

    Raises:
        InputError: no packed file of this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("bitsearch.format") != str(FORMAT_VERSION):
                raise InputError(
                    f"{path} is not a packed file of version {FORMAT_VERSION}; write one with bitsearch deploy"
                )
            header = json.loads(metadata["bitsearch.layers"])
            return {name: _restored(file.get_tensor(f"{name}.weight"), layer) for name, layer in header.items()}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a packed file: {error}") from error


def _stored_levels(layer: QuantizedLayer) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Weight levels as non-negative numbers: the level plus q_max; one bit, −1 and 1, as 0 and 1."""
    levels = to_levels(layer.weight.detach(), layer.weight_step, layer.weight_bits, signed=True).codes.cpu().numpy()
    if int(layer.weight_bits) == 1:
        return ((levels + 1) // 2).astype(np.int64)
    return (levels + int(largest_level(layer.weight_bits, signed=True))).astype(np.int64)


def _restored(packed: Tensor, layer: dict[str, Any]) -> Tensor:
    bits, shape = layer["weight_bits"], layer["shape"]
    stored = torch.from_numpy(unpack_bits(packed.numpy(), bits, int(np.prod(shape)))).reshape(shape)
    return 2 * stored - 1 if bits == 1 else stored - (2 ** (bits - 1) - 1)


def _folded(layer: QuantizedLayer, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    outputs = layer.weight.shape[0]
    multiplier = layer.weight_step.detach().flatten().expand(outputs).clone()
    bias = getattr(layer, "bias", None)
    offset = torch.zeros_like(multiplier) if bias is None else bias.detach().clone()
    if norm is not None:
        assert isinstance(norm, _BATCH_NORMS)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight.detach()
        shift = torch.zeros_like(scale) if norm.bias is None else norm.bias.detach()
        multiplier, offset = multiplier * scale, (offset - norm.running_mean) * scale + shift
    return multiplier, offset


@torch.no_grad()
def _following_norms(network: nn.Module, example_input: Tensor) -> dict[str, nn.Module]:
    """The batch norm that reads each layer's output directly, found by one forward pass."""
    # The outputs stay alive until the pass is over, so that no other tensor gets the identity of one.
    outputs: list[tuple[str, Tensor]] = []
    found: dict[str, nn.Module] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, args, output: outputs.append((name, output))

    def match(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        found.update({name: module for name, tensor in outputs if tensor is args[0]})

    with ExitStack() as hooks, eval_mode(network):
        for name, layer in quantized_layers(network).items():
            hooks.callback(layer.register_forward_hook(remember(name)).remove)
        for module in network.modules():
            if isinstance(module, _BATCH_NORMS) and module.running_mean is not None:
                hooks.callback(module.register_forward_hook(match).remove)
        network(example_input)
    return found
