"""The integer interpreter of a packed network: int16, int32 and int64 tensors, no float after the input's encoding."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bitsearch.deploy.program import (
    DECAY_FRACTION,
    Add,
    AveragePool,
    Concatenate,
    MaxPool,
    NetworkInput,
    Operation,
    PackedLayer,
    Program,
    Relu,
    Reshape,
    RunLayer,
    SumFrames,
)
from bitsearch.deploy.widths import LayerNumbers, LayerWidths, Range, analyse
from bitsearch.errors import InputError
from bitsearch.quant.frames import hold_frames

Observer = Callable[[str, str, int, Tensor], None]
"""Gets (operation, what, time step, integers): ``membrane`` and ``spikes`` of every step, then ``accumulator``."""


def encode(x: Tensor, given: NetworkInput) -> Tensor:
    """The input as currents, int32: ⌊x·2^fraction + ½⌋, saturated; InputError for NaN or another shape.

    ``[N, ...]`` to the same; with a time axis ``[F, N, ...]`` to ``[F·N, ...]``.

    A product with a power of two and a float32's sum with ½ are exact in float64 wherever the result may depend on it.
    """
    axes = ("N", *given.shape) if given.frames is None else (given.frames, "N", *given.shape)
    if x.dim() != len(axes) or any(axis not in ("N", size) for size, axis in zip(x.shape, axes, strict=True)):
        raise InputError(f"an input of shape {tuple(x.shape)} for a network that takes {axes}")
    x = x if given.frames is None else x.flatten(0, 1)
    if bool(x.isnan().any()):
        raise InputError("the input holds NaN, which has no integer")
    scaled = torch.floor(torch.ldexp(x.double(), torch.tensor(given.fraction)) + 0.5)
    return scaled.clamp(-given.largest, given.largest).to(torch.int32)


class Replay:
    """A program with its numbers, ready to run.

    Args:
        program: the operations.
        numbers: tensors of every layer.

    Raises:
        InputError: as :func:`bitsearch.deploy.widths.analyse`.
    """

    def __init__(self, program: Program, numbers: Mapping[str, LayerNumbers]) -> None:
        self.program = program
        self.analysis = analyse(program, numbers)
        runs = {program.operations[index].name: widths for index, widths in self.analysis.runs.items()}
        wide = {found.layer: runs[found.name].accumulator for _, found in program.runs()}
        self._layers = {
            name: _Layer(layer, numbers[name], wide[name]) for name, layer in program.layers.items() if name in wide
        }

    def __call__(self, x: Tensor, observer: Observer | None = None) -> Tensor:
        """Output currents ``[N, ...]`` of a batch of inputs, int64, in the unit of the last value."""
        values = [encode(x, self.program.input)]
        last_use = {value: index for index, found in enumerate(self.program.operations) for value in found.inputs}
        for index, operation in enumerate(self.program.operations):
            given = [values[value] for value in operation.inputs]
            ranges = [self.analysis.values[value] for value in operation.inputs]
            if isinstance(operation, RunLayer):
                watch = None if observer is None else (lambda *seen, name=operation.name: observer(name, *seen))
                layer, widths = self._layers[operation.layer], self.analysis.runs[index]
                current = layer(given[0], ranges[0], self.analysis.values[index + 1], widths, watch)
            elif isinstance(operation, SumFrames):
                current = given[0].long().unflatten(0, (self.program.input.frames or 1, -1)).sum(0)
            else:
                current = _compute(operation, given, ranges, self.analysis.values[index + 1])
            values.append(current)
            for value in operation.inputs:
                if last_use[value] == index:
                    values[value] = current.new_empty(0)
        return values[-1].long()


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
        self.weight = _spread(torch.from_numpy(numbers.levels).to(self.dtype), layer.dilation)
        shape = (-1, *[1] * len(layer.kernel))
        self.multiplier = torch.from_numpy(numbers.multiplier).long().view(shape)
        # ⌊(A·m + ½·2^shift) / 2^shift⌋ + b, with b inside of the quotient.
        half = (1 << layer.shift) >> 1
        self.bias, self.half = torch.from_numpy(numbers.bias).view(shape), half

    def __call__(
        self,
        x: Tensor,
        given: Range,
        result: Range,
        widths: LayerWidths,
        observer: Callable[[str, int, Tensor], None] | None,
    ) -> Tensor:
        total = self._spikes(x, given, widths, observer)
        if self.layer.kernel:
            convolve = functional.conv1d if len(self.layer.kernel) == 1 else functional.conv2d
            total = convolve(
                total, self.weight, stride=self.layer.stride, padding=self.layer.padding, groups=self.layer.groups
            )
        else:
            total = functional.linear(total, self.weight)
        if observer is not None:
            observer("accumulator", 0, total)
        scaled = total * self.multiplier
        scaled += self.half
        scaled >>= self.layer.shift
        current = scaled.add_(self.bias).to(_dtype_of(result))
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
                residual = membrane - codes.to(membrane.dtype) * (step << coarser)
                if layer.decay != 1 << DECAY_FRACTION:
                    residual = (residual * layer.decay + (1 << DECAY_FRACTION - 1)) >> DECAY_FRACTION
                membrane = residual.add_(currents[t + 1])
            weighted = codes.to(self.dtype)
            weighted = weighted if weight == 1 else weighted * weight
            if layer.frames is None and sums:
                # Not in place: an observer may keep the first codes.
                sums[0] = sums[0] + weighted
            else:
                sums.append(weighted)
        return sums[0] if layer.frames is None else torch.cat(sums)

    def _currents(self, x: Tensor, given: Range, widths: LayerWidths) -> list[Tensor]:
        """What the neuron gets at every time step, in the unit of its membrane."""
        layer, dtype = self.layer, _dtype(widths.membrane)
        if layer.frames is None:
            return [x.to(dtype) << widths.membrane_fraction - given.fraction] * layer.time_steps
        sequence = x.long().unflatten(0, (layer.frames, -1))
        scale = widths.membrane_fraction - given.fraction - layer.finer
        return [
            _mean(sequence[first:end].sum(0), end - first, layer.finer).to(dtype) << scale for first, end in layer.bins
        ]


def _codes(membrane: Tensor, step: int, coarser: int, layer: PackedLayer, t: int) -> Tensor:
    """⌊(2u + S) / (2S)⌋ within the code's range, S = ``step``·2^``coarser``; the sign alone at one signed bit."""
    largest = layer.largest_code(t)
    if layer.signed and layer.spike_bits[t] == 1:
        return torch.where(membrane < 0, -1, 1).to(torch.int32)
    # ⌊n / (S·2^k)⌋ = ⌊⌊n / 2^k⌋ / S⌋; in 64 bits, codes are counted from the least one, so that nothing is negative.
    lowest = -largest if layer.signed else 0
    levels = (membrane * 2).add_(step << coarser)
    levels >>= coarser + 1
    levels = levels.clamp_(lowest * step, (largest + 1) * step - 1).long().sub_(lowest * step)
    return floor_quotient(levels, step, (largest - lowest + 1) * step).add_(lowest).to(torch.int32)


