"""Shapes, units and the widths that integers need: interval arithmetic over a program and its integer weights.

Everything is computed in Python's unlimited integers before a tensor is made, so that no header can ask for integers
or memory beyond what is allowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd, prod

import numpy as np
import numpy.typing as npt

from bitsearch.deploy.integer.program import (
    DECAY_FRACTION,
    Add,
    AveragePool,
    Concatenate,
    Fire,
    MaxPool,
    Operation,
    PackedLayer,
    Program,
    Relu,
    Reshape,
    RunLayer,
    Scale,
    SumFrames,
)
from bitsearch.errors import InputError

LARGEST = 1 << 50
"""No integer reaches this. Float64 holds integers below 2^53; three bits more keep its quotients on the right side."""
MOST_ELEMENTS = 1 << 26
"""Most currents a value may have for one input, all its frames together."""


@dataclass(frozen=True)
class LayerNumbers:
    """The tensors of a layer."""

    levels: npt.NDArray[np.int8]
    """Weight levels, in the weight's shape."""
    multiplier: npt.NDArray[np.int32]
    """``[outputs]``."""
    bias: npt.NDArray[np.int32]
    """``[outputs]``."""
    steps: npt.NDArray[np.int32]
    """``[T]``."""

    @cached_property
    def spike_weights(self) -> list[int]:
        """n_t = S_t / gcd(S): what one level of a spike counts for in the accumulator."""
        steps = self.steps.tolist()
        common = gcd(*steps)
        return [step // common for step in steps]


def max_code_sum(layer: PackedLayer, weights: list[int]) -> int:
    """The most that Σ n_t·code_t can be in one sum: of all time steps, or with frames of one, n_t = ``weights[t]``."""
    steps = [weight * layer.q_max(t) for t, weight in enumerate(weights)]
    return sum(steps) if layer.frames is None else max(steps)


@dataclass(frozen=True)
class Range:
    """What a value can be."""

    shape: tuple[int, ...]
    fraction: int
    low: int
    high: int

    @property
    def bits(self) -> int:
        """Of a signed integer that holds it."""
        return signed_bits(self.low, self.high)


@dataclass(frozen=True)
class LayerWidths:
    """Bounds on the magnitudes inside one run of a layer."""

    membrane_fraction: int
    membrane: int
    """Of what the neuron forms: 2·u_t + S_t, the edge (q_max + 1)·S_t of its codes, the residual times the decay."""
    accumulator: int
    """Of A and of every part of its sum, in whatever order it is added up."""
    product: int
    """Of A·multiplier, rounding included."""


@dataclass(frozen=True)
class Analysis:
    """All values of a program, and what its layers need inside."""

    values: list[Range] = field(default_factory=list)
    runs: dict[int, LayerWidths] = field(default_factory=dict)
    """By index of the operation."""
    membranes: dict[int, int] = field(default_factory=dict)
    """Bounds on the membranes that ``fire`` forms, by index of the operation."""


def signed_bits(low: int, high: int) -> int:
    """Width of the narrowest two's complement integer that holds ``low`` … ``high``."""
    return max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length()) + 1


def analyse_ranges(program: Program, numbers: Mapping[str, LayerNumbers]) -> Analysis:
    """Bounds of every value of ``program``.

    Raises:
        InputError: shapes that do not fit, or integers or memory beyond what is allowed; names the operation.
    """
    given = program.input
    most = MOST_ELEMENTS // (given.frames or 1)
    found = Analysis([Range(given.shape, given.fraction, -given.largest, given.largest)])
    for index, operation in enumerate(program.operations):
        inputs = [found.values[value] for value in operation.inputs]
        if isinstance(operation, RunLayer):
            value, found.runs[index] = _run(operation, program.layers[operation.layer], numbers, inputs[0], most)
        elif isinstance(operation, SumFrames):
            frames = given.frames or 1
            value = Range(inputs[0].shape, inputs[0].fraction, frames * inputs[0].low, frames * inputs[0].high)
        elif isinstance(operation, Fire):
            found.membranes[index] = _fire(operation, inputs[0], given.frames or 1)
            value = Range(inputs[0].shape, 0, 0, 1)
        else:
            value = _value(operation, inputs, most)
        if prod(value.shape) > most:
            raise InputError(f"{operation.name}: {prod(value.shape)} currents for one input; at most {most}")
        check_width(operation.name, max(-value.low, value.high))
        found.values.append(value)
    return found


