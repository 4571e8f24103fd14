"""A loop over frames in a forward pass, as the one round that it does for every frame.

A loop whose rounds have nothing in common but the membranes of its neurons is its multi-step twin: a layer that keeps
its membrane from round to round does the same with all frames at once. So of the rounds, traced one by one, one is
left, and frames are part of its batch.
"""

import operator
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, Proxy, Tracer
from torch.fx.node import map_arg

from bitsearch.deploy.lower.output_neurons import OutputNeuron
from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, quantized_layers

Rounds = frozenset[int]
"""The rounds of a loop that a value comes from; none of what comes before it."""


class LoopTracer(Tracer):
    """Follows a loop over the frames of the network's input, round by round.

    Args:
        example_input: its first axis has as many frames as the loop has rounds, unless the loop sees a static input.
        frames: how many rounds the loop has.
    """

    def __init__(self, example_input: Tensor, frames: int) -> None:
        super().__init__()
        self.example_shape, self.frames = tuple(example_input.shape), frames

    def proxy(self, node: Node) -> Proxy:
        """The network's input has a length."""
        is_input = node.op == "placeholder" and self.example_shape[0] == self.frames
        return _Frames(node, self) if is_input else super().proxy(node)

    def iter(self, obj: Proxy) -> Iterator[Any]:
        """Frame by frame."""
        sequence: Any = obj
        return iter([sequence[frame] for frame in range(self.frames)])


class _Frames(Proxy):
    """A sequence, of which the number of frames is known."""

    tracer: LoopTracer

    def __len__(self) -> int:
        return self.tracer.frames

    @property
    def shape(self) -> tuple[Any, ...]:
        """The first is a number."""
        sizes: Any = super().__getattr__("shape")
        return (len(self), *(sizes[axis] for axis in range(1, len(self.tracer.example_shape))))

    def size(self, axis: int | None = None) -> Any:
        """As torch has it."""
        return self.shape if axis is None else self.shape[axis]


def loop_rounds(network: nn.Module) -> int | None:
    """How many rounds the loop has that calls quantized layers once a frame; None without one."""
    return next((layer.frames for layer in quantized_layers(network).values() if layer.loop == "frames"), None)


def call_at_once(network: nn.Module) -> None:
    """Let the layers of a loop, and the neurons that read it out, take all frames in one call, in place."""
    for module in network.modules():
        if isinstance(module, QuantizedLayer) and module.loop in ("frames", "same"):
            module.loop = None
        elif isinstance(module, OutputNeuron):
            module.spiking.step_mode = "m"  # type: ignore[assignment]  # torch's typing of attributes


def roll_up(graph: GraphModule, frames: int) -> bool:
    """Leave one round of a loop, in place; its frames are then part of the batch.

    Returns:
        Whether the loop sees one static input in every round.

    Raises:
        InputError: a round reads what another one computed, or does something else than another one; names it.
    """
    graph.graph.eliminate_dead_code()
    rounds = _rounds(graph, frames)
    last = frozenset([frames - 1])
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    ends = [node for node in rounds if rounds[node] == last and any(rounds[user] != last for user in node.users)]
    if len(ends) != 1:
        names = ", ".join(node.name for node in ends) or "nothing"
        raise InputError(
            f"the loop of the forward pass hands on {names} from its last round; to deploy the network, collect one "
            "tensor a frame, and return these, their sum or their mean"
        )
    (end,) = ends
    alike = _alike(rounds)
    for number in range(frames):
        if not any(alike[node] == alike[end] for node in alike if rounds[node] == {number}):
            raise InputError(
                f"the loop of the forward pass does something else in round {number + 1} than in the last one; to "
                "deploy the network, let it do the same for every frame"
            )
    selected = [node for node in rounds if rounds[node] == last and _frame_of(node, rounds) is not None]
    for node in selected:
        node.replace_all_uses_with(_sequence(node))
    output.args = (end,)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return not selected


def _rounds(graph: GraphModule, frames: int) -> dict[Node, Rounds]:
    """Of every node; InputError where a layer reads what another round computed."""
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    seen: Counter[str] = Counter()
    rounds: dict[Node, Rounds] = {}
    for node in graph.graph.nodes:
        own = frozenset().union(*(rounds[source] for source in node.all_input_nodes))
        frame = _frame_of(node, rounds)
        if frame is not None:
            own |= {frame}
        elif node.op == "call_module":
            name = str(node.target)
            if calls[name] == frames:
                own |= {seen[name]}
            elif isinstance(graph.get_submodule(name), QuantizedLayer) and (calls[name] > 1 or own):
                raise InputError(
                    f"layer {name!r} runs {calls[name]} times for the result of a loop of {frames} rounds; to deploy "
                    "the network, call it once a frame, and give any other call a layer of its own"
                )
            seen[name] += 1
            if len(own) > 1 and calls[name] == frames:
                raise InputError(
                    f"{name} reads in one round of the forward pass's loop what another one computed; a recurrence "
                    "cannot be deployed: take layers that read the frame alone"
                )
        rounds[node] = own
    return rounds


def _frame_of(node: Node, rounds: dict[Node, Rounds]) -> int | None:
    """Which frame a node picks out of a sequence, ``x[frame]``; None if it does something else."""
    if node.op != "call_function" or node.target is not operator.getitem or not isinstance(node.args[1], int):
        return None
    source = node.args[0]
    return node.args[1] if isinstance(source, Node) and not rounds[source] else None


def _sequence(node: Node) -> Node:
    """What a node picks a frame out of."""
    (source,) = node.all_input_nodes
    unbound = source.target in ("unbind", torch.unbind)
    return source.all_input_nodes[0] if unbound else source


def _alike(rounds: dict[Node, Rounds]) -> dict[Node, int]:
    """A number for every node of the loop, the same for those that compute the same of their rounds' frames."""
    numbers: dict[tuple[str, ...], int] = {}
    alike: dict[Node, int] = {}
    for node in rounds:
        if not rounds[node]:
            continue

        def name(source: Node) -> str:
            return f"#{alike[source]}" if source in alike else source.name

        picks = _frame_of(node, rounds) is not None
        arguments = (name(node.args[0]),) if picks else map_arg((node.args, dict(node.kwargs)), name)  # type: ignore[arg-type]  # any argument
        key = (node.op, str(node.target), repr(arguments))
        alike[node] = numbers.setdefault(key, len(numbers))
    return alike
