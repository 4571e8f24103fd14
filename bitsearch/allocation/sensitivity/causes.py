r"""Why a layer loses by fewer bits: what its quantizer does to the numbers, measured.

Shares of the energy of what is quantized, :math:`\sum (Q(x) - x)^2 / \sum x^2`, with x the weights, or the spikes that
the layer sends at its finest: from elements beyond the largest level (clipping), from all others (rounding), and from
frames that are averaged (time binning).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.quant.firing import largest_level
from bitsearch.quant.frames import bin_frames, hold_frames
from bitsearch.quant.uniform import q_max

FEW_LEVELS = 4
"""Up to as many levels, the best step both clips and rounds coarsely: it costs that there are no more of them."""
MOST_DEAD = 0.5
"""Share of the neurons that have fallen silent from which on they are the cause."""


@dataclass(frozen=True)
class QuantizationError:
    """What a quantizer does to a layer's weights, or spikes."""

    levels: int
    """Values that a weight can have, or a neuron can tell apart."""
    clipping: float
    """Share of the energy that is lost beyond the largest level."""
    rounding: float
    """Share of the energy that is lost between levels."""
    binning: float = 0.0
    """Share of the energy that is lost by averaging frames."""
    silent: float | None = None
    """Share of the neurons that send no spike for any sample, though they do at the layer's finest; None of weights."""
    saturated: float | None = None
    """Share of the spikes, those of zero left out, that are the largest there is; None of weights."""

    @property
    def cause(self) -> str:
        """The greatest of them, in words."""
        if self.silent is not None and self.silent >= MOST_DEAD:
            return "dead neurons"
        largest = max(self.clipping, self.rounding, self.binning)
        if not largest:
            return "none"
        if largest == self.binning:
            return "time binning"
        if self.levels <= FEW_LEVELS:
            return "few levels"
        if largest == self.rounding:
            return "rounding"
        return "clipping" if self.saturated is None else "saturated neurons"


@torch.no_grad()
def weight_error(layer: QuantizedLayer) -> QuantizationError:
    """Of the layer's weights at the bits and steps that it has."""
    weight = layer.output_first(layer.weight.double())
    error = (layer.output_first(layer.quantized_weight().double()) - weight).square()
    bits = int(layer.weight_bits)
    beyond = weight.abs() > layer.weight_step.double() * q_max(bits, signed=True)
    energy = weight.square().sum()
    levels = 2 * q_max(bits, signed=True) + (bits > 1)
    return QuantizationError(levels, _share(error[beyond].sum(), energy), _share(error[~beyond].sum(), energy))


@torch.no_grad()
def spike_error(layer: QuantizedLayer, finest: Sequence[Tensor], spikes: Sequence[Tensor]) -> QuantizationError:
    """Of the layer's spikes on one batch.

    Args:
        layer: at the bits and steps that it has.
        finest: its spikes at its finest, a tensor a call, as an observer gets them.
        spikes: those at its bits.
    """
    steps, bits = layer.spike_step.double()[: layer.active_steps], layer.spike_bits[: layer.active_steps]
    largest = largest_level(steps, bits, signed=layer.signed_input, neuron=layer.neuron)
    edges = steps * largest
    at_a_frame = len(layer.neurons or ()) if layer.in_place else 1
    clipped, rounded, binned, energy = (torch.zeros((), dtype=torch.float64) for _ in range(4))
    fired: dict[int, tuple[Tensor, Tensor]] = {}
    full, nonzero = 0, 0
    for index, (before, after) in enumerate(zip(finest, spikes, strict=True)):
        before, after = before.double(), after.double()
        edge = edges.mean()
        if layer.loop == "frames":
            edge = edges[index // at_a_frame]
        elif layer.frames is not None:
            frames = hold_frames(before, layer.frames)
            before = bin_frames(frames, layer.active_steps)
            energy += frames.square().sum().cpu()
            binned += (hold_frames(before, layer.frames) - frames).square().sum().cpu()
            edge = edges.view(-1, *[1] * (after.dim() - 1))
        errors, beyond = (after - before).square(), before.abs() > edge
        # Of frames, every time step counts as often as it is held.
        held = layer.frames / layer.active_steps if layer.frames is not None and layer.loop != "frames" else 1.0
        clipped += held * errors[beyond].sum().cpu()
        rounded += held * errors[~beyond].sum().cpu()
        if layer.frames is None or layer.loop == "frames":
            energy += before.square().sum().cpu()
        full += int(((after.abs() >= edge * (1 - 1e-6)) & (after != 0)).sum())
        nonzero += int(torch.count_nonzero(after))
        samples = (0, 1) if layer.frames is not None and layer.loop != "frames" else (0,)
        place = index % at_a_frame if layer.loop == "frames" else index
        once, sent = ((each != 0).flatten(len(samples)).any(dim=samples) for each in (before, after))
        if place in fired:
            once, sent = once | fired[place][0], sent | fired[place][1]
        fired[place] = once, sent
    active = sum(int(before.sum()) for before, _ in fired.values())
    silent = sum(int((before & ~after).sum()) for before, after in fired.values())
    per_step = [int(level) for level in largest.expand(layer.active_steps)]
    levels = sum(per_step) if layer.frames is None else min(per_step)
    return QuantizationError(
        (2 if layer.signed_input else 1) * levels + 1,
        _share(clipped, energy),
        _share(rounded, energy),
        _share(binned, energy),
        silent / active if active else 0.0,
        full / nonzero if nonzero else 0.0,
    )


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole else 0.0
