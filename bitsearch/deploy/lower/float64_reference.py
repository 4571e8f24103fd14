"""The quantized network in the deployed arithmetic: its own modules and graph, evaluated in float64.

Every value is a multiple of a power of two with at most 50 significant bits (:data:`.integer.ranges.LARGEST`),
so float64 holds it, and every sum of a convolution in whatever order, without rounding. Where the arithmetic itself
rounds, it is ⌊v + ½⌋, ties upward, and :func:`quotient` says why a division cannot end on the wrong side. What this
computes is therefore one function, whatever the machine; the integer replay of the packed file is another way to it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node
from torch.nn import functional

from bitsearch.deploy.integer.interpreter import Observer, encode
from bitsearch.deploy.integer.program import DECAY_FRACTION, AveragePool, Fire, PackedLayer, RunLayer, Scale
from bitsearch.deploy.lower.fixed_point import weight_levels
from bitsearch.deploy.lower.lowering import Lowered
from bitsearch.layers import QuantizedLayer
from bitsearch.quant.frames import bin_weights, hold_frames
from bitsearch.quant.uniform import q_max


def quotient(numerator: Tensor, denominator: Tensor | float) -> Tensor:
    """⌊numerator / denominator⌋ of float64 whole multiples a and b > 0 of one power of two, |a| + b < 2^53: exact.

    Where a/b is no whole number it is at least 1/b below the next one, n, and 1/b > n·2^−53; so the rounded quotient,
    which is no further than n·2^−54 from it on that side, does not reach n. Whole quotients are representable.
    """
    return torch.floor(numerator / denominator)


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
        given = self._lowered.program.input
        encoded = torch.ldexp(encode(x, given).double(), torch.tensor(-given.fraction))
        result: Tensor = _Evaluation(self._lowered, observer).run(encoded)
        return result if given.frames is None else result.unflatten(0, (given.frames, -1)).sum(0)


class _Evaluation(Interpreter):
    def __init__(self, lowered: Lowered, observer: Observer | None) -> None:
        super().__init__(lowered.graph)
        self._lowered, self._observer = lowered, observer

    def run_node(self, n: Node) -> Any:
        if n.name in self._lowered.folded:
            return self.fetch_args_kwargs_from_env(n)[0][0]
        index = self._lowered.operations.get(n.name)
        operation = None if index is None else self._lowered.program.operations[index]
        if isinstance(operation, RunLayer):
            (x,), _ = self.fetch_args_kwargs_from_env(n)
            return self._layer(operation, x)
        if isinstance(operation, Scale):
            assert index is not None
            (x,), _ = self.fetch_args_kwargs_from_env(n)
            factor = operation.multiplier * 2.0 ** -(operation.shift + operation.finer)
            return _rounded(x * factor, self._lowered.analysis.values[index + 1].fraction)
        if isinstance(operation, Fire):
            (x,), _ = self.fetch_args_kwargs_from_env(n)
            return self._fire(operation, x)
        result = super().run_node(n)
        if isinstance(operation, AveragePool):
            assert index is not None
            return _rounded(result, self._lowered.analysis.values[index + 1].fraction)
        return result

    def _layer(self, operation: RunLayer, x: Tensor) -> Tensor:
        packed, numbers = self._lowered.program.layers[operation.layer], self._lowered.numbers[operation.layer]
        layer = self._lowered.graph.get_submodule(operation.layer)
        assert isinstance(layer, QuantizedLayer)
        run = next(index for index, found in self._lowered.program.runs() if found.name == operation.name)
        unit = self._lowered.analysis.runs[run].membrane_fraction
        currents = _currents(x, packed, self._lowered.analysis.values[operation.inputs[0]].fraction)
        spikes = []
        membrane = currents[0]
        for t, weight in enumerate(numbers.spike_weights):
            step = int(numbers.steps[t]) * 2.0**-packed.step_fraction
            codes = _codes(membrane, step, layer.layer_plan.spike_bits[t], signed=layer.signed_input)
            if self._observer is not None:
                self._observer(operation.name, "spikes", t, codes.long())
            decayed = (packed.decay * 2.0**-DECAY_FRACTION) * (membrane - codes * step)
            current = currents[min(t + 1, len(currents) - 1)]
            membrane = current + (decayed if packed.decay == 1 << DECAY_FRACTION else _rounded(decayed, unit))
            spikes.append(weight * codes)
        total = torch.stack(spikes).sum(0) if packed.frames is None else torch.cat(spikes)
        levels = weight_levels(layer).double()
        shape = (-1, *[1] * (levels.dim() - 2))
        if isinstance(layer, nn.Linear):
            sums = functional.linear(total, levels)
        else:
            forward: Callable[..., Tensor] = layer._conv_forward  # type: ignore[assignment]
            sums = forward(total, levels, None)
        multiplier = torch.from_numpy(numbers.multiplier).double() * 2.0 ** -(packed.shift + packed.fraction)
        bias = torch.from_numpy(numbers.bias).double() * 2.0**-packed.fraction
        result = _rounded(sums * multiplier.view(shape), packed.fraction) + bias.view(shape)
        if packed.frames is None:
            return result
        return hold_frames(result.unflatten(0, (packed.time_steps, -1)), packed.frames).flatten(0, 1)

    def _fire(self, operation: Fire, x: Tensor) -> Tensor:
        fraction = self._lowered.analysis.values[operation.inputs[0]].fraction
        threshold, decay = operation.threshold * 2.0**-fraction, operation.decay * 2.0**-DECAY_FRACTION
        membrane = torch.zeros(())
        spikes: list[Tensor] = []
        for t, current in enumerate(x.unflatten(0, (self._lowered.program.input.frames or 1, -1))):
            membrane = membrane + current
            fired = (membrane >= threshold).double()
            if self._observer is not None:
                self._observer(operation.name, "spikes", t, fired.long())
            left = membrane * (1 - fired) if operation.hard else membrane - threshold * fired
            membrane = _rounded(decay * left, fraction)
            spikes.append(fired)
        return torch.cat(spikes)


def _currents(x: Tensor, layer: PackedLayer, fraction: int) -> list[Tensor]:
    """What the neuron gets at every time step; where frames are averaged, in a unit finer than 2^−``fraction``."""
    if layer.frames is None:
        return [x] * layer.time_steps
    weights = bin_weights(layer.frames, layer.time_steps)
    sums = torch.tensordot((weights > 0).double(), x.unflatten(0, (layer.frames, -1)), 1)
    sizes = (weights > 0).sum(1).double().view(-1, *[1] * (sums.dim() - 1))
    return list(_rounded(sums / sizes, fraction + layer.finer))


def _rounded(x: Tensor, fraction: int) -> Tensor:
    """``x`` to the nearest multiple of 2^−fraction, ties upward."""
    return torch.floor(x * 2.0**fraction + 0.5) * 2.0**-fraction


def _codes(membrane: Tensor, step: float, bits: int, *, signed: bool) -> Tensor:
    if signed and bits == 1:
        return torch.where(membrane < 0, -1.0, 1.0).double()
    largest = float(q_max(bits, signed=signed))
    return quotient(2 * membrane + step, 2 * step).clamp(-largest if signed else 0.0, largest)
