"""Operations along the time axis, behind the last layer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from bitsearch.deploy.integer.bounds import NeuronWidths, Range, check_width
from bitsearch.deploy.integer.fields import DECAY_FRACTION, Decay, Value
from bitsearch.deploy.integer.operations.operation import (
    Float64Evaluation,
    IntegerEvaluation,
    Operation,
    OperationRanges,
    ProgramContext,
)
from bitsearch.deploy.integer.rounding import decayed, half, rounded


class Fire(Operation):
    """The spikes of a neuron that reads the network out: 1 where the membrane reaches ``threshold``, 0 elsewhere.

    Frame by frame, with currents x_f and u_0 = x_0, in their unit: what is left of the membrane, r_f = u_f −
    threshold·spike_f, or u_f·(1 − spike_f) with a hard reset, becomes u_(f+1) = x_(f+1) +
    ⌊(r_f·decay + 2^15) / 2^16⌋. Without a time axis there is one frame. The result has fraction 0.
    """

    op: Literal["fire"] = "fire"
    inputs: tuple[Value]
    threshold: int = Field(ge=1, lt=1 << 50)
    decay: Decay
    hard: bool
    spiking: ClassVar[bool] = True

    def widths(self, inputs: Sequence[Range], program: ProgramContext) -> NeuronWidths:
        """Of the membrane and of what is left of it, times the decay."""
        (x,) = inputs
        low = high = largest = 0
        for _ in range(program.frames):
            low, high = low + x.low, high + x.high
            largest = max(largest, -low, high)
            # Silent, the membrane stays below the threshold; what fired is at zero, or a threshold below where it was.
            low, high = (
                min(low, 0),
                max(min(high, self.threshold - 1), 0 if self.hard else high - self.threshold),
            )
            if self.decay != 1 << DECAY_FRACTION:
                largest = max(largest, max(-low, high) * self.decay + half(DECAY_FRACTION))
                low, high = decayed(low, self.decay), decayed(high, self.decay)
            check_width(self.name, largest)
        return NeuronWidths(largest, x.fraction)

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """0 and 1."""
        return Range(inputs[0].shape, 0, 0, 1)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """Membranes in 64 bits."""
        spikes: list[Tensor] = []
        currents = _by_frame(inputs[0].long(), evaluation.ranges)
        residual = torch.zeros_like(currents[0])
        for t, current in enumerate(currents):
            membrane = residual + current
            fired = membrane >= self.threshold
            spikes.append(fired.to(evaluation.ranges.dtype))
            evaluation.observer("membrane", t, membrane)
            evaluation.observer("spikes", t, spikes[-1])
            residual = membrane.masked_fill(fired, 0) if self.hard else membrane - self.threshold * spikes[-1].long()
            if self.decay != 1 << DECAY_FRACTION:
                residual = decayed(residual, self.decay)
        return torch.cat(spikes)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The same recurrence on real numbers: the network's neuron, but for its rounded decay and threshold."""
        (fraction,) = (value.fraction for value in evaluation.ranges.inputs)
        threshold, decay = self.threshold * 2.0**-fraction, self.decay * 2.0**-DECAY_FRACTION
        membrane = torch.zeros(())
        spikes: list[Tensor] = []
        for t, current in enumerate(_by_frame(inputs[0], evaluation.ranges)):
            membrane = membrane + current
            fired = (membrane >= threshold).double()
            evaluation.observer("spikes", t, fired.long())
            residual = membrane * (1 - fired) if self.hard else membrane - threshold * fired
            membrane = rounded(decay * residual, fraction)
            spikes.append(fired)
        return torch.cat(spikes)


class SumFrames(Operation):
    """The sum of a value's frames: F times the mean that the prediction is. Ends a program with a time axis."""

    op: Literal["sum_frames"] = "sum_frames"
    inputs: tuple[Value]

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """F times those of the input."""
        return replace(inputs[0], low=program.frames * inputs[0].low, high=program.frames * inputs[0].high)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """``[F·N, ...]`` to int64 ``[N, ...]``."""
        return _by_frame(inputs[0].long(), evaluation.ranges).sum(0)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The same sum."""
        return _by_frame(inputs[0], evaluation.ranges).sum(0)


def _by_frame(x: Tensor, ranges: OperationRanges) -> Tensor:
    """``[F·N, ...]`` as ``[F, N, ...]``."""
    result: Tensor = x.unflatten(0, (ranges.program.frames, -1))
    return result
