"""A quantized network's graph: traced, in evaluation mode, with the shapes of its tensors.

A time axis joins the batch, ``[F·N, ...]``: between its quantized layers a deployed network treats every frame alone,
so that one graph, and one set of operations, serves static inputs and frames. Spikingjelly's layers in multi-step mode
do the same within each of them, so their torch parents take their place.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from spikingjelly.activation_based import base, layer
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node, Tracer

from bitsearch.deploy.lower.loop import LoopTracer, call_at_once, loop_rounds, roll_up
from bitsearch.deploy.lower.output_neurons import OUTPUT_NEURONS, OutputNeuron
from bitsearch.deploy.lower.time_axis import drop_read_out, drop_repeat, frames_of, reads_out, shift_axes
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import reset_states
from bitsearch.frameworks.spikingjelly import DROPOUTS
from bitsearch.layers import QuantizedLayer
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron

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
    **dict.fromkeys(DROPOUTS, nn.Identity),
    layer.SeqToANNContainer: nn.Sequential,
    layer.MultiStepContainer: nn.Sequential,
}
"""What spikingjelly's layers are on a single step, in evaluation mode."""


@dataclass(frozen=True)
class Traced:
    """A network's graph, which takes ``[F·N, ...]`` where there are frames."""

    graph: GraphModule
    """Of a copy, with modules of its own."""
    shapes: dict[Node, tuple[int, ...]]
    """Of every node that is a tensor."""
    frames: int | None
    """F, the length of the time axis."""
    repeated: bool
    """Whether the network's input is static, and its forward pass shows it at every one of the frames."""
    frames_independent: bool
    """The network itself, which sees the time axis, gives the same."""
    looped: bool = False
    """Whether a loop in the forward pass calls the layers frame by frame."""


def trace(network: nn.Module, example_input: Tensor) -> Traced:
    """The graph of a network in evaluation mode, and its time axis.

    Args:
        network: quantized; membranes of its own neurons are reset.
        example_input: a batch ``[N, ...]``, or ``[F, N, ...]`` with a time axis.

    Raises:
        InputError: layers that disagree on the time axis, or a batch without it; a forward pass that cannot be
            traced, or that cannot be run once frames are part of the batch.
    """
    frames, rounds = frames_of(network), loop_rounds(network)
    reset_states(network)
    original = copy.deepcopy(network).cpu().eval()
    network = copy.deepcopy(original)
    example_input = example_input.cpu()
    _to_single_steps(network, frames)
    if rounds is not None:
        call_at_once(network)
    try:
        tracer = _Tracer() if rounds is None else _OfLoop(example_input, rounds)
        graph = GraphModule(network, tracer.trace(network))
    except Exception as error:  # a user's forward may raise anything when it is run on symbols
        raise InputError(
            f"the network cannot be traced: {_reason(error)}; its forward pass may not depend on data"
        ) from error
    if frames is None:
        shapes, _ = _run(graph, example_input, "the examples")
        return Traced(graph, shapes, None, repeated=False, frames_independent=True)
    repeated = drop_repeat(graph, frames) if rounds is None else roll_up(graph, rounds)
    if not repeated and frames == 1 and example_input.shape[0] != 1:
        raise InputError(
            f"an input of shape {tuple(example_input.shape)} for a plan of inputs with a single frame, (1, 'N', ...); "
            "give it these, or make the plan of inputs with as many frames as yours have"
        )
    if not repeated and (example_input.dim() < 3 or example_input.shape[0] != frames):
        raise InputError(
            f"an input of shape {tuple(example_input.shape)} for a network that takes ({frames}, 'N', ...): its layers "
            "have a time axis of their own; give it an input with frames, or make them of a static one by "
            f"x.unsqueeze(0).repeat({frames}, 1, ...) in its forward pass"
        )
    # What a loop does with all that it collected is told by its result.
    read_outs = (drop_read_out(graph),) if rounds is None else ("mean", "sum", None)
    expected = original(example_input)
    joined = example_input.repeat(frames, *[1] * (example_input.dim() - 1)) if repeated else example_input.flatten(0, 1)
    traced = _joined(graph, joined, expected, frames, read_outs)
    if not isinstance(traced, Traced) or not traced.frames_independent:
        # A forward pass that is written for [F, N, C, ...] counts its axes from there.
        renamed = copy.deepcopy(graph)
        if shift_axes(renamed):
            other = _joined(renamed, joined, expected, frames, read_outs)
            traced = other if isinstance(other, Traced) and other.frames_independent else traced
    if not isinstance(traced, Traced):
        raise traced
    return replace(traced, repeated=repeated, looped=rounds is not None)


def _joined(
    graph: GraphModule, x: Tensor, expected: object, frames: int, read_outs: Sequence[str | None]
) -> Traced | InputError:
    """The graph on frames that are part of the batch, or why it cannot be run on these."""
    try:
        shapes, result = _run(graph, x, "frames that are part of the batch, [F·N, ...]")
    except InputError as error:
        return error
    independent = any(reads_out(expected, result, frames, read_out) for read_out in read_outs)
    return Traced(graph, shapes, frames, repeated=False, frames_independent=independent)


def _run(graph: GraphModule, x: Tensor, description: str) -> tuple[dict[Node, tuple[int, ...]], object]:
    """(shapes of the graph's tensors, result)."""
    recorder = _Recorder(graph)
    try:
        return recorder.shapes, recorder.run(x)
    except Exception as error:  # so may one that is written for a time axis and gets none
        raise InputError(f"{recorder.running} cannot be run on {description}: {_reason(error)}") from error


def _to_single_steps(network: nn.Module, frames: int | None) -> None:
    """Put torch's layers in the place of spikingjelly's, in place, and read-outs in that of its neurons."""
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if type(module) in _IN_TORCH:
            module.__class__ = _IN_TORCH[type(module)]
            # A forward pass may ask for it.
            module.step_mode = "s"
        elif isinstance(module, QuantizedLayer):
            module.step_mode = "s"  # type: ignore[assignment]  # torch's typing of attributes
        elif isinstance(module, layer.VotingLayer):
            votes = nn.Unflatten(1, (1, -1)), nn.AvgPool1d(module.voting_size), nn.Flatten()
            _replace(network, path, nn.Sequential(*votes))
        elif type(module) in OUTPUT_NEURONS:
            _replace(network, path, OutputNeuron(module, frames))
        elif isinstance(module, InputCurrent):
            scaled: nn.Module = nn.Identity() if module.is_identity else InputCurrent(module.gain, rectified=False)
            if isinstance(module, PlacedNeuron):
                scaled = nn.Sequential(scaled, PlacedNeuron(1.0, module.owner))
            _replace(network, path, nn.Sequential(scaled, nn.ReLU()) if module.rectified else scaled)


def _replace(network: nn.Module, path: str, replacement: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    setattr(network.get_submodule(parent), child, replacement)


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Spikingjelly's modules, so that what is refused has a name.
        stateful = isinstance(m, base.StepModule) and not any(
            isinstance(inner, QuantizedLayer) for inner in m.modules()
        )
        custom = isinstance(m, QuantizedLayer | InputCurrent | OutputNeuron)
        return custom or stateful or super().is_leaf_module(m, module_qualified_name)


class _OfLoop(LoopTracer, _Tracer):
    """Of a network that calls its layers once a frame."""


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
