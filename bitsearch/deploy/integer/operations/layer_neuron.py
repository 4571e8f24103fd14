"""The refined neuron at a layer's input: its bounds, its spikes on integers, and in float64.

Both yield what a layer sums up: Σ n_t·code_t ``[N, ...]``, with frames every n_t·code_t, ``[T·N, ...]``.
"""

import torch
from torch import Tensor

from bitsearch.deploy.integer.bounds import NeuronWidths, Range, check_width, integer_type
from bitsearch.deploy.integer.fields import DECAY_FRACTION
from bitsearch.deploy.integer.operations.operation import OperationObserver
from bitsearch.deploy.integer.operations.stored_membrane import StoredCurrents, stored_bound
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.deploy.integer.rounding import decayed, floor_quotient, half, mean, odd_part, quotient, rounded
from bitsearch.quant.frames import bin_weights


def membrane_bound(name: str, layer: PackedLayer, numbers: LayerNumbers, x: Range) -> tuple[int, int]:
    """(bound on what the neuron forms, fraction of its membrane); InputError, naming the run, if it is too wide.

    A membrane of a width counts in a unit of its own, and its fraction is 0.
    """
    if layer.membrane_bits is not None:
        return stored_bound(name, layer, StoredCurrents.of(layer, numbers, x), x), 0
    fraction = max(x.fraction + layer.finer, layer.step_fraction)
    scale = fraction - x.fraction
    low, high = x.low << scale, x.high << scale
    residual = (0, 0)
    widest = max((end - first for first, end in layer.bins), default=1)
    # What the mean of a bin forms.
    largest = (x.magnitude * widest << layer.finer + 1) + widest if widest > 1 else 0
    check_width(name, largest)
    for t, step in enumerate(numbers.steps.tolist()):
        step <<= fraction - layer.step_fraction
        u_low, u_high = low + residual[0], high + residual[1]
        top = layer.q_max(t) * step
        largest = max(largest, 2 * max(-u_low, u_high) + step, top + step)
        if t + 1 == layer.time_steps:
            # Nothing comes of what the last step leaves.
            break
        residual = _residual_bounds(layer, u_low, u_high, top, step)
        if layer.decay != 1 << DECAY_FRACTION:
            largest = max(largest, max(-residual[0], residual[1]) * layer.decay + half(DECAY_FRACTION))
            residual = (decayed(residual[0], layer.decay), decayed(residual[1], layer.decay))
    check_width(name, largest)
    return largest, fraction


def _residual_bounds(layer: PackedLayer, low: int, high: int, top: int, step: int) -> tuple[int, int]:
    """What a membrane ``low`` … ``high`` leaves behind its spikes, of at most ``top`` and levels of ``step``."""
    if layer.reset == "zero":
        # Where nothing is sent it stays, below the threshold or at it.
        return min(low, 0), max(min(high, step), 0)
    if layer.threshold == "full":
        return min(low, 0), max(high - top, step)
    # Half a step inside of the range, all that is beyond it outside; at one signed bit a whole step.
    inside = step if layer.signed else step // 2 + 1
    bottom = -top if layer.signed else 0
    return min(low - bottom, -inside), max(high - top, inside)


def integer_spikes(
    layer: PackedLayer,
    numbers: LayerNumbers,
    dtype: torch.dtype,
    x: Tensor,
    x_range: Range,
    widths: NeuronWidths,
    observer: OperationObserver,
) -> Tensor:
    """Of currents ``[N, ...]``, ``[F·N, ...]`` with frames, as ``dtype``, which holds their sums."""
    steps, coarser = numbers.steps.tolist(), widths.membrane_fraction - layer.step_fraction
    if layer.membrane_bits is None:
        currents = _integer_currents(layer, x, x_range, widths)
    else:
        stored = StoredCurrents.of(layer, numbers, x_range)
        currents = [stored.integers(current) for current in _currents_of_steps(layer, x)]
        # The membrane counts in fractions of a step, which is as many of them at every time step.
        steps, coarser = [layer.membrane.units] * layer.time_steps, 0
    sums: list[Tensor] = []
    membrane = currents[0]
    for t, (step, weight) in enumerate(zip(steps, numbers.spike_weights, strict=True)):
        codes = _integer_codes(membrane, step, coarser, layer, t)
        observer("membrane", t, membrane)
        observer("spikes", t, codes)
        if t + 1 < layer.time_steps:
            if layer.reset == "zero":
                membrane = membrane.masked_fill(codes != 0, 0)
            else:
                membrane = membrane - _times(codes.to(membrane.dtype), step << coarser)
            if layer.decay != 1 << DECAY_FRACTION:
                # The formula of `decayed`, in place.
                membrane = (membrane * layer.decay).add_(half(DECAY_FRACTION))
                membrane >>= DECAY_FRACTION
            membrane += currents[t + 1]
            if layer.membrane_bits is not None:
                membrane.clamp_(-layer.membrane.most - 1, layer.membrane.most)
        spikes = _times(codes.to(dtype), weight)
        if layer.frames is None and sums:
            sums[0].add_(spikes)
        else:
            sums.append(spikes)
    return sums[0] if layer.frames is None else torch.cat(sums)


