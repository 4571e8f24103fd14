"""Weights of a network as a safetensors file."""

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.layers.convert import quantized_layers
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.quantized import QuantizedLayer


def save_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the network's state to ``path``, whole or not at all; StorageError if it cannot be written.

    Of a :class:`QuantizedNetwork`, as :func:`bitsearch.quantize` returns it, the network inside is written, so that
    :func:`bitsearch.apply` and this file make it again.

    >>> bitsearch.save_weights(torch.nn.Linear(2, 1), "weights.safetensors")
    """
    # Copies, since safetensors refuses tensors that share memory, as tied weights do.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in bare(network).state_dict().items()}
    write_whole(Path(path), save(state))


def weights_checksum(network: nn.Module) -> str:
    """SHA-256 of the state that :func:`save_weights` writes: of each tensor by name, name and bytes, zero-ended."""
    digest = hashlib.sha256()
    for name, value in sorted(bare(network).state_dict().items()):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a state that :func:`save_weights` wrote, in place.

    Raises:
        InputError: no such file, not safetensors, or of another network or plan; names the first tensor that is off.

    >>> network = torch.nn.Linear(2, 1)
    >>> bitsearch.save_weights(network, "weights.safetensors")
    >>> bitsearch.load_weights(network, "weights.safetensors")
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights at {path}; give the path of a .safetensors file")
    try:
        state = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error
    network = bare(network)
    expected = network.state_dict()
    if (
        state
        and all(name.startswith(_PREFIX) for name in state)
        and not any(name.startswith(_PREFIX) for name in expected)
    ):
        # Written of a QuantizedNetwork by an earlier version, or by its own state_dict().
        state = {name.removeprefix(_PREFIX): value for name, value in state.items()}
    for path_of, module in network.named_modules():
        if isinstance(module, InputCurrent):
            # Files from before a network's own neurons could have learned theirs.
            state.setdefault(f"{path_of}.gain", module.gain.detach().cpu())
        elif isinstance(module, QuantizedLayer) and module.released is not None:
            # Or whether their spikes have more than one level by now.
            state.setdefault(f"{path_of}.released", module.released.detach().cpu())
    for name in [*expected, *state]:
        if name not in state or name not in expected:
            where = "lacks" if name not in state else "has an unknown"
            raise InputError(f"{path} {where} tensor {name!r}; it belongs to another network or plan")
        if state[name].shape != expected[name].shape:
            raise InputError(
                f"{path}: tensor {name!r} has shape {tuple(state[name].shape)}, "
                f"the network's {tuple(expected[name].shape)}; it belongs to another network or plan"
            )
    for layer_name, layer in quantized_layers(network).items():
        for buffer in () if layer.is_learnable else ("weight_bits", "spike_bits", "time_steps"):
            if not torch.equal(state[f"{layer_name}.{buffer}"].cpu(), getattr(layer, buffer).cpu()):
                raise InputError(
                    f"{path} was trained with other {buffer} in layer {layer_name!r}; it belongs to another plan"
                )
    names = {layer: name for name, layer in quantized_layers(network).items()}
    for layer, name in names.items():
        steps = [state[f"{names[other]}.weight_log_step"] for other in layer.weight_partners if other in names]
        if not all(torch.equal(step, state[f"{name}.weight_log_step"]) for step in steps):
            # A file from before layers with one weight had one step size of it.
            layer.part_weight_step()
    with torch.no_grad():
        network.load_state_dict(state)


_PREFIX = "network."
"""Of the names in the state of a :class:`QuantizedNetwork`."""


def bare(network: nn.Module) -> nn.Module:
    """What a :class:`QuantizedNetwork` holds, with the names that a plan has; any other network as it is."""
    return network.network if isinstance(network, QuantizedNetwork) else network
