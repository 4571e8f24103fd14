"""Operations on windows over the last axes, ``[C, L]`` or ``[C, H, W]``."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Literal

from torch import Tensor
from torch.nn import functional

from bitsearch.deploy.integer.bounds import Range, check_width
from bitsearch.deploy.integer.fields import Padding, Pair, Value
from bitsearch.deploy.integer.operations.operation import (
    Float64Evaluation,
    IntegerEvaluation,
    Operation,
    ProgramContext,
)
from bitsearch.deploy.integer.operations.windows import window_counts
from bitsearch.deploy.integer.rounding import mean, rounded
from bitsearch.errors import InputError


class MaxPool(Operation):
    """The largest current in each window over the last axes; padding never wins."""

    op: Literal["max_pool"] = "max_pool"
    inputs: tuple[Value]
    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Those of the input; InputError for windows that do not fit."""
        shape = window_counts(
            self.name,
            inputs[0].shape,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            most_elements=program.most_elements,
        )
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel, strict=True)):
            raise InputError(f"{self.name}: padding {self.padding} is more than half of the window")
        lengths = inputs[0].shape[1:]
        if any(pad and spread > size for pad, spread, size in zip(self.padding, self.dilation, lengths, strict=True)):
            # Its two taps are before the first current and behind the last one; no more fit with such a dilation.
            raise InputError(f"{self.name}: a window of dilation {self.dilation} lies in the padding alone")
        return replace(inputs[0], shape=shape)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the type of the input."""
        (x,) = inputs
        if len(self.kernel) == 2:
            return functional.max_pool2d(x, self.kernel, self.stride, self.padding, self.dilation)
        # Torch has no 1-d pooling of integers.
        flat = functional.max_pool2d(
            x.unsqueeze(-2), (1, *self.kernel), (1, *self.stride), (0, *self.padding), (1, *self.dilation)
        )
        return flat.squeeze(-2)


class AveragePool(Operation):
    """The mean of each window of k currents, padding counted as zeros.

    ⌊(2·sum·2^c + k) / (2·k)⌋ with c = ⌈log2 k⌉, c bits finer than the input: exact where k is a power of two.
    """

    op: Literal["average_pool"] = "average_pool"
    inputs: tuple[Value]
    kernel: Pair
    stride: Pair
    padding: Padding

    @property
    def window(self) -> int:
        """How many currents are averaged, k."""
        return prod(self.kernel)

    @property
    def finer(self) -> int:
        """By how many bits the unit becomes finer, c."""
        return (self.window - 1).bit_length()

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Those of the input and of zero; InputError for windows that do not fit, or sums that are too wide."""
        (x,) = inputs
        shape = window_counts(
            self.name,
            x.shape,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=(1,) * len(self.kernel),
            most_elements=program.most_elements,
        )
        low, high = min(x.low, 0), max(x.high, 0)
        scale = self.window << (self.finer + 1)
        check_width(self.name, max(-low, high) * scale + self.window)
        return Range(shape, x.fraction + self.finer, low << self.finer, high << self.finer)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """Sums in 64 bits."""
        return mean(self._sums(inputs[0].long()), self.window, self.finer).to(evaluation.ranges.dtype)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The network's mean, rounded."""
        return rounded(evaluation.module(*inputs), evaluation.ranges.result.fraction)

    def _sums(self, x: Tensor) -> Tensor:
        axes = range(2, 2 + len(self.kernel))
        if tuple(x.shape[2:]) == self.kernel and not any(self.padding):
            return x.sum(list(axes), keepdim=True)
        padding = [pad for pad in reversed(self.padding) for _ in range(2)]
        windows = functional.pad(x, padding)
        for axis, size, step in zip(axes, self.kernel, self.stride, strict=True):
            windows = windows.unfold(axis, size, step)
        return windows.sum([-1 - axis for axis in range(len(self.kernel))])
