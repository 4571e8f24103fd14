r"""From a layer's learned real numbers to the integers of its deployed arithmetic, the only place where it is rounded.

With step sizes s_t ≈ S_t·2^−f, weight step s_w, batch norm's scale g and shift, and bias, a layer computes

.. math::
    y = \frac{g\, s_w}{T} \sum_t s_t \sum code_t \cdot level + offset,

so its multiplier stands for g·s_w·gcd(S)·2^−f / T; with frames, without the sum over t and its 1/T. S_t of step sizes
that are powers of two are such powers, exactly, and so is the multiplier without batch norm, where T is one. Widths are
chosen so that accumulators fit 32 bits wherever step sizes keep 10 bits, outputs fit 27 bits, and no integer in between
reaches 2^50.
"""

from math import floor, gcd, log2
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bitsearch.deploy.integer.bounds import LARGEST, Range
from bitsearch.deploy.integer.fields import DECAY_FRACTION
from bitsearch.deploy.integer.packed_layer import (
    LARGEST_EXPONENT,
    LayerNumbers,
    PackedLayer,
    are_powers,
    exponents,
    level_sums,
    max_code_sum,
)
from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer
from bitsearch.plan import NeuronSettings
from bitsearch.quant.firing import largest_level
from bitsearch.quant.uniform import q_max, to_levels
from bitsearch.validation import explain

Reals = npt.NDArray[np.float64]

CURRENT_BITS = 26
"""Currents made by a layer, and the encoded input, stay below 2^26: adding a few of them still fits 32 bits."""
LEAST_CURRENT_BITS = 16
"""Where products of them would be too wide, they are made coarser, at most to this; a step size has as many."""
STEP_BITS = (10, 16)
"""Least and most bits of the largest step size."""
ACCUMULATOR_BITS = 31
MULTIPLIER_BITS = (8, 30)
LARGEST_SHIFT = 40
_SETTINGS = ("stride", "padding", "dilation", "groups")


def weight_levels(layer: QuantizedLayer) -> Tensor:
    """The layer's weights as whole levels, in float32, ``[outputs, inputs / groups, ...]``."""
    weight = layer.output_first(layer.weight.detach())
    return to_levels(weight, layer.weight_step.detach(), layer.weight_bits, signed=True).codes


