"""What a forward pass does to its time axis at either end, taken off its graph: deployed programs have their own."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from bitsearch.deploy.lower.rules import CONCATENATE
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import is_multi_step, reset_states
from bitsearch.layers import quantized_layers

_AXES: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys(CONCATENATE, ("dim",)),
    torch.flatten: ("start_dim", "end_dim"),
    "flatten": ("start_dim", "end_dim"),
}
"""Which arguments behind the first name an axis."""


def frames_of(network: nn.Module) -> int | None:
    """F, the length of the time axis of a quantized network's layers, or None without one.

    Modules that take sequences, in a network whose layers know of no time axis, take those of a single frame.

    Raises:
        InputError: layers that disagree.
    """
    layer_names = {layer.frames: name for name, layer in quantized_layers(network).items() if layer.frames is not None}
    if not layer_names:
        return 1 if any(_takes_sequences(module) for module in network.modules()) else None
    if len(layer_names) > 1:
        (few, first_name), (many, second_name) = sorted(layer_names.items())[:2]
        raise InputError(
            f"layer {first_name!r} has inputs of {few} frames, layer {second_name!r} of {many}; "
            "deployed networks have one time axis"
        )
    (frames,) = layer_names
    return frames


def _takes_sequences(module: nn.Module) -> bool:
    # A quantized layer of spikingjelly's has its step mode where that has it.
    return is_multi_step(module) or getattr(module, "_step_mode", "s") == "m"


@torch.no_grad()
def sample_axis(network: nn.Module, example_input: Tensor) -> int:
    """Which axis of the input of a network, which returns ``[N, classes]``, holds the samples: 0, or 1 behind time.

    The axis that the results get shorter with: a network may make its time axis itself, of an input without one.
    """
    if example_input.dim() < 2 or example_input.shape[1] < 2:
        return 0
    reset_states(network)
    results = network(example_input)
    reset_states(network)
    try:
        fewer = network(example_input[:, 1:])
    except Exception:  # which a forward pass may raise for another number of channels
        return 0
    finally:
        reset_states(network)
    return 1 if len(fewer) < len(results) else 0


def drop_repeat(graph: GraphModule, frames: int) -> bool:
    """Whether the network shows a static input at F = ``frames`` steps, as ``x.unsqueeze(0).repeat(F, 1, …)`` does.

    It is taken off, so that everything in front of it treats every frame alone, and gives the same for all.
    """
    for node in graph.graph.nodes:
        source = node.args[0] if node.op == "call_method" and node.target in ("repeat", "expand") else None
        if not isinstance(source, Node) or source.target not in ("unsqueeze", torch.unsqueeze):
            continue
        first, *remaining = _sizes(node)
        unchanged = (1,) if node.target == "repeat" else (1, -1)
        if _axis(source) == 0 and first == frames and all(size in unchanged for size in remaining):
            node.replace_all_uses_with(source.args[0])
            graph.graph.erase_node(node)
            if not source.users:
                graph.graph.erase_node(source)
            graph.recompile()
            return True
    return False


def _sizes(node: Node) -> Iterator[object]:
    sizes = node.args[1:]
    yield from sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes


def _axis(unsqueeze: Node) -> object:
    return unsqueeze.args[1] if len(unsqueeze.args) > 1 else unsqueeze.kwargs.get("dim")


def drop_read_out(graph: GraphModule) -> str | None:
    """``mean`` or ``sum`` where this over the frames ends the forward pass."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    last = output.args[0]
    if not isinstance(last, Node) or last.op not in ("call_method", "call_function"):
        return None
    name = getattr(last.target, "__name__", str(last.target))
    over_frames = (last.args[1:], dict(last.kwargs)) in (((0,), {}), ((), {"dim": 0}))
    if last.target not in ("mean", "sum", torch.mean, torch.sum) or not over_frames or len(last.users) > 1:
        return None
    output.args = (last.args[0],)
    graph.graph.erase_node(last)
    graph.recompile()
    return name


def reads_out(result: object, joined: object, frames: int, read_out: str | None) -> bool:
    """Whether a network's result is the ``read_out``, mean or sum, of ``joined``, ``[F·N, ...]``, or that unfolded."""
    if not isinstance(result, Tensor) or not isinstance(joined, Tensor) or joined.shape[0] % frames:
        return False
    expected: Tensor = joined.unflatten(0, (frames, -1))
    if read_out is not None:
        expected = expected.mean(0) if read_out == "mean" else expected.sum(0)
    return result.shape == expected.shape and torch.allclose(result, expected, rtol=1e-4, atol=1e-4)


def shift_axes(graph: GraphModule) -> bool:
    """Name axes as they are once the first two are one, in place: what was axis 2 of ``[F, N, C, ...]`` is axis 1.

    Returns:
        Whether there is any such name.
    """
    shifted = False
    for node in graph.graph.nodes:
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if type(module) is nn.Flatten and module.start_dim > 1:
            module.start_dim, shifted = module.start_dim - 1, True
            module.end_dim -= module.end_dim > 1
        for place, name in enumerate(_AXES.get(node.target, ()), 1):
            axis = node.args[place] if len(node.args) > place else node.kwargs.get(name)
            if not isinstance(axis, int) or axis < 2:
                continue
            if len(node.args) > place:
                node.update_arg(place, axis - 1)
            else:
                node.update_kwarg(name, axis - 1)
            shifted = True
    graph.recompile()
    return shifted