def floor_quotient(numbers: Tensor, divisor: int, limit: int) -> Tensor:
    """⌊n / divisor⌋ of int64 numbers 0 ≤ n < ``limit``, by a product and a shift where these fit 63 bits.

    With 2^k ≥ limit·divisor and m = ⌈2^k / divisor⌉, n·m / 2^k exceeds n / divisor by less than 1 / divisor, which
    reaches no further whole number (Granlund and Montgomery 1994).
    """
    places = (limit * divisor - 1).bit_length()
    factor = -(-(1 << places) // divisor)
    if limit * factor >= 1 << 63:
        return torch.div(numbers, divisor, rounding_mode="floor")
    quotients = numbers * factor
    quotients >>= places
    return quotients


def _spread(weight: Tensor, dilation: tuple[int, ...]) -> Tensor:
    """The kernel with zeros between its taps: torch has no dilated convolution of integers."""
    if weight.dim() == 2 or all(far == 1 for far in dilation):
        return weight
    sizes = [far * (size - 1) + 1 for size, far in zip(weight.shape[2:], dilation, strict=True)]
    wide = weight.new_zeros(*weight.shape[:2], *sizes)
    taps: tuple[Any, ...] = (..., *(slice(None, None, far) for far in dilation))
    wide[taps] = weight
    return wide


def _compute(operation: Operation, given: list[Tensor], ranges: list[Range], result: Range) -> Tensor:
    dtype = _dtype_of(result)
    if isinstance(operation, Relu):
        return given[0].clamp_min(0)
    if isinstance(operation, Reshape):
        return given[0].reshape(-1, *operation.shape)
    if isinstance(operation, Add | Concatenate):
        aligned = [x.to(dtype) << result.fraction - own.fraction for x, own in zip(given, ranges, strict=True)]
        return aligned[0].add_(aligned[1]) if isinstance(operation, Add) else torch.cat(aligned, 1)
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