@torch.no_grad()
def lower_layer(
    name: str,
    layer: QuantizedLayer,
    norm: nn.Module | None,
    before: tuple[int, ...],
    after: tuple[int, ...],
    spikes: Range | None = None,
    steps_of: tuple[PackedLayer, LayerNumbers] | None = None,
    current_bits: int = CURRENT_BITS,
) -> tuple[PackedLayer, LayerNumbers]:
    """A layer's integers, batch norm folded in.

    Args:
        name: of the layer.
        layer: trained.
        norm: the batch norm behind it, if there is one.
        before: shape of its input.
        after: shape of its result.
        spikes: what its weights read, in units of a spike level, where neurons of their own fire it; its step sizes are
            the same with and without.
        steps_of: a layer with the same spikes, which is lowered already; the step sizes are its own.
        current_bits: its currents stay below 2 to this.

    Raises:
        InputError: a delayed reset, numbers that are not finite, or more additions than 50 bits have room for; names
            the layer.
    """
    plan = layer.layer_plan
    neuron = plan.neuron or NeuronSettings()
    if neuron.reset == "delayed":
        raise InputError(
            f"layer {name!r} cannot be deployed: its neuron is reset a step late; train one that is reset at once"
        )
    levels = weight_levels(layer).cpu().numpy()
    gain, offset = _folded(layer, norm)
    gain = gain if plan.frames is not None else gain / plan.time_steps
    real_steps = layer.spike_step.detach().double().cpu().numpy()[: plan.time_steps]
    if not all(np.isfinite(array).all() for array in (levels, gain, offset, real_steps)):
        raise InputError(f"layer {name!r} has weights, steps or batch norm statistics that are not finite")
    packed = PackedLayer(
        weight_shape=levels.shape,
        weight_bits=plan.weight_bits,
        spike_bits=plan.spike_bits,
        signed=plan.signed_input,
        decay=round(plan.decay * 2**DECAY_FRACTION),
        step_fraction=0,
        shift=0,
        fraction=0,
        frames=plan.frames,
        reset=neuron.reset,
        threshold=neuron.threshold,
        strict=neuron.strict,
        largest=_largest_codes(layer),
        step_sizes=layer.step_sizes,
        membrane_bits=layer.membrane_bits,
        **_geometry(name, layer, before, after),
        one_step=(plan.spike_granularity == "layer" and plan.time_steps > 1) or None,
    )
    levels = levels.astype(np.int8)
    level_sum = max(int(level_sums(levels).max()), 1)
    codes = max_code_sum(packed, [1] * packed.time_steps)
    spare_bits = ACCUMULATOR_BITS - (level_sum * codes).bit_length()
    step_bits = max(STEP_BITS[0], min(STEP_BITS[1], spare_bits)) if len(set(real_steps)) > 1 else STEP_BITS[1]
    if layer.power_of_two:
        step_bits = _octaves(name, real_steps) + 1
    step_fraction = step_bits - 1 - floor(log2(real_steps.max()))
    steps = np.maximum(np.floor(real_steps * 2.0**step_fraction + 0.5), 1).astype(np.int32)
    if steps_of is not None:
        step_fraction, steps = steps_of[0].step_fraction, steps_of[1].steps.copy()
    common = gcd(*steps.tolist())
    unit = max_code_sum(packed, [step // common for step in steps.tolist()]) if spikes is None else spikes.magnitude
    gain = gain * common * 2.0 ** -(step_fraction + (0 if spikes is None else spikes.fraction))
    reach = float((np.abs(gain) * level_sums(levels) * unit).max() + np.abs(offset).max())
    finest = current_bits - 1 - floor(log2(max(reach, 2.0**-32)))
    bits = min(LARGEST.bit_length() - 2 - (level_sum * unit).bit_length(), MULTIPLIER_BITS[1])
    if bits < MULTIPLIER_BITS[0]:
        raise InputError(
            f"layer {name!r} adds up so much that its scale keeps {bits} bits; it needs {MULTIPLIER_BITS[0]}"
        )
    # One unit for the whole layer, so that the file holds one number a channel.
    largest = float(np.abs(gain).max())
    multiplier_fraction = min(bits - 1 - floor(log2(largest)) if largest > 0 else finest, finest + LARGEST_SHIFT)
    fraction = min(finest, multiplier_fraction)
    multiplier, bias = (
        np.floor(values * 2.0**places + 0.5).astype(np.int32)
        for values, places in ((gain, multiplier_fraction), (offset, fraction))
    )
    shift, scale = multiplier_fraction - fraction, None
    if layer.power_of_two and are_powers(multiplier):
        # A shift to the left and one to the right behind it are one.
        scale, common_shift = "power_of_two", min(int(exponents(multiplier).min()), shift)
        multiplier, shift = multiplier >> common_shift, shift - common_shift
    changes = {"step_fraction": step_fraction, "shift": shift, "fraction": fraction, "scale": scale}
    return _checked(name, packed, changes), LayerNumbers(levels, multiplier, bias, steps)


def _octaves(name: str, steps: Reals) -> int:
    """log2 of the ratio between the largest and the least of step sizes that are powers of two."""
    octaves = round(log2(steps.max()) - log2(steps.min()))
    if octaves > LARGEST_EXPONENT:
        raise InputError(
            f"layer {name!r} has step sizes of 2^{round(log2(steps.min()))} and 2^{round(log2(steps.max()))} for its "
            f"time steps; a packed file holds those within 2^{LARGEST_EXPONENT} of each other; train it further, or "
            "with allocation.quantizer.spike_granularity = 'layer'"
        )
    return octaves


def _largest_codes(layer: QuantizedLayer) -> tuple[int, ...] | None:
    """Of every time step, where spikes have fewer levels than their bits."""
    steps, bits = (values.detach()[: layer.active_steps] for values in (layer.spike_step, layer.spike_bits))
    largest = largest_level(steps, bits, signed=layer.signed_input, neuron=layer.neuron)
    if bool((largest == q_max(bits, signed=layer.signed_input)).all()):
        return None
    return tuple(int(code) for code in largest)


def _checked(name: str, layer: PackedLayer, changes: dict[str, Any]) -> PackedLayer:
    try:
        return PackedLayer.model_validate(layer.model_dump() | changes)
    except ValidationError as error:
        raise InputError(f"layer {name!r} cannot be deployed: {explain(error)}") from error


def _folded(layer: QuantizedLayer, norm: nn.Module | None) -> tuple[Reals, Reals]:
    """(scale of an output in weight levels and real spikes, offset), float64 ``[outputs]``."""
    outputs = layer.output_first(layer.weight).shape[0]
    gain = layer.weight_step.detach().double().flatten().expand(outputs).clone()
    bias = getattr(layer, "bias", None)
    offset = torch.zeros_like(gain) if bias is None else bias.detach().double()
    if norm is not None:
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        mean, variance = norm.running_mean, norm.running_var
        if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
            raise InputError("a batch norm without running statistics cannot be folded; keep track_running_stats on")
        scale = torch.rsqrt(variance.double() + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight.detach().double()
        shift = torch.zeros_like(scale) if norm.bias is None else norm.bias.detach().double()
        gain, offset = gain * scale, (offset - mean.double()) * scale + shift
    return gain.cpu().numpy(), offset.cpu().numpy()


def _geometry(name: str, layer: QuantizedLayer, before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, Any]:
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        extra = _output_padding(layer, before[2:], after[2:])
        return {name: getattr(layer, name) for name in _SETTINGS} | {"output_padding": extra}
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        return {}
    if layer.padding_mode != "zeros":
        raise InputError(f"layer {name!r} pads with {layer.padding_mode!r}; only zeros can be deployed")
    padding: tuple[int, ...]
    if layer.padding == "valid":
        padding = (0,) * len(layer.kernel_size)
    elif layer.padding == "same":
        totals = [spread * (size - 1) for size, spread in zip(layer.kernel_size, layer.dilation, strict=True)]
        if any(pad % 2 for pad in totals):
            raise InputError(f"layer {name!r} pads one side more than the other; give it the same padding on both")
        padding = tuple(pad // 2 for pad in totals)
    else:
        padding = tuple(layer.padding)  # type: ignore[arg-type]  # its words have gone above
    return {name: getattr(layer, name) for name in _SETTINGS} | {"padding": padding}


def _output_padding(layer: Any, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    """What a transposed convolution's result is longer than its least size, by its own setting or a call's."""
    settings = zip(layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    least = [
        (length - 1) * stride - 2 * pad + spread * (size - 1) + 1
        for length, (size, stride, pad, spread) in zip(before, settings, strict=True)
    ]
    return tuple(size - smallest for size, smallest in zip(after, least, strict=True))
