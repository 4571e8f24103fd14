"""Setting a layer's step sizes anew when its bits have changed, and for the first time (Yao et al. 2025, renewal)."""

from collections.abc import Callable

import torch
from torch import Tensor

from bitsearch.distributed import all_reduce_max
from bitsearch.layers.calls import Calls
from bitsearch.layers.learned_allocation import LearnedAllocation
from bitsearch.quant.renewal import check_finite, renew_step
from bitsearch.quant.uniform import initial_step, q_max, to_levels, working_precision


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

    def _renew_stale(self, currents: Tensor) -> None:
        """Set every size whose bits have changed, by the weight and by what the neuron integrates."""
        # Before anything is written, so that a layer that refuses its input is as it was.
        if self._stale_spikes:
            check_finite(currents)
        if self._stale_weight:
            self._renew_weight()
        stale = self._stale_spikes
        if self.loop == "shared" or self.in_place:
            # One step for all calls, or neurons: their currents in a pass in which bits have changed count together.
            currents, stale = self.calls.add_input(currents, stale, framed=self.frames is not None)
        if stale:
            self._renew_steps(currents, stale)

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
            step = renew_step(weight, self.weight_bits, signed=True, per_channel=per_channel)
            self.weight_log_step.copy_(step.log())
        self.weight_step_bits.copy_(self.weight_bits)

    def _renew_steps(self, currents: Tensor, stale: list[int]) -> None:
        """Set the sizes of the ``stale`` time steps one by one, each by what those before it leave on the membrane."""
        membrane = working_precision(currents if self.frames is None else currents[0])
        for t in range(stale[-1] + 1):
            if t in stale:
                self._renew_spikes(t, membrane)
            if t < stale[-1]:
                bits, step = self.spike_bits[t], self.spike_step[t]
                levels = to_levels(
                    membrane, step, bits, signed=self.signed_input, largest=q_max(bits, signed=self.signed_input)
                )
                current = currents if self.frames is None else currents[t + 1]
                membrane = self.decay * (membrane - levels.codes * step) + working_precision(current)

    def _renew_spikes(self, t: int, membrane: Tensor) -> None:
        """Set time step t's size by its membrane; it stays open where nothing has come in yet."""
        check_finite(membrane)
        excited = membrane.abs() if self.signed_input else membrane
        if not all_reduce_max(excited.max() if excited.numel() else excited.new_zeros(())) > 0:
            return
        first = not self.spike_step_bits[t]
        if first:
            step = initial_step(membrane, self.spike_bits[t], signed=self.signed_input, shared=True)
            self.spike_log_step[t] = step.log()
        if self.renew_spikes:
            self.renewals += not first
            step = renew_step(membrane, self.spike_bits[t], signed=self.signed_input, shared=True)
            self.spike_log_step[t] = step.log()
        self.spike_step_bits[t] = self.spike_bits[t]
