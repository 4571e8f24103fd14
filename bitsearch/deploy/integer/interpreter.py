"""The integer interpreter of a packed network: int16, int32 and int64 tensors, no float after the input's encoding."""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from bitsearch.deploy.integer.convolution import Convolution
from bitsearch.deploy.integer.program import (
    DECAY_FRACTION,
    Add,
    AveragePool,
    Concatenate,
    Fire,
    MaxPool,
    NetworkInput,
    Operation,
    PackedLayer,
    Program,
    Relu,
    Reshape,
    RunLayer,
    Scale,
    SumFrames,
)
from bitsearch.deploy.integer.ranges import Analysis, LayerNumbers, LayerWidths, Range, analyse_ranges
from bitsearch.errors import InputError
from bitsearch.quant.frames import hold_frames

_AT_ONCE = 1 << 18
"""Currents of the largest value that are worked on at a time: what is made of them should stay in a cache."""

Observer = Callable[[str, str, int, Tensor], None]
"""Gets (operation, what, time step, integers): ``membrane`` and ``spikes`` of every step, then ``accumulator``."""


def encode(x: Tensor, given: NetworkInput) -> Tensor:
    """The input as currents, int32: ⌊x·2^fraction + ½⌋, saturated; InputError for NaN or another shape.

    ``[N, ...]`` to the same; with a time axis ``[F, N, ...]``, or ``[N, ...]`` where it is repeated, to ``[F·N, ...]``.

    A product with a power of two and a float32's sum with ½ are exact in float64 wherever the result may depend on it.
    """
    axes = given.axes
    if x.dim() != len(axes) or any(axis not in ("N", size) for size, axis in zip(x.shape, axes, strict=True)):
        raise InputError(f"an input of shape {tuple(x.shape)} for a network that takes {axes}")
    x = x.flatten(0, axes.index("N"))
    if bool(x.isnan().any()):
        raise InputError("the input holds NaN, which has no integer")
    scaled = torch.floor(torch.ldexp(x.double(), torch.tensor(given.fraction)) + 0.5)
    currents = scaled.clamp(-given.largest, given.largest).to(torch.int32)
    return currents.repeat(given.frames or 1, *[1] * len(given.shape)) if given.repeated else currents


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
        runs = {program.operations[index].name: widths for index, widths in self.analysis.runs.items()}
        wide = {found.layer: runs[found.name].accumulator for _, found in program.runs()}
        largest = max(prod(value.shape) for value in self.analysis.values) * (program.input.frames or 1)
        self._at_once = max(_AT_ONCE // largest, 1)
        self._layers = {
            name: _Layer(layer, numbers[name], wide[name]) for name, layer in program.layers.items() if name in wide
        }

    def __call__(self, x: Tensor, observer: Observer | None = None) -> Tensor:
        """Output currents ``[N, ...]`` of a batch of inputs, int64, in the unit of the last value."""
        if observer is not None:
            return self._run(x, observer)
        axis = self.program.input.axes.index("N")
        return torch.cat([self._run(part, None) for part in x.split(self._at_once, axis)])

    def _run(self, x: Tensor, observer: Observer | None) -> Tensor:
        values = [encode(x, self.program.input)]
        last_use = {value: index for index, found in enumerate(self.program.operations) for value in found.inputs}
        for index, operation in enumerate(self.program.operations):
            given = [values[value] for value in operation.inputs]
            ranges = [self.analysis.values[value] for value in operation.inputs]
            watch = None if observer is None else partial(observer, operation.name)
            if isinstance(operation, RunLayer):
                layer, widths = self._layers[operation.layer], self.analysis.runs[index]
                current = layer(given[0], ranges[0], self.analysis.values[index + 1], widths, watch)
            elif isinstance(operation, SumFrames):
                current = self._frames(given[0]).sum(0)
            elif isinstance(operation, Fire):
                current = _fire(self._frames(given[0]), operation, watch)
            else:
                current = _compute(operation, given, ranges, self.analysis.values[index + 1])
            values.append(current)
            for value in operation.inputs:
                if last_use[value] == index:
                    values[value] = current.new_empty(0)
        return values[-1].long()

    def _frames(self, x: Tensor) -> Tensor:
        """``[F·N, ...]`` as int64 ``[F, N, ...]``."""
        return x.long().unflatten(0, (self.program.input.frames or 1, -1))


def _dtype(magnitude: int) -> torch.dtype:
    return torch.int32 if magnitude < 1 << 31 else torch.int64


def _dtype_of(value: Range) -> torch.dtype:
    return _dtype(max(-value.low, value.high))


class _Layer:
    """A layer's neuron, sum and affine map."""

    def __init__(self, layer: PackedLayer, numbers: LayerNumbers, accumulator: int) -> None:
        self.layer, self.numbers = layer, numbers
        # Sums that are known to fit 16 bits are twice as fast in them; overflow on the way to one does no harm.
        self.dtype = torch.int16 if accumulator < 1 << 15 else _dtype(accumulator)
        weight = torch.from_numpy(numbers.levels).to(self.dtype)
        self.sum = Convolution(layer, weight) if layer.kernel else partial(functional.linear, weight=weight)
        shape = (-1, *[1] * len(layer.kernel))
        self.multiplier = torch.from_numpy(numbers.multiplier).long().view(shape)
        self.half = (1 << layer.shift) >> 1
        self.bias = torch.from_numpy(numbers.bias).view(shape)

    def __call__(
        self,
        x: Tensor,
        given: Range,
        result: Range,
        widths: LayerWidths,
        observer: Callable[[str, int, Tensor], None] | None,
    ) -> Tensor:
        total = self._spikes(x, given, widths, observer)
        total = self.sum(total)
        if observer is not None:
            observer("accumulator", 0, total)
        scaled = total * self.multiplier
        scaled += self.half
        scaled >>= self.layer.shift
        # What fits once the bias is there may wrap around without it.
        current = scaled.to(_dtype_of(result)).add_(self.bias)
        if self.layer.frames is None:
            return current
        return hold_frames(current.unflatten(0, (self.layer.time_steps, -1)), self.layer.frames).flatten(0, 1)

    def _spikes(
        self,
        x: Tensor,
        given: Range,
        widths: LayerWidths,
        observer: Callable[[str, int, Tensor], None] | None,
    ) -> Tensor:
        """Σ n_t·code_t; with frames every n_t·code_t, ``[T·N, ...]``."""
        layer = self.layer
        currents = self._currents(x, given, widths)
        coarser = widths.membrane_fraction - layer.step_fraction
        sums: list[Tensor] = []
        membrane = currents[0]
        for t, (step, weight) in enumerate(zip(self.numbers.steps.tolist(), self.numbers.spike_weights, strict=True)):
            codes = _codes(membrane, step, coarser, layer, t)
            if observer is not None:
                observer("membrane", t, membrane)
                observer("spikes", t, codes)
            if t + 1 < layer.time_steps:
                membrane = torch.sub(membrane, codes, alpha=step << coarser)
                if layer.decay != 1 << DECAY_FRACTION:
                    membrane = (membrane * layer.decay).add_(1 << DECAY_FRACTION - 1)
                    membrane >>= DECAY_FRACTION
                membrane += currents[t + 1]
            if layer.frames is None and sums:
                sums[0].add_(codes.to(self.dtype), alpha=weight)
            else:
                sums.append(codes.to(self.dtype) * weight)
        return sums[0] if layer.frames is None else torch.cat(sums)

    def _currents(self, x: Tensor, given: Range, widths: LayerWidths) -> list[Tensor]:
        """What the neuron gets at every time step, in the unit of its membrane."""
        layer, dtype = self.layer, _dtype(widths.membrane)
        if layer.frames is None:
            return [_shifted(x.to(dtype), widths.membrane_fraction - given.fraction)] * layer.time_steps
        sequence = x.long().unflatten(0, (layer.frames, -1))
        scale = widths.membrane_fraction - given.fraction - layer.finer
        return [
            _mean(sequence[first:end].sum(0), end - first, layer.finer).to(dtype) << scale for first, end in layer.bins
        ]


def _codes(membrane: Tensor, step: int, coarser: int, layer: PackedLayer, t: int) -> Tensor:
    """⌊(2u + S) / (2S)⌋ within the code's range, S = ``step``·2^``coarser``; the sign alone at one signed bit."""
    largest = layer.q_max(t)
    if layer.signed and layer.spike_bits[t] == 1:
        return torch.where(membrane < 0, -1, 1).to(torch.int32)
    if largest == 1 and not layer.signed:
        return (membrane >= -(-(step << coarser) // 2)).to(torch.int32)
    # ⌊n / (S·2^k)⌋ = ⌊⌊n / 2^k⌋ / S⌋; in 64 bits, codes are counted from the least one, so that nothing is negative.
    lowest = -largest if layer.signed else 0
    levels = membrane + (step << coarser >> 1)
    levels >>= coarser
    levels = levels.clamp_(lowest * step, (largest + 1) * step - 1).long()
    levels = levels if lowest == 0 else levels.sub_(lowest * step)
    codes = floor_quotient(levels, step, (largest - lowest + 1) * step).to(torch.int32)
    return codes if lowest == 0 else codes.add_(lowest)


def _fire(currents: Tensor, operation: Fire, observer: Callable[[str, int, Tensor], None] | None) -> Tensor:
    """The neuron's spikes, int32 ``[F·N, ...]``, for currents ``[F, N, ...]``."""
    spikes: list[Tensor] = []
    left = torch.zeros_like(currents[0])
    for t, current in enumerate(currents):
        membrane = left + current
        fired = membrane >= operation.threshold
        spikes.append(fired.to(torch.int32))
        if observer is not None:
            observer("membrane", t, membrane)
            observer("spikes", t, spikes[-1])
        left = membrane.masked_fill(fired, 0) if operation.hard else membrane - operation.threshold * spikes[-1].long()
        if operation.decay != 1 << DECAY_FRACTION:
            left = (left * operation.decay + (1 << DECAY_FRACTION - 1)) >> DECAY_FRACTION
    return torch.cat(spikes)


def _shifted(x: Tensor, places: int) -> Tensor:
    return x << places if places else x


def floor_quotient(numbers: Tensor, divisor: int, limit: int) -> Tensor:
    """⌊n / divisor⌋ of int64 numbers 0 ≤ n < ``limit``, by a product and a shift where these fit 63 bits.

    With 2^k ≥ limit·divisor and m = ⌈2^k / divisor⌉, n·m / 2^k exceeds n / divisor by less than 1 / divisor, which
    reaches no further whole number (Granlund and Montgomery 1994).
    """
    places = (limit * divisor - 1).bit_length()
    factor = -(-(1 << places) // divisor)
    if limit * factor >= 1 << 63:
        return torch.div(numbers, divisor, rounding_mode="floor")
    return (numbers * factor).__irshift__(places)


def _compute(operation: Operation, given: list[Tensor], ranges: list[Range], result: Range) -> Tensor:
    dtype = _dtype_of(result)
    if isinstance(operation, Relu):
        return given[0].clamp_min(0)
    if isinstance(operation, Scale):
        scaled = (given[0].long() * operation.multiplier).add_((1 << operation.shift) >> 1)
        return (scaled >> operation.shift).to(dtype)
    if isinstance(operation, Reshape):
        return given[0].reshape(-1, *operation.shape)
    if isinstance(operation, Add | Concatenate):
        aligned = [_shifted(x.to(dtype), result.fraction - own.fraction) for x, own in zip(given, ranges, strict=True)]
        return aligned[0] + aligned[1] if isinstance(operation, Add) else torch.cat(aligned, 1)
    if isinstance(operation, MaxPool):
        return _max_pool(given[0], operation)
    assert isinstance(operation, AveragePool)
    size = operation.window
    total = _window_sums(given[0].long(), operation)
    return _mean(total, size, operation.finer).to(dtype)


def _mean(total: Tensor, size: int, finer: int) -> Tensor:
    """⌊(2·total·2^finer + size) / (2·size)⌋ of int64 sums."""
    if size == 1 << finer:
        return total
    return torch.div(total * (2 << finer) + size, 2 * size, rounding_mode="floor")


def _max_pool(x: Tensor, pool: MaxPool) -> Tensor:
    if len(pool.kernel) == 2:
        return functional.max_pool2d(x, pool.kernel, pool.stride, pool.padding, pool.dilation)
    flat = functional.max_pool2d(
        x.unsqueeze(-2), (1, *pool.kernel), (1, *pool.stride), (0, *pool.padding), (1, *pool.dilation)
    )
    return flat.squeeze(-2)


def _window_sums(x: Tensor, pool: AveragePool) -> Tensor:
    axes = range(2, 2 + len(pool.kernel))
    if tuple(x.shape[2:]) == pool.kernel and not any(pool.padding):
        return x.sum(list(axes), keepdim=True)
    padding = [pad for pad in reversed(pool.padding) for _ in range(2)]
    windows = functional.pad(x, padding)
    for axis, size, step in zip(axes, pool.kernel, pool.stride, strict=True):
        windows = windows.unfold(axis, size, step)
    return windows.sum([-1 - axis for axis in range(len(pool.kernel))])
