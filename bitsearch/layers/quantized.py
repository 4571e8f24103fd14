"""What every quantized layer shares: steps, bit widths, and the spiking neuron at its input.

A quantized layer quantizes its weights and turns its input into spikes, then does what its torch parent does. Its
allocation is held twice: as latents (b̂, T̂), which the optimizer moves, and as the rounded values, the only ones the
forward pass uses. A layer without latents is fixed.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.errors import InputError
from bitsearch.layers.soft_weights import SoftWeights
from bitsearch.plan import LayerPlan
from bitsearch.quant.frames import bin_frames, hold_frames, with_time_gradient
from bitsearch.quant.neuron import membrane_steps, refined_neuron, spike
from bitsearch.quant.recomputation import recomputed
from bitsearch.quant.renewal import check_finite, renew_step
from bitsearch.quant.uniform import SMALLEST_STEP, Levels, initial_step, largest_level, quantize, quantized
from bitsearch.space import Choices, Span

Observer = Callable[[Tensor, Tensor, Tensor], None]
"""Gets a layer's input (clipped at zero where it is unsigned), its spikes and its quantized weight at every call.

The spikes are their mean over the time steps, shaped like the input; where the input has a time axis, ``[F, N, ...]``,
they are those of every time step, ``[T, N, ...]``.
"""

LOG_STEP_RANGE = (math.log(SMALLEST_STEP), 50.0)
"""Bounds of the learned logarithms: neither a zero nor an infinite step."""

HYSTERESIS = 0.05
"""A rounded value follows its latent only this far past the half-way point, so that none flips for ever."""


class QuantizedLayer(nn.Module):
    """Mixin in front of a torch layer; :func:`bitsearch.layers.convert.convert` makes instances.

    An input without a time axis is the same at every time step. One with a time axis, :attr:`frames` long, is either
    ``[F, N, ...]`` or folded, ``[F·N, ...]``, as spikingjelly's containers hand it on; it is binned into T time steps,
    and what they yield is held over the frames, so that the result has them again (:mod:`bitsearch.quant.frames`).

    ``straight_through`` False keeps the published gradient from the latents, for a method that brings its own;
    ``renew_weights`` and ``renew_spikes`` False let steps follow a bit change by gradient alone; ``renewals`` counts
    the steps that were renewed because their bits had changed.

    Buffers hold the rounded allocation, ``weight_bits`` (scalar), ``spike_bits`` (``[T_max]``), ``time_steps``
    (scalar), and for which bits each step size was set (``*_step_bits``, 0 before the first batch). Step sizes are
    learned as logarithms: an optimizer's step is then relative to a size that may be 1e-3 as well as 1, and none can
    reach zero (Jain et al. 2019, arXiv 1903.08066).
    """

    weight: Tensor
    sample_dims: int
    """Axes of one input."""
    operation: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """What the torch parent does with (input, weight, bias)."""
    weight_log_step: nn.Parameter
    spike_log_step: nn.Parameter
    weight_latent: nn.Parameter | None
    spike_latent: nn.Parameter | None
    time_latent: nn.Parameter | None
    soft_weights: SoftWeights | None
    """Stands for the uniform quantizer while it is there."""
    weight_bits: Tensor
    spike_bits: Tensor
    time_steps: Tensor
    weight_step_bits: Tensor
    spike_step_bits: Tensor

    def add_quantization(self, plan: LayerPlan, choices: Choices | None) -> None:
        """Give the layer the plan's bits; with ``choices``, latents that may move within them."""
        self.signed_input, self.granularity, self.decay = plan.signed_input, plan.granularity, plan.decay
        self.frames = plan.frames
        self.choices = choices
        self.renew_weights = self.renew_spikes = True
        self.renewals = 0
        self.straight_through = True
        self.observer: Observer | None = None
        self.soft_weights = None
        slots = plan.time_steps if choices is None else choices.time_steps.high
        device = self.weight.device
        step_shape = (self.weight.shape[0], *[1] * (self.weight.dim() - 1)) if self.granularity == "channel" else ()
        self.weight_log_step = nn.Parameter(torch.zeros(step_shape, dtype=torch.float32, device=device))
        self.spike_log_step = nn.Parameter(torch.zeros(slots, dtype=torch.float32, device=device))
        self.register_buffer("weight_bits", torch.zeros((), dtype=torch.float32, device=device))
        self.register_buffer("spike_bits", torch.zeros(slots, dtype=torch.float32, device=device))
        self.register_buffer("time_steps", torch.zeros((), dtype=torch.float32, device=device))
        self.register_buffer("weight_step_bits", torch.zeros((), dtype=torch.float32, device=device))
        self.register_buffer("spike_step_bits", torch.zeros(slots, dtype=torch.float32, device=device))
        self.weight_latent = self.spike_latent = self.time_latent = None
        self._write(plan)
        if choices is not None:
            self.weight_latent = nn.Parameter(self.weight_bits.clone())
            self.spike_latent = nn.Parameter(self.spike_bits.clone())
            self.time_latent = nn.Parameter(self.time_steps.clone())

    def _write(self, plan: LayerPlan) -> None:
        # A step beyond T is not in use; it shows the last one's bits, and gets fresh ones when it comes into use.
        unused = len(self.spike_bits) - plan.time_steps
        self.weight_bits.fill_(plan.weight_bits)
        self.spike_bits.copy_(torch.tensor([*plan.spike_bits, *plan.spike_bits[-1:] * unused]))
        self.time_steps.fill_(plan.time_steps)
        self.mirror()

    def mirror(self) -> None:
        """Read the buffers into the Python numbers that steer the forward pass; call after writing to them."""
        self.active_steps = int(self.time_steps)
        weight_bits, weight_for = int(self.weight_bits), int(self.weight_step_bits)
        spikes = list(zip(self.spike_bits.tolist(), self.spike_step_bits.tolist(), strict=True))[: self.active_steps]
        self._stale_weight = weight_bits != weight_for
        self._stale_spikes = [t for t, (bits, for_bits) in enumerate(spikes) if bits != for_bits]
        self._allocation = (weight_bits, tuple(int(bits) for bits, _ in spikes), self.active_steps)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.mirror()

    @property
    def weight_step(self) -> Tensor:
        """Step size of the weights: a scalar, or ``[C, 1, ...]``."""
        return self.weight_log_step.exp()

    @property
    def spike_step(self) -> Tensor:
        """Step size of each time step's spikes, ``[T_max]``."""
        return self.spike_log_step.exp()

    @property
    def searchable(self) -> bool:
        """True while the bits may still move."""
        return self.weight_latent is not None

    @property
    def latents(self) -> Tensor:
        """``[2 + T_max]``: latents of weight bits, time steps, and each step's spike bits; only while searchable."""
        assert self.weight_latent is not None
        assert self.time_latent is not None
        assert self.spike_latent is not None
        return torch.cat([self.weight_latent.view(1), self.time_latent.view(1), self.spike_latent])

    @property
    def layer_plan(self) -> LayerPlan:
        """The rounded allocation as plan data."""
        weight_bits, spike_bits, time_steps = self._allocation
        return LayerPlan(
            weight_bits=weight_bits,
            spike_bits=spike_bits,
            time_steps=time_steps,
            granularity=self.granularity,
            signed_input=self.signed_input,
            decay=self.decay,
            frames=self.frames,
        )

    def quantized_weight(self) -> Tensor:
        """The weights on their grid, shaped like ``weight``; near it while they are soft."""
        if self.soft_weights is not None:
            return self.soft_weights(self.weight)  # type: ignore[no-any-return]
        latent = self.weight_latent if self.straight_through else None
        return quantize(self.weight, self.weight_step, self.weight_bits, latent, signed=True)

    def forward(self, x: Tensor) -> Tensor:
        """What the torch parent does, on spikes and quantized weights; shapes as there, with the time axis kept."""
        if self.frames is None and x.dim() > self.sample_dims + 1 > 2:
            # Frames that the plan knows nothing of: each is a static input of its own.
            return self(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        sequence = x if self.frames is None else self._sequence(x, self.frames)
        spikes, weight = self.quantized_operands(sequence)
        bias: Any = self.bias
        with self.operands_recomputed(sequence, spikes, weight):
            if self.frames is None:
                return self.operation(spikes, weight, bias)
            result = self.operation(spikes.flatten(0, 1), weight, bias)
        result = hold_frames(result.unflatten(0, spikes.shape[:2]), self.frames)
        return result if sequence is x else result.flatten(0, 1)

    def _sequence(self, x: Tensor, frames: int) -> Tensor:
        """``[F, N, ...]``, of an input that may be folded."""
        # Folded tokens of a single input look like a time axis, and mean the same.
        unfolded = x.dim() > self.sample_dims + 1 and x.shape[0] == frames
        if not unfolded and (x.dim() > self.sample_dims + 1 > 2 or x.shape[0] % frames):
            raise InputError(
                f"the plan is for inputs of {frames} frames; an input of shape {tuple(x.shape)} has others"
            )
        return x if unfolded else x.unflatten(0, (frames, -1))

    def _currents(self, x: Tensor) -> Tensor:
        """What the neuron integrates: the input itself, or a mean of its frames for every time step."""
        return x if self.frames is None else bin_frames(x, self.active_steps)

    def spikes(self, x: Tensor) -> Tensor:
        """Mean spikes of the input, shaped like ``x``; with a time axis, ``[T, N, ...]`` of ``[F, N, ...]``."""
        framed = self.frames is not None
        spike_latent, time_latent = (self.spike_latent, self.time_latent) if self.straight_through else (None, None)
        steps, bits = self.spike_step, self.spike_bits
        spikes = refined_neuron(
            self._currents(x),
            steps,
            bits,
            spike_latent,
            None if framed else time_latent,
            time_steps=self.active_steps,
            decay=self.decay,
            signed=self.signed_input,
            framed=framed,
        )
        if not framed or time_latent is None or not torch.is_grad_enabled():
            return spikes
        return with_time_gradient(spikes, x, steps, bits, time_latent, decay=self.decay, signed=self.signed_input)

    def quantized_operands(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes, quantized weight) for an input; renews the steps whose bits have changed."""
        if self._stale_weight or self._stale_spikes:
            self._renew(x)
        spikes, weight = self.spikes(x), self.quantized_weight()
        if self.observer is not None:
            self.observer(x if self.signed_input else x.clamp_min(0), spikes, weight)
        return spikes, weight

    def operands_recomputed(self, x: Tensor, spikes: Tensor, weight: Tensor) -> AbstractContextManager[object]:
        """For :mod:`bitsearch.quant.recomputation`: how the layer's operands are computed again in backward."""
        weight_step, weight_bits = self.weight_step.detach(), self.weight_bits
        spike_step, spike_bits = self.spike_step.detach(), self.spike_bits
        settings = (self.active_steps, self.decay, self.signed_input, self.frames is not None)

        def spikes_again() -> Tensor:
            largest = largest_level(spike_bits, signed=self.signed_input)
            return spike(self._currents(x), spike_step, spike_bits, largest, *settings)

        def weight_again() -> Tensor:
            if self.soft_weights is not None:
                return self.quantized_weight()
            largest = largest_level(weight_bits, signed=True)
            return quantized(self.weight, weight_step, weight_bits, largest, signed=True)

        return recomputed((spikes, spikes_again), (weight, weight_again))

    @torch.no_grad()
    def _renew(self, x: Tensor) -> None:
        # A search for the best step needs more digits than autocast would leave its matrix product.
        with torch.autocast(x.device.type, enabled=False):
            self._renew_stale(x)

    def _renew_stale(self, x: Tensor) -> None:
        # Before anything is written, so that a layer that refuses its input is as it was.
        if self._stale_weight:
            check_finite(self.weight)
        if self._stale_spikes:
            check_finite(x)
        per_channel = self.granularity == "channel"
        if self._stale_weight:
            first = not self.weight_step_bits
            if first:
                step = initial_step(self.weight, self.weight_bits, signed=True, per_channel=per_channel)
                self.weight_log_step.copy_(step.log())
            if self.renew_weights:
                self.renewals += not first
                step = renew_step(self.weight, self.weight_bits, signed=True, per_channel=per_channel)
                self.weight_log_step.copy_(step.log())
            self.weight_step_bits.copy_(self.weight_bits)
        currents = self._currents(x)
        for t in self._stale_spikes:
            membrane = self._membrane(currents, t)
            first = not self.spike_step_bits[t]
            if first:
                step = initial_step(membrane, self.spike_bits[t], signed=self.signed_input, shared=True)
                self.spike_log_step[t] = step.log()
            if self.renew_spikes:
                self.renewals += not first
                step = renew_step(membrane, self.spike_bits[t], signed=self.signed_input, shared=True)
                self.spike_log_step[t] = step.log()
            self.spike_step_bits[t] = self.spike_bits[t]
        self.mirror()

    def _recurrence(self, currents: Tensor, time_steps: int) -> Iterator[tuple[Levels, Tensor]]:
        return membrane_steps(
            currents,
            self.spike_step,
            self.spike_bits,
            time_steps=time_steps,
            decay=self.decay,
            signed=self.signed_input,
            framed=self.frames is not None,
        )

    def _membrane(self, currents: Tensor, t: int) -> Tensor:
        """u_t, given the steps before it."""
        steps = list(currents) if self.frames is not None else [currents] * (t + 1)
        membrane = steps[0]
        for current, (_, spikes) in zip(steps[1:], self._recurrence(currents, t), strict=False):
            membrane = self.decay * (membrane - spikes) + current
        return membrane

    @torch.no_grad()
    def count_spikes(self, x: Tensor) -> tuple[int, int]:
        """(non-zero spikes, all spikes) over the time steps for an input."""
        nonzero = total = 0
        for levels, _ in self._recurrence(self._currents(x), self.active_steps):
            nonzero += int(torch.count_nonzero(levels.codes))
            total += levels.codes.numel()
        return nonzero, total

    @torch.no_grad()
    def count_synops(self, x: Tensor, *, unrolled: bool = False) -> int:
        """Synaptic operations for an input over the time steps: the connections that non-zero spikes go through.

        Connections are counted one by one, so a spike at a padded edge has fewer. With ``unrolled``, a spike of level k
        is taken for k binary ones, as :class:`spikingjelly.activation_based.layer.SpikeCountToBinary` unrolls it.
        """
        spikes = torch.zeros_like(x if self.frames is None else x[0], dtype=torch.float64)
        for levels, _ in self._recurrence(self._currents(x), self.active_steps):
            spikes += levels.codes.abs() if unrolled else levels.codes != 0
        # The layer's own operation adds up the spikes that reach one output channel of every group.
        groups = getattr(self, "groups", 1)
        ones = spikes.new_ones(groups, *self.weight.shape[1:])
        return int(self.operation(spikes, ones, None).sum()) * (self.weight.shape[0] // groups)

    @torch.no_grad()
    def follow_latents(self, weight: float, spikes: list[float], time_steps: float) -> bool:
        """Round given latent values into the buffers, with hysteresis; True if any rounded value changed."""
        old_weight, old_spikes, old_time = self._allocation
        assert self.spike_latent is not None
        assert self.choices is not None
        new_weight = _follow(weight, old_weight, self.choices.weight_bits)
        new_time = _follow(time_steps, old_time, self.choices.time_steps)
        allowed = self.choices.spike_bits
        new_spikes = [_follow(value, old, allowed) for value, old in zip(spikes, old_spikes, strict=False)][:new_time]
        for t in range(old_time, new_time):
            # A time step that comes into use starts from its predecessor's bits and gets a step size of its own.
            new_spikes.append(new_spikes[-1])
            self.spike_latent[t] = float(new_spikes[-1])
            self.spike_step_bits[t] = 0
        if (new_weight, tuple(new_spikes), new_time) == self._allocation:
            return False
        self._write(
            LayerPlan(
                weight_bits=new_weight,
                spike_bits=tuple(new_spikes),
                time_steps=new_time,
                signed_input=self.signed_input,
            )
        )
        return True

    @torch.no_grad()
    def hold(self, plan: LayerPlan) -> None:
        """Put the latents at a plan's bits; unlike :meth:`fix`, they stay, and may move from there."""
        assert self.weight_latent is not None
        assert self.spike_latent is not None
        assert self.time_latent is not None
        # A time step that comes into use gets a step size of its own.
        self.spike_step_bits[self.active_steps : plan.time_steps] = 0
        self._write(plan)
        self.weight_latent.copy_(self.weight_bits)
        self.spike_latent.copy_(self.spike_bits)
        self.time_latent.copy_(self.time_steps)

    @torch.no_grad()
    def bound(self) -> None:
        """Keep latents inside their choices and steps finite; call after every optimizer step."""
        self.weight_log_step.clamp_(*LOG_STEP_RANGE)
        self.spike_log_step.clamp_(*LOG_STEP_RANGE)
        if self.choices is not None and self.weight_latent is not None:
            assert self.spike_latent is not None
            assert self.time_latent is not None
            self.weight_latent.clamp_(self.choices.weight_bits.low, self.choices.weight_bits.high)
            self.spike_latent.clamp_(self.choices.spike_bits.low, self.choices.spike_bits.high)
            self.time_latent.clamp_(self.choices.time_steps.low, self.choices.time_steps.high)

    @torch.no_grad()
    def harden(self) -> None:
        """Replace soft weights by their hard values, on the uniform grid whose step size is α."""
        soft = self.soft_weights
        if soft is None:
            return
        soft.eval()
        self.weight.copy_(soft(self.weight))
        self.weight_log_step.copy_(soft.log_alpha)
        self.weight_step_bits.copy_(self.weight_bits)
        self.soft_weights = None
        self.mirror()

    @torch.no_grad()
    def fix(self, plan: LayerPlan) -> None:
        """Take the plan's bits and drop the latents; steps whose bits differ are renewed at the next forward pass."""
        slots = plan.time_steps
        kept_steps, kept_for = self.spike_log_step.detach(), self.spike_step_bits.clone()
        # A time step that was out of use has no step size of its own yet.
        kept_for[self.active_steps :] = 0
        if slots > len(kept_steps):
            extra = slots - len(kept_steps)
            kept_steps = torch.cat([kept_steps, kept_steps.new_zeros(extra)])
            kept_for = torch.cat([kept_for, kept_for.new_zeros(extra)])
        self.spike_log_step = nn.Parameter(kept_steps[:slots].clone())
        self.spike_step_bits = kept_for[:slots].clone()
        self.spike_bits = kept_for.new_zeros(slots)
        self.weight_latent = self.spike_latent = self.time_latent = None
        self.renew_weights = self.renew_spikes = True
        self._write(plan)


def _follow(latent: float, current: int, allowed: Span) -> int:
    target = allowed.nearest(latent)
    step = allowed.neighbour(current, 1 if target > current else -1)
    half_way = 0.0 if step is None else abs(step - current) / 2
    return target if abs(latent - current) > half_way + HYSTERESIS else current
