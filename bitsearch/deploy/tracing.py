"""A quantized network's graph: traced, in evaluation mode, with the shapes of its tensors.

A time axis joins the batch, ``[F·N, ...]``: between its quantized layers a deployed network treats every frame alone,
so that one graph, and one set of operations, serves static inputs and frames. Spikingjelly's layers in multi-step mode
do the same within each of them, so their torch parents take their place.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import base, layer
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node, Tracer

from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, quantized_layers
from bitsearch.layers.neurons import InputCurrent
from bitsearch.models.spiking import is_multi_step

_IN_TORCH: dict[type[nn.Module], type[nn.Module]] = {
    layer.BatchNorm1d: nn.BatchNorm1d,
    layer.BatchNorm2d: nn.BatchNorm2d,
    layer.MaxPool1d: nn.MaxPool1d,
    layer.MaxPool2d: nn.MaxPool2d,
    layer.AvgPool1d: nn.AvgPool1d,
    layer.AvgPool2d: nn.AvgPool2d,
    layer.AdaptiveAvgPool1d: nn.AdaptiveAvgPool1d,
    layer.AdaptiveAvgPool2d: nn.AdaptiveAvgPool2d,
    layer.Flatten: nn.Flatten,
    layer.Dropout: nn.Identity,
    layer.Dropout2d: nn.Identity,
    layer.SeqToANNContainer: nn.Sequential,
    layer.MultiStepContainer: nn.Sequential,
}
"""What spikingjelly's layers are on a single step, in evaluation mode."""


def frames_of(network: nn.Module, example_input: Tensor) -> int | None:
    """F, the length of the time axis of a quantized network's input, or None without one.

    Raises:
        InputError: layers that disagree, or a batch without these frames.
    """
    found = {layer.frames: name for name, layer in quantized_layers(network).items() if layer.frames is not None}
    if not found:
        multi = next((name for name, module in network.named_modules() if is_multi_step(module)), None)
        if multi is not None:
            raise InputError(f"{multi} takes a time axis, but no layer of the plan has frames; make the plan with it")
        return None
    if len(found) > 1:
        (few, one), (many, other) = sorted(found.items())[:2]
        raise InputError(
            f"layer {one!r} has inputs of {few} frames, layer {other!r} of {many}; deployed networks have one time axis"
        )
    (frames,) = found
    if example_input.dim() < 3 or example_input.shape[0] != frames:
        raise InputError(
            f"an input of shape {tuple(example_input.shape)} for a network that takes ({frames}, 'N', ...): its layers "
            "have a time axis of their own, which only an input with frames can give them in a deployed network"
        )
    return frames


@dataclass(frozen=True)
class Traced:
    """A network's graph, which takes ``[F·N, ...]`` where there are frames."""

    graph: GraphModule
    """Of a copy, with modules of its own."""
    shapes: dict[Node, tuple[int, ...]]
    """Of every node that is a tensor."""
    frames_alone: bool
    """The network itself, which sees the time axis, gives the same."""


def trace(network: nn.Module, example_input: Tensor, frames: int | None) -> Traced:
    """The graph of a network in evaluation mode.

    Raises:
        InputError: a forward pass that cannot be traced, or that cannot be run once frames are part of the batch.
    """
    network = copy.deepcopy(network).cpu().eval()
    example_input = example_input.cpu()
    expected = None if frames is None else network(example_input)
    _to_single_steps(network)
    try:
        graph = GraphModule(network, _Tracer().trace(network))
    except Exception as error:  # a user's forward may raise anything when it is run on symbols
        raise InputError(
            f"the network cannot be traced: {_reason(error)}; its forward pass may not depend on data"
        ) from error
    recorder = _Recorder(graph)
    try:
        result = recorder.run(example_input if frames is None else example_input.flatten(0, 1))
    except Exception as error:  # so may one that is written for a time axis and gets none
        what = "the examples" if frames is None else "frames that are part of the batch, [F·N, ...]"
        raise InputError(f"{recorder.running} cannot be run on {what}: {_reason(error)}") from error
    return Traced(graph, recorder.shapes, expected is None or _same(expected, result))


def _same(sequence: object, joined: object) -> bool:
    if not isinstance(sequence, Tensor) or not isinstance(joined, Tensor) or sequence.dim() < 2:
        return False
    sequence = sequence.flatten(0, 1)
    return sequence.shape == joined.shape and torch.allclose(sequence, joined, rtol=1e-4, atol=1e-4)


def _to_single_steps(network: nn.Module) -> None:
    """Put torch's layers in the place of spikingjelly's, in place."""
    for module in network.modules():
        if type(module) in _IN_TORCH:
            module.__class__ = _IN_TORCH[type(module)]
            # A forward pass may ask for it.
            module.step_mode = "s"  # type: ignore[assignment]
        elif isinstance(module, QuantizedLayer):
            module.step_mode = "s"  # type: ignore[assignment]
        elif isinstance(module, InputCurrent) and module.gain == 1:
            module.__class__ = nn.ReLU if module.rectified else nn.Identity  # type: ignore[assignment]
            module.inplace = False  # type: ignore[assignment]


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Spikingjelly's modules, so that what is refused has a name.
        whole = isinstance(m, base.StepModule) and not any(isinstance(inner, QuantizedLayer) for inner in m.modules())
        return isinstance(m, QuantizedLayer) or whole or super().is_leaf_module(m, module_qualified_name)


class _Recorder(Interpreter):
    """Notes the shapes of a graph's tensors, and which node runs."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self.shapes: dict[Node, tuple[int, ...]] = {}
        self.running = ""

    def run_node(self, n: Node) -> Any:
        self.running = str(n.target) if n.op == "call_module" else n.name
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
