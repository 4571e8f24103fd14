"""What every quantized layer shares: steps, bit widths, and the spiking neuron at its input.

A quantized layer quantizes its weights and turns its input into spikes, then does what its torch parent does. How many
bits it has is the matter of :mod:`bitsearch.layers.learned_allocation`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.choices import Choices
from bitsearch.errors import InputError
from bitsearch.layers.calls import Calls
from bitsearch.layers.soft_weights import SoftWeights
from bitsearch.layers.spike_counts import SpikeCounts
from bitsearch.plan import LayerPlan
from bitsearch.quant.firing import largest_level, residual
from bitsearch.quant.frames import first_frames, hold_frames, with_time_gradient
from bitsearch.quant.membrane_gradient import goes_through_time
from bitsearch.quant.membrane_width import next_membrane, saturated
from bitsearch.quant.neuron import refined_neuron, spike
from bitsearch.quant.recomputation import recomputed
from bitsearch.quant.uniform import q_max, quantize, quantized, working_precision

Observer = Callable[[Tensor, Tensor, Tensor], None]
"""Gets a layer's input, its spikes and its quantized weight at every call.

The input of an unsigned layer is clipped at zero, unless its neuron is the network's own, which integrates all of it.
The spikes are their mean over the time steps, shaped like the input; where the input has a time axis, ``[F, N, ...]``,
they are those of every time step, ``[T, N, ...]``.
"""
ArrivalObserver = Callable[[Tensor], None]
"""What a layer multiplies where neurons in their places fired it: ``[N, ...]``, or ``[T·N, ...]`` of sequences."""


class QuantizedLayer(SpikeCounts):
    """Mixin in front of a torch layer; :func:`bitsearch.layers.convert.convert` makes instances.

    An input without a time axis is the same at every time step. One with a time axis, :attr:`frames` long, is either
    ``[F, N, ...]`` or folded, ``[F·N, ...]``, as spikingjelly's containers hand it on; it is binned into T time steps,
    and what they yield is held over the frames, so that the result has them again (:mod:`bitsearch.quant.frames`).

    Where the plan says ``in_place``, the layer's neurons stand where the network's did
    (:mod:`bitsearch.layers.neurons.placed_neuron`), and its input is what has become of their spikes on the way.

    ``straight_through`` False keeps the published gradient from the latents, for a method that brings its own.
    """

    weight: Tensor
    weight_partners: tuple["QuantizedLayer", ...]
    sample_dims: int
    """Axes of one input."""
    soft_weights: nn.Module | None
    """Takes the weight, and stands for the uniform quantizer while it is there."""

    def add_quantization(self, plan: LayerPlan, choices: Choices | None) -> None:
        """Give the layer the plan's bits; with ``choices``, latents that may move within them."""
        self.straight_through = True
        self.observer: Observer | None = None
        self.arrival_observer: ArrivalObserver | None = None
        self.soft_weights = None
        self.add_allocation(plan, choices)
        self.begin_pass()

    def quantized_weight(self) -> Tensor:
        """The weights on their grid, shaped like ``weight``; near it while they are soft."""
        if self.soft_weights is not None:
            return self.soft_weights(self.weight)  # type: ignore[no-any-return]  # a module returns Any
        latent = self.weight_latent if self.straight_through else None
        weight = self.output_first(self.weight)
        return self.in_layout(quantize(weight, self.weight_step, self.weight_bits, latent, signed=True))

    def begin_pass(self) -> None:
        """Forget what the layer keeps between its calls in one forward pass."""
        self.calls = Calls()

    def forward(self, x: Tensor) -> Tensor:
        """What the torch parent does, on spikes and quantized weights; shapes as there, with the time axis kept."""
        self.has_run = True
        if self.in_place:
            return self._of_spikes(x)
        if self.loop == "frames":
            return self._next_frame(x)
        if self.loop != "same":
            return self._whole(x)
        if self.calls.result is None or not self.calls.had(x):
            # What a dropout changes between two calls is computed anew.
            self.calls.input, self.calls.version, self.calls.result = x, x._version, self._whole(x)
        # A copy, since what comes next may work in place.
        return self.calls.result.clone()

    def _whole(self, x: Tensor) -> Tensor:
        """Of an input that holds everything, its whole time axis if it has one."""
        if self.frames is None and x.dim() > self.sample_dims + 1 > 2:
            # Frames that the plan knows nothing of: each is a static input of its own.
            result: Tensor = self._whole(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return result
        sequence = x if self.frames is None else self._sequence(x, self.frames)
        spikes, weight = self.quantized_operands(sequence)
        bias: Any = self.bias
        with self.operands_recomputed(sequence, spikes, weight):
            if self.frames is None:
                return self.operation(spikes, weight, bias)
            result = self.operation(spikes.flatten(0, 1), weight, bias)
        result = hold_frames(result.unflatten(0, spikes.shape[:2]), self.frames)
        return result if sequence is x else result.flatten(0, 1)

    def _next_frame(self, x: Tensor) -> Tensor:
        """Of one frame."""
        spikes = self.next_spikes(x, self.calls)
        bias: Any = self.bias
        self.observe(x, spikes, self.pass_weight())
        return self.operation(spikes, self.pass_weight(), bias)

    def next_spikes(self, x: Tensor, calls: Calls) -> Tensor:
        """Of one frame: the recurrence of :mod:`bitsearch.quant.neuron`, one a call; ``calls`` keeps the membrane."""
        t, remaining = calls.count, calls.residual
        if t >= self.active_steps:
            raise InputError(f"the plan is for inputs of {self.active_steps} frames; this one has more")
        calls.count += 1
        current = working_precision(x)
        membrane = current if remaining is None or not self.decay else torch.add(current, remaining, alpha=self.decay)
        if self._stale_spikes:
            self._renew(lambda: self._renew_call(t, current, membrane, calls))
        membrane = self._as_stored(membrane, current, remaining)
        latent = self.spike_latent if self.straight_through else None
        spikes = refined_neuron(
            membrane,
            self.spike_step[t : t + 1],
            self.spike_bits[t : t + 1],
            None if latent is None else latent[t : t + 1],
            time_steps=1,
            signed=self.signed_input,
            neuron=self.neuron,
            width=self.membrane_width,
        )
        remaining = residual(membrane, spikes, self.neuron, self.decay)
        calls.residual = remaining if goes_through_time() else remaining.detach()
        calls.step, calls.membrane = t, membrane.detach()
        return spikes.to(x.dtype)

    def _as_stored(self, membrane: Tensor, current: Tensor, remaining: Tensor | None) -> Tensor:
        """A membrane as its width holds it, with the gradient of what it is without one."""
        width, step = self.membrane_width, self.spike_step[0].detach()
        if width is None:
            return membrane
        left = None if remaining is None else remaining.detach() / step
        rounded = saturated(next_membrane(current.detach() / step, left, self.decay, width), width) * step
        # A difference of exactly 0 has the gradient of the first.
        return rounded + (membrane - membrane.detach())

    def pass_weight(self) -> Tensor:
        """The weights on their grid; one tensor for all frames of a loop, and for all that is observed of a pass."""
        if self._stale_weight:
            self._renew(self._renew_weight)
        if self.calls.weight is not None:
            return self.calls.weight
        weight = self.quantized_weight()
        if self.loop == "frames" or self.observer is not None:
            self.calls.weight = weight
        return weight

    def _of_spikes(self, x: Tensor) -> Tensor:
        """Of spikes that neurons in places of their own fired."""
        if (self.frames is None or self.loop == "frames") and x.dim() > self.sample_dims + 1 > 2:
            result: Tensor = self._of_spikes(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return result
        held = self.frames is not None and self.loop != "frames"
        sequence = self._sequence(x, self.frames) if held and self.frames is not None else x
        spikes = first_frames(sequence, self.active_steps).flatten(0, 1) if held else sequence
        if self.arrival_observer is not None:
            self.arrival_observer(spikes)
        weight = self.pass_weight()
        bias: Any = self.bias
        with recomputed((weight, self._weight_again())):
            result = self.operation(spikes, weight, bias)
        if not held or self.frames is None:
            return result
        result = hold_frames(result.unflatten(0, (self.active_steps, -1)), self.frames)
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
            neuron=self.neuron,
            width=self.membrane_width,
        )
        if not framed or time_latent is None or not torch.is_grad_enabled():
            return spikes
        return with_time_gradient(
            spikes,
            x,
            steps,
            bits,
            time_latent,
            decay=self.decay,
            signed=self.signed_input,
            neuron=self.neuron,
            width=self.membrane_width,
        )

    def fire(self, x: Tensor) -> Tensor:
        """:meth:`spikes`; renews the steps whose bits have changed."""
        if self._stale_weight or self._stale_spikes or self.calls.open_steps:
            self._renew(lambda: self._renew_stale(x))
        return self.spikes(x)

    def quantized_operands(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes, quantized weight) for an input; renews the steps whose bits have changed."""
        spikes, weight = self.fire(x), self.quantized_weight()
        self.observe(x, spikes, weight)
        return spikes, weight

    def observe(self, x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        """Show a call to the observer."""
        if self.observer is not None:
            # The network's own neuron integrates what is below zero.
            clipped = not self.signed_input and not self.replaces_neurons
            self.observer(x.clamp_min(0) if clipped else x, spikes, weight)

    def operands_recomputed(self, x: Tensor, spikes: Tensor, weight: Tensor) -> AbstractContextManager[object]:
        """For :mod:`bitsearch.quant.recomputation`: how the layer's operands are computed again in backward."""
        spike_step, spike_bits = self.spike_step.detach(), self.spike_bits
        framed = self.frames is not None
        settings = (self.active_steps, self.decay, self.signed_input, framed, self.neuron, self.membrane_width)

        def spikes_again() -> Tensor:
            largest = largest_level(spike_step, spike_bits, signed=self.signed_input, neuron=self.neuron)
            return spike(self._currents(x), spike_step, spike_bits, largest, *settings)

        return recomputed((spikes, spikes_again), (weight, self._weight_again()))

    def _weight_again(self) -> Callable[[], Tensor]:
        weight_step, weight_bits = self.weight_step.detach(), self.weight_bits

        def weight_again() -> Tensor:
            if self.soft_weights is not None:
                return self.quantized_weight()
            largest = q_max(weight_bits, signed=True)
            weight = self.output_first(self.weight)
            return self.in_layout(quantized(weight, weight_step, weight_bits, largest, signed=True))

        return weight_again

    @torch.no_grad()
    def harden(self) -> None:
        """Replace soft weights by their hard values, on the uniform grid whose step size is α."""
        soft = self.soft_weights
        if not isinstance(soft, SoftWeights):
            return
        soft.eval()
        self.weight.copy_(soft(self.weight))
        self.weight_log_step.copy_(soft.log_alpha)
        self.weight_step_bits.copy_(self.weight_bits)
        self.soft_weights = None
        self.refresh_cache()
        for partner in self.weight_partners:
            # What is hard is not hardened again.
            partner.soft_weights = None
            partner.weight_step_bits.copy_(self.weight_bits)
            partner.refresh_cache()