def check_width(name: str, magnitude: int) -> None:
    """InputError if integers of this magnitude are not allowed."""
    if magnitude >= LARGEST:
        raise InputError(f"{name}: integers of {magnitude.bit_length() + 1} bits; at most {LARGEST.bit_length()}")


def _value(operation: Operation, inputs: list[Range], most: int) -> Range:
    first = inputs[0]
    if isinstance(operation, Relu):
        return Range(first.shape, first.fraction, max(first.low, 0), max(first.high, 0))
    if isinstance(operation, Scale):
        half = (1 << operation.shift) >> 1
        check_width(operation.name, max(-first.low, first.high) * operation.multiplier + half)
        low, high = ((end * operation.multiplier + half) >> operation.shift for end in (first.low, first.high))
        return Range(first.shape, first.fraction + operation.finer, low, high)
    if isinstance(operation, MaxPool):
        shape = _windows(
            operation.name, first.shape, operation.kernel, operation.stride, operation.padding, operation.dilation, most
        )
        if any(2 * pad > size for pad, size in zip(operation.padding, operation.kernel, strict=True)):
            raise InputError(f"{operation.name}: padding {operation.padding} is more than half of the window")
        return Range(shape, first.fraction, first.low, first.high)
    if isinstance(operation, AveragePool):
        ones = (1,) * len(operation.kernel)
        shape = _windows(operation.name, first.shape, operation.kernel, operation.stride, operation.padding, ones, most)
        low, high = min(first.low, 0), max(first.high, 0)
        scale = operation.window << (operation.finer + 1)
        check_width(operation.name, max(-low, high) * scale + operation.window)
        return Range(shape, first.fraction + operation.finer, low << operation.finer, high << operation.finer)
    if isinstance(operation, Reshape):
        if prod(operation.shape) != prod(first.shape):
            raise InputError(f"{operation.name}: shape {first.shape} cannot become {operation.shape}")
        return Range(operation.shape, first.fraction, first.low, first.high)
    fraction = max(value.fraction for value in inputs)
    bounds = [(value.low << fraction - value.fraction, value.high << fraction - value.fraction) for value in inputs]
    if isinstance(operation, Add):
        if inputs[0].shape != inputs[1].shape:
            raise InputError(f"{operation.name}: shapes {inputs[0].shape} and {inputs[1].shape} are added")
        return Range(first.shape, fraction, sum(low for low, _ in bounds), sum(high for _, high in bounds))
    assert isinstance(operation, Concatenate)
    if any(value.shape[1:] != first.shape[1:] for value in inputs):
        raise InputError(f"{operation.name}: shapes {', '.join(str(value.shape) for value in inputs)} are concatenated")
    shape = (sum(value.shape[0] for value in inputs), *first.shape[1:])
    return Range(shape, fraction, min(low for low, _ in bounds), max(high for _, high in bounds))


