"""Setting a layer's step sizes anew when its bits have changed, and for the first time (Yao et al. 2025, renewal)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bitsearch.distributed import all_reduce_max
from bitsearch.layers.calls import Calls
from bitsearch.layers.learned_allocation import LearnedAllocation
from bitsearch.quant.firing import residual, spike_levels
from bitsearch.quant.frames import bin_frames
from bitsearch.quant.matching import fitting_step, matching_step
from bitsearch.quant.recurrence import membrane_steps
from bitsearch.quant.renewal import check_finite, renew_step
from bitsearch.quant.uniform import initial_step, working_precision

MOST_BITS = 24
"""Bits of a neuron whose spikes have no largest: whole numbers up to 2^24 are exact in float32."""


class StepRenewal(LearnedAllocation):
    """The sizes of a layer's weight and spike steps, by what is quantized.

    ``renew_weights`` and ``renew_spikes`` False let steps follow a bit change by gradient alone; ``renewals`` counts
    the steps that were renewed because their bits had changed.
    """

    calls: Calls
    """Those of the forward pass that runs, where it makes several."""

    @torch.no_grad()
    def _renew(self, renew: Callable[[], None]) -> None:
        """Run ``renew``, which sets sizes, in full precision."""
        # A search for the best step needs more digits than autocast would leave its matrix product.
        with torch.autocast(self.weight.device.type, enabled=False):
            renew()
        self.refresh_cache()

    def _renew_stale(self, x: Tensor) -> None:
        """Set every size whose bits have changed, by the weight and by the layer's whole input."""
        # Before anything is written, so that a layer that refuses its input is as it was.
        if self._stale_spikes:
            check_finite(x)
        if self._stale_weight:
            self._renew_weight()
        stale = self._stale_spikes
        if self.loop == "shared" or self.in_place:
            # One step for all calls, or neurons: their currents in a pass in which bits have changed count together.
            x, stale = self.calls.add_input(x, stale, framed=self.frames is not None)
        if stale:
            self._renew_steps(x, stale)

    def _renew_weight(self) -> None:
        """Set the size of the weights."""
        weight = self.output_first(self.weight)
        check_finite(weight)
        per_channel = self.granularity == "channel"
        first = not self.weight_step_bits
        if first:
            step = initial_step(weight, self.weight_bits, signed=True, per_channel=per_channel)
            self.weight_log_step.copy_(step.log())
        if self.renew_weights:
            self.renewals += not first
            step = renew_step(
                weight, self.weight_bits, signed=True, per_channel=per_channel, power_of_two=self.power_of_two
            )
            self.weight_log_step.copy_(step.log())
        self.weight_step_bits.copy_(self.weight_bits)
        for partner in self.weight_partners:
            partner.weight_step_bits.copy_(self.weight_bits)
            partner.refresh_cache()

    def _renew_steps(self, x: Tensor, stale: list[int]) -> None:
        """Set the sizes of the ``stale`` time steps one by one, each by what those before it leave on the membrane."""
        framed = self.frames is not None
        currents = working_precision(bin_frames(x, self.active_steps) if framed else x)
        membrane = currents[0] if framed else currents
        before = self._spikes_before(x) if self.replaces_neurons and self._first_spikes else None
        to_size = stale
        for t in range(stale[-1] + 1):
            if t in to_size:
                self._renew_spikes(t, membrane, None if before is None else before[t])
                if self.spike_granularity == "layer" and self.spike_step_bits[t]:
                    # It is the others' size too.
                    to_size = []
            if t < stale[-1]:
                spikes = self._spikes_of(membrane, self.spike_step[t], self.spike_bits[t])
                current = currents[t + 1] if framed else currents
                membrane = self.decay * residual(membrane, spikes, self.neuron, self.decay) + current

    def _renew_call(self, t: int, current: Tensor, membrane: Tensor, calls: Calls) -> None:
        """Set time step t's size, of a neuron that is called once for each, if it is to be set."""
        before = None
        if self.replaces_neurons and self._first_spikes:
            reference = calls.reference
            reference = current if reference is None else torch.add(current, reference, alpha=self.decay)
            before = self._spikes_of(reference, *self.unrefined)
            calls.reference = residual(reference, before, self.neuron, self.decay)
        if t in self._stale_spikes:
            self._renew_spikes(t, membrane, before)

    @property
    def unrefined(self) -> tuple[Tensor, Tensor]:
        """(step, bits) of the network's own neuron, scalars: its currents are in units of its threshold."""
        assert self.neuron is not None
        largest = 2.0**MOST_BITS if self.neuron.largest is None else self.neuron.largest
        step = torch.ones((), dtype=torch.float32, device=self.weight.device)
        return step, step * math.ceil(math.log2(largest + 1))

    def _spikes_of(self, membrane: Tensor, step: Tensor, bits: Tensor) -> Tensor:
        return spike_levels(membrane, step, bits, signed=self.signed_input, neuron=self.neuron).codes * step

    def unrefined_spikes(self, x: Tensor, time_steps: int) -> Tensor:
        """``[time_steps, ...]``: what the network's own neuron sends for frames ``x``, or for a static input."""
        step, bits = self.unrefined
        recurrence = membrane_steps(
            x,
            step.expand(time_steps),
            bits.expand(time_steps),
            time_steps=time_steps,
            decay=self.decay,
            signed=self.signed_input,
            framed=self.frames is not None,
            neuron=self.neuron,
        )
        return torch.stack([spikes for _, spikes in recurrence])

    def _spikes_before(self, x: Tensor) -> Tensor:
        """``[T, ...]``: what the network's own neuron sends at every time step, as the mean of that one's frames."""
        return bin_frames(self.unrefined_spikes(x, self.frames or self.active_steps), self.active_steps)

    def _match_spikes(self, t: int, membrane: Tensor, before: Tensor | None) -> None:
        """Set time step t's size so that the neuron sends what it sent before, whose layers have learned to read it.

        For the first time that is what the network's own neuron sends, ``before``, whose threshold is 1.
        """
        first, step = not self.spike_step_bits[t], self.spike_step[t]
        if first:
            assert before is not None
            step, before_bits = self.unrefined
            # With the network's own time steps, and as many bits or more, the neuron is the network's.
            is_own = bool(self.spike_bits[t] >= before_bits) and self.frames in (None, self.active_steps)
        else:
            before_bits, is_own = self.spike_step_bits[t], False
            before = self._spikes_of(membrane, step, before_bits)
        if not is_own and (first or self.renew_spikes):
            if not self._is_excited(membrane):
                return
            self.renewals += not first
            step = matching_step(
                membrane,
                before,
                step,
                self.spike_bits[t],
                before=before_bits,
                neuron=self.neuron,
                shared=True,
                power_of_two=self.power_of_two,
            )
        self._set_spike_step(t, step)
        self._mark_sized(self._sized_with(t))

    def _set_spike_step(self, t: int, step: Tensor) -> None:
        self.spike_log_step[0 if self.spike_granularity == "layer" else t] = step.log()

    def _sized_with(self, t: int) -> slice:
        """The time steps that have a size once time step t has."""
        return slice(self.active_steps) if self.spike_granularity == "layer" else slice(t, t + 1)

    def _takes_size(self, t: int) -> bool:
        """True if time step t comes into use where one size is for all, and that is known: it takes it as it is."""
        return (
            self.spike_granularity == "layer"
            and not self.spike_step_bits[t]
            and bool(self.spike_step_bits[: self.active_steps].any())
        )

    def _is_excited(self, membrane: Tensor) -> bool:
        """True if a membrane of any process is not silent, for the spikes that the layer has."""
        excited = membrane.abs() if self.signed_input else membrane
        return bool(all_reduce_max(excited.max() if excited.numel() else excited.new_zeros(())) > 0)

    def _renew_spikes(self, t: int, membrane: Tensor, before: Tensor | None = None) -> None:
        """Set time step t's size by its membrane; it stays open where nothing has come in yet."""
        check_finite(membrane)
        if self._takes_size(t):
            self.spike_step_bits[t] = self.spike_bits[t]
            return
        if self.replaces_neurons:
            self._match_spikes(t, membrane, before)
            return
        if not self._is_excited(membrane):
            return
        first = not self.spike_step_bits[t]
        if first:
            step = initial_step(membrane, self.spike_bits[t], signed=self.signed_input, shared=True)
            self._set_spike_step(t, step)
        if self.renew_spikes:
            self.renewals += not first
            step = fitting_step(
                membrane,
                self.spike_bits[t],
                signed=self.signed_input,
                neuron=self.neuron,
                shared=True,
                power_of_two=self.power_of_two,
            )
            self._set_spike_step(t, step)
        self._mark_sized(self._sized_with(t))

    def _mark_sized(self, steps: slice) -> None:
        """Note that these time steps have sizes for their bits, here and where they are the sizes as well."""
        self.spike_step_bits[steps] = self.spike_bits[steps]
        for partner in self.spike_partners:
            partner.spike_step_bits[steps] = self.spike_bits[steps]
            partner.refresh_cache()
