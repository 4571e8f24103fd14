"""What every operation has: fields, a shape and range, and one meaning in two arithmetics, integers and float64.

An operation is one class. Whatever walks over a program (:mod:`bitsearch.deploy.integer.ranges`,
:mod:`bitsearch.deploy.integer.interpreter`, the float64 reference) calls its methods and knows nothing else of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bitsearch.deploy.integer.bounds import MOST_ELEMENTS, NeuronWidths, Range, integer_type
from bitsearch.deploy.integer.fields import Value
from bitsearch.deploy.integer.layer_tensors import LayerTensors
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.validation import Frozen, Name

OperationObserver = Callable[[str, int, Tensor], None]
"""Gets (what, time step, integers) while an operation is evaluated: ``membrane``, ``spikes`` or ``accumulator``."""


@dataclass(frozen=True)
class ProgramContext:
    """What an operation may know of its program."""

    frames: int
    """F, the length of the time axis; 1 without one."""
    layers: Mapping[str, PackedLayer]
    numbers: Mapping[str, LayerNumbers]

    @property
    def most_elements(self) -> int:
        """Most currents that a frame of a value may have."""
        return MOST_ELEMENTS // self.frames


@dataclass(frozen=True)
class OperationRanges:
    """What is known of an operation before it is evaluated."""

    program: ProgramContext
    inputs: Sequence[Range]
    result: Range
    widths: NeuronWidths | None
    """Of an operation that spikes or sums up spikes."""

    @property
    def dtype(self) -> torch.dtype:
        """Of integers that hold the result."""
        return integer_type(self.result.magnitude)


@dataclass(frozen=True)
class IntegerEvaluation:
    """An operation is evaluated on integer tensors."""

    ranges: OperationRanges
    observer: OperationObserver
    tensors: Mapping[str, LayerTensors]
    """By layer."""


@dataclass(frozen=True)
class Float64Evaluation:
    """An operation is evaluated in float64, on real numbers, by the network's own modules and functions."""

    ranges: OperationRanges
    observer: OperationObserver
    module: Callable[..., Tensor]
    """The one that became the operation; of a layer its convolution or product with whole weight levels."""


class Operation(Frozen, ABC):
    """One step of a program: makes a value of values.

    Values are currents ``[F·N, ...]``, ``[N, ...]`` without a time axis; their shapes are those of one frame.
    """

    op: str
    """Its name in packed files."""
    name: Name
    inputs: tuple[Value, ...]
    spiking: ClassVar[bool] = False
    """Whether it has a membrane."""

    def widths(self, inputs: Sequence[Range], program: ProgramContext) -> NeuronWidths | None:
        """Bounds inside, of an operation that spikes or sums up spikes; asked for first.

        Raises:
            InputError: integers beyond what is allowed; names the operation.
        """
        return None

    @abstractmethod
    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Shape, fraction and range of the result, which is compared with what is allowed by whoever asks.

        Raises:
            InputError: shapes that do not fit, or integers or memory beyond what is allowed on the way to the result;
                names the operation.
        """

    @abstractmethod
    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """The result on integers, int32 or int64."""

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The result in float64: what the network's module makes of it, which is exact where nothing is rounded."""
        return evaluation.module(*inputs)
