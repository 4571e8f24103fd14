"""The quantized network in the deployed arithmetic: its own modules and graph, evaluated in float64.

Every value is a multiple of a power of two with at most 50 significant bits (:data:`.integer.bounds.LARGEST`),
so float64 holds it, and every sum of a convolution in whatever order, without rounding. Where the arithmetic itself
rounds, it is ⌊v + ½⌋, ties upward, and :func:`.rounding.quotient` says why a division cannot end on the wrong side.
What this computes is therefore one function, whatever the machine; the integer replay of the packed file is another
way to it.

An operation says what it is in float64; modules and functions that it asks for, with their geometry, are the network's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.fx.node import map_arg

from bitsearch.deploy.integer.interpreter import Observer, encode, unobserved
from bitsearch.deploy.integer.operations.operation import Float64Evaluation
from bitsearch.deploy.lower.fixed_point import weight_levels
from bitsearch.deploy.lower.lowering import Lowered
from bitsearch.layers import QuantizedLayer


class Float64Reference:
    """Evaluates a lowered network in float64.

    Args:
        lowered: from :func:`bitsearch.deploy.lower.lowering.lower`.
    """

    def __init__(self, lowered: Lowered) -> None:
        self._lowered = lowered

    @torch.no_grad()
    def __call__(self, x: Tensor, observer: Observer | None = None) -> Tensor:
        """Output ``[N, ...]`` for a batch, float64, with a time axis the sum over it.

        ``observer`` gets every step's ``spikes``, as integers.
        """
        network_input = self._lowered.program.input
        encoded = torch.ldexp(encode(x, network_input).double(), torch.tensor(-network_input.fraction))
        evaluation = _GraphEvaluation(self._lowered, observer or unobserved)
        result: Tensor = evaluation.run(encoded)
        # The sum over the frames is the program's, and no node of the graph.
        for index in range(len(self._lowered.operations), len(self._lowered.program.operations)):
            result = evaluation.operation(index, [result], _no_module)
        return result


class _GraphEvaluation(Interpreter):
    """Runs the graph, its operations as the program has them."""

    def __init__(self, lowered: Lowered, observer: Observer) -> None:
        super().__init__(lowered.graph)
        self._lowered, self._observer = lowered, observer

    def run_node(self, n: Node) -> Any:
        if n.name in self._lowered.folded:
            return self.fetch_args_kwargs_from_env(n)[0][0]
        index = self._lowered.operations.get(n.name)
        if index is None:
            return super().run_node(n)
        inputs: list[Tensor] = []
        map_arg((n.args, n.kwargs), lambda node: inputs.append(self.env[node]))
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        return self.operation(index, tensors, self._module(n))

    def operation(self, index: int, inputs: list[Tensor], module: Callable[..., Tensor]) -> Tensor:
        """The result of an operation of the program, by its index."""
        operation = self._lowered.program.operations[index]
        observer = partial(self._observer, operation.name)
        return operation.float64(inputs, Float64Evaluation(self._lowered.analysis.operations[index], observer, module))

    def _module(self, n: Node) -> Callable[..., Tensor]:
        """What a node calls, as a function of the tensors among its arguments."""
        module = self.submodules.get(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, QuantizedLayer):
            return partial(_level_sums, module)

        def evaluate(*inputs: Tensor) -> Tensor:
            tensors = iter(inputs)
            args, kwargs = map_arg(
                (n.args, n.kwargs),
                lambda node: next(tensors) if isinstance(self.env[node], Tensor) else self.env[node],
            )
            result: Tensor = getattr(self, n.op)(n.target, args, kwargs)
            return result

        return evaluate


def _level_sums(layer: QuantizedLayer, spikes: Tensor) -> Tensor:
    """The layer's convolution or product of whole spikes with its whole weight levels."""
    return layer.operation(spikes, layer.in_layout(weight_levels(layer).double()), None)


def _no_module(*inputs: Tensor) -> Tensor:
    raise AssertionError("an operation that is no node of the graph calls no module")