def _integer_currents(layer: PackedLayer, x: Tensor, x_range: Range, widths: NeuronWidths) -> list[Tensor]:
    """What the neuron gets at every time step, in the unit of its membrane."""
    dtype, places = integer_type(widths.membrane), widths.membrane_fraction - x_range.fraction - layer.finer
    if layer.frames is None:
        current = x.to(dtype)
        return [current << places if places else current] * layer.time_steps
    return [current.to(dtype) << places for current in _currents_of_steps(layer, x)]


def _currents_of_steps(layer: PackedLayer, x: Tensor) -> list[Tensor]:
    """The mean of every time step's frames, or what there is of all alike, int64."""
    if layer.frames is None:
        return [x.long()] * layer.time_steps
    sequence = x.long().unflatten(0, (layer.frames, -1))
    return [mean(sequence[first:end].sum(0), end - first, layer.finer) for first, end in layer.bins]


def _integer_codes(membrane: Tensor, step: int, coarser: int, layer: PackedLayer, t: int) -> Tensor:
    """The code of u within its range, S = ``step``·2^``coarser``; the sign alone at one signed bit.

    ⌊(2u + S) / (2S)⌋ = ⌊(u + ⌊S / 2⌋) / S⌋, and ⌈u / S⌉ − 1 = ⌊(u − 1) / S⌋: one quotient of a number near u.
    """
    largest = layer.q_max(t)
    if layer.signed and layer.spike_bits[t] == 1:
        return torch.where(membrane < 0, -1, 1).to(torch.int32)
    whole = step << coarser
    offset = whole >> 1 if layer.threshold == "half" else -int(layer.strict)
    if largest == 1 and not layer.signed:
        return (membrane >= whole - offset).to(torch.int32)
    # ⌊n / (odd·2^k)⌋ = ⌊⌊n / 2^k⌋ / odd⌋: by a power of two a shift is all.
    odd, places = odd_part(whole)
    lowest = -largest if layer.signed else 0
    levels = membrane + offset
    levels >>= places
    levels = levels.clamp_(lowest * odd, (largest + 1) * odd - 1)
    if odd == 1:
        return levels.to(torch.int32)
    # In 64 bits, codes are counted from the least one, so that nothing is negative.
    levels = levels.long()
    levels = levels if lowest == 0 else levels.sub_(lowest * odd)
    codes = floor_quotient(levels, odd, (largest - lowest + 1) * odd).to(torch.int32)
    return codes if lowest == 0 else codes.add_(lowest)


def _times(codes: Tensor, factor: int) -> Tensor:
    """``codes``·``factor``, in their type: by a power of two a shift."""
    odd, places = odd_part(factor)
    return codes << places if odd == 1 else codes * factor


def float64_spikes(
    layer: PackedLayer,
    numbers: LayerNumbers,
    x: Tensor,
    x_range: Range,
    widths: NeuronWidths,
    observer: OperationObserver,
) -> Tensor:
    """Of real currents ``[N, ...]``, ``[F·N, ...]`` with frames, float64."""
    currents = _float64_currents(layer, x, x_range.fraction)
    steps = [step * 2.0**-layer.step_fraction for step in numbers.steps.tolist()]
    if layer.membrane_bits is not None:
        stored = StoredCurrents.of(layer, numbers, x_range)
        currents = [stored.float64(current) for current in currents]
        steps = [float(layer.membrane.units)] * layer.time_steps
    spikes = []
    membrane = currents[0]
    for t, (step, weight) in enumerate(zip(steps, numbers.spike_weights, strict=True)):
        codes = _float64_codes(membrane, step, layer, t)
        observer("spikes", t, codes.long())
        spikes_taken = membrane * (codes != 0) if layer.reset == "zero" else codes * step
        residual = (layer.decay * 2.0**-DECAY_FRACTION) * (membrane - spikes_taken)
        current = currents[min(t + 1, len(currents) - 1)]
        membrane = current + (
            residual if layer.decay == 1 << DECAY_FRACTION else rounded(residual, widths.membrane_fraction)
        )
        if layer.membrane_bits is not None:
            membrane = membrane.clamp(-layer.membrane.most - 1, layer.membrane.most)
        spikes.append(weight * codes)
    return torch.stack(spikes).sum(0) if layer.frames is None else torch.cat(spikes)


def _float64_currents(layer: PackedLayer, x: Tensor, fraction: int) -> list[Tensor]:
    """What the neuron gets at every time step; where frames are averaged, in a unit finer than 2^−``fraction``."""
    if layer.frames is None:
        return [x] * layer.time_steps
    weights = bin_weights(layer.frames, layer.time_steps)
    sums = torch.tensordot((weights > 0).double(), x.unflatten(0, (layer.frames, -1)), 1)
    sizes = (weights > 0).sum(1).double().view(-1, *[1] * (sums.dim() - 1))
    return list(rounded(sums / sizes, fraction + layer.finer))


def _float64_codes(membrane: Tensor, step: float, layer: PackedLayer, t: int) -> Tensor:
    if layer.signed and layer.spike_bits[t] == 1:
        return torch.where(membrane < 0, -1.0, 1.0).double()
    largest = float(layer.q_max(t))
    if layer.threshold == "full":
        # ⌈a / b⌉ = −⌊−a / b⌋.
        codes = -quotient(-membrane, step) - 1 if layer.strict else quotient(membrane, step)
        return codes.clamp(0.0, largest)
    return quotient(2 * membrane + step, 2 * step).clamp(-largest if layer.signed else 0.0, largest)
