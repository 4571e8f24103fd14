"""The integer interpreter of a packed network: int16, int32 and int64 tensors, no float after the input's encoding."""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod

import torch
from torch import Tensor

from bitsearch.deploy.integer.layer_tensors import LayerTensors
from bitsearch.deploy.integer.operations.operation import IntegerEvaluation
from bitsearch.deploy.integer.packed_layer import LayerNumbers
from bitsearch.deploy.integer.program import NetworkInput, Program
from bitsearch.deploy.integer.ranges import Analysis, analyse_ranges
from bitsearch.errors import InputError

_AT_ONCE = 1 << 18
"""Currents of the largest value that are worked on at a time: what is made of them should stay in a cache."""

Observer = Callable[[str, str, int, Tensor], None]
"""Gets (operation, what, time step, integers): ``membrane`` and ``spikes`` of every step, then ``accumulator``."""


def unobserved(operation: str, quantity: str, step: int, integers: Tensor) -> None:
    """The observer that observes nothing."""


def encode(x: Tensor, network_input: NetworkInput) -> Tensor:
    """The input as currents, int32: ⌊x·2^fraction + ½⌋, saturated; InputError for NaN or another shape.

    ``[N, ...]`` to the same; with a time axis ``[F, N, ...]``, or ``[N, ...]`` where it is repeated, to ``[F·N, ...]``.

    A product with a power of two and a float32's sum with ½ are exact in float64 wherever the result may depend on it.
    """
    axes = network_input.axes
    if x.dim() != len(axes) or any(axis not in ("N", size) for size, axis in zip(x.shape, axes, strict=True)):
        raise InputError(f"an input of shape {tuple(x.shape)} for a network that takes {axes}")
    x = x.flatten(0, axes.index("N"))
    if bool(x.isnan().any()):
        raise InputError("the input holds NaN, which has no integer")
    scaled = torch.floor(torch.ldexp(x.double(), torch.tensor(network_input.fraction)) + 0.5)
    currents = scaled.clamp(-network_input.largest, network_input.largest).to(torch.int32)
    return (
        currents.repeat(network_input.frames or 1, *[1] * len(network_input.shape))
        if network_input.repeated
        else currents
    )


class Replay:
    """A program with its numbers, ready to run.

    Args:
        program: the operations.
        numbers: tensors of every layer.
        analysis: what :func:`bitsearch.deploy.integer.ranges.analyse_ranges` says of them, where it is known already.

    Raises:
        InputError: as :func:`bitsearch.deploy.integer.ranges.analyse_ranges`.
    """

    def __init__(self, program: Program, numbers: Mapping[str, LayerNumbers], analysis: Analysis | None = None) -> None:
        self.program = program
        self.analysis = analyse_ranges(program, numbers) if analysis is None else analysis
        # A layer is prepared once, however often it runs, and not at all if it never does.
        accumulators: dict[str, int] = {}
        for index, run in program.runs():
            widths = self.analysis.operations[index].widths
            accumulator = 0 if widths is None else widths.accumulator or 0
            accumulators[run.layer] = max(accumulators.get(run.layer, 0), accumulator)
        self._tensors = {
            name: LayerTensors(program.layers[name], numbers[name], accumulators[name]) for name in sorted(accumulators)
        }
        largest = max(prod(value.shape) for value in self.analysis.values) * (program.input.frames or 1)
        self._at_once = max(_AT_ONCE // largest, 1)

    def __call__(self, x: Tensor, observer: Observer | None = None) -> Tensor:
        """Output currents ``[N, ...]`` of a batch of inputs, int64, in the unit of the last value."""
        if observer is not None:
            return self._run(x, observer)
        axis = self.program.input.axes.index("N")
        return torch.cat([self._run(part, unobserved) for part in x.split(self._at_once, axis)])

    def _run(self, x: Tensor, observer: Observer) -> Tensor:
        values = [encode(x, self.program.input)]
        last_use = {
            value: index for index, operation in enumerate(self.program.operations) for value in operation.inputs
        }
        for index, operation in enumerate(self.program.operations):
            evaluation = IntegerEvaluation(
                self.analysis.operations[index], partial(observer, operation.name), self._tensors
            )
            result = operation.integers([values[value] for value in operation.inputs], evaluation)
            values.append(result)
            for value in operation.inputs:
                if last_use[value] == index:
                    values[value] = result.new_empty(0)
        return values[-1].long()