def _windows(
    name: str,
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    most: int,
) -> tuple[int, ...]:
    """The shape with its last axes replaced by the number of windows along them."""
    if len(shape) != len(kernel) + 1 or {len(stride), len(padding), len(dilation)} != {len(kernel)}:
        raise InputError(f"{name}: windows over {len(kernel)} axes do not fit an input of shape {shape}")
    sizes = []
    for length, size, step, pad, spread in zip(shape[1:], kernel, stride, padding, dilation, strict=True):
        room = length + 2 * pad - spread * (size - 1) - 1
        if room < 0:
            raise InputError(f"{name}: a window of {size} (dilation {spread}) is larger than its padded input")
        sizes.append(room // step + 1)
    padded = shape[0] * prod(length + 2 * pad for length, pad in zip(shape[1:], padding, strict=True))
    if padded > most:
        raise InputError(f"{name}: {padded} currents for one input once it is padded; at most {most}")
    return (shape[0], *sizes)


def _run(
    operation: RunLayer, layer: PackedLayer, numbers: Mapping[str, LayerNumbers], given: Range, most: int
) -> tuple[Range, LayerWidths]:
    own = numbers[operation.layer]
    inputs = layer.weight_shape[1] * layer.groups
    axis = 0 if layer.kernel else -1
    if given.shape[axis] != inputs:
        raise InputError(
            f"{operation.name}: an input of shape {given.shape} has {given.shape[axis]} channels, not {inputs}"
        )
    if layer.kernel:
        shape = _windows(operation.name, given.shape, layer.kernel, layer.stride, layer.padding, layer.dilation, most)
        shape = (layer.outputs, *shape[1:])
    else:
        shape = (*given.shape[:-1], layer.outputs)
    fraction, membrane = _membrane(operation.name, layer, own, given)
    unit = max_code_sum(layer, own.spike_weights)
    accumulator = int(level_sums(own.levels).max()) * unit
    check_width(operation.name, accumulator)
    factor = int(np.abs(own.multiplier.astype(np.int64)).max(initial=0))
    half = (1 << layer.shift) >> 1
    check_width(operation.name, accumulator * factor + half)
    low, high = output_bounds(layer, own, unit)
    widths = LayerWidths(fraction, membrane, accumulator, accumulator * factor + half)
    return Range(shape, layer.fraction, low, high), widths


def level_sums(levels: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Σ|level| of every output channel."""
    sums: npt.NDArray[np.int64] = np.abs(levels.reshape(len(levels), -1), dtype=np.int64).sum(1)
    return sums


def output_bounds(layer: PackedLayer, numbers: LayerNumbers, unit: int) -> tuple[int, int]:
    """The least and the largest output of a layer whose spikes add up to at most ``unit`` a weight level."""
    levels = numbers.levels.reshape(layer.outputs, -1).astype(np.int64)
    above, below = np.clip(levels, 0, None).sum(1), np.clip(levels, None, 0).sum(1)
    if layer.signed:
        above, below = above - below, below - above
    multiplier, bias = numbers.multiplier.astype(np.int64), numbers.bias.astype(np.int64)
    ends = np.stack([above * unit * multiplier, below * unit * multiplier])
    rounded = ((ends + ((1 << layer.shift) >> 1)) >> layer.shift) + bias
    return int(rounded.min()), int(rounded.max())


def _membrane(name: str, layer: PackedLayer, numbers: LayerNumbers, given: Range) -> tuple[int, int]:
    """(fraction of the membrane, bound on what the neuron computes)."""
    fraction = max(given.fraction + layer.finer, layer.step_fraction)
    scale = fraction - given.fraction
    low, high = given.low << scale, given.high << scale
    residual = (0, 0)
    widest = max((end - first for first, end in layer.bins), default=1)
    # What the mean of a bin forms.
    largest = (max(-given.low, given.high) * widest << layer.finer + 1) + widest if widest > 1 else 0
    check_width(name, largest)
    for t, step in enumerate(numbers.steps.tolist()):
        step <<= fraction - layer.step_fraction
        u_low, u_high = low + residual[0], high + residual[1]
        top = layer.q_max(t) * step
        largest = max(largest, 2 * max(-u_low, u_high) + step, top + step)
        # What is left: half a step inside of the range, all that is beyond it outside; at one signed bit a whole step.
        half = step if layer.signed else step // 2 + 1
        bottom = -top if layer.signed else 0
        left = (min(u_low - bottom, -half), max(u_high - top, half))
        if layer.decay != 1 << DECAY_FRACTION:
            largest = max(largest, max(-left[0], left[1]) * layer.decay + (1 << DECAY_FRACTION - 1))
            left = (_decayed(left[0], layer.decay), _decayed(left[1], layer.decay))
        residual = left
        check_width(name, largest)
    return fraction, largest


def _fire(operation: Fire, given: Range, frames: int) -> int:
    """A bound on the membrane and on what is left of it, times the decay."""
    low = high = largest = 0
    for _ in range(frames):
        low, high = low + given.low, high + given.high
        largest = max(largest, -low, high)
        # Silent, the membrane stays below the threshold; what fired is at zero, or a threshold below where it was.
        low, high = (
            min(low, 0),
            max(min(high, operation.threshold - 1), 0 if operation.hard else high - operation.threshold),
        )
        if operation.decay != 1 << DECAY_FRACTION:
            largest = max(largest, max(-low, high) * operation.decay + (1 << DECAY_FRACTION - 1))
            low, high = _decayed(low, operation.decay), _decayed(high, operation.decay)
        check_width(operation.name, largest)
    return largest


def _decayed(residual: int, decay: int) -> int:
    return (residual * decay + (1 << DECAY_FRACTION - 1)) >> DECAY_FRACTION
