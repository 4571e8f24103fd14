"""How many spikes a layer's neuron fires for an input, and how many connections they go through."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bitsearch.layers.step_renewal import StepRenewal
from bitsearch.quant.frames import bin_frames
from bitsearch.quant.recurrence import membrane_steps
from bitsearch.quant.uniform import Levels


def nonzero_counts(x: Tensor) -> Tensor:
    """float64 ``[1, ...]`` of ``[N, ...]``: of how many samples an entry is not zero."""
    # Ones written as floats are summed several times as fast as booleans; up to 2^24 samples the sum is exact,
    # in float32 also where the spikes have half precision.
    ones = torch.ne(x, 0, out=torch.empty_like(x))
    return ones.sum(0, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)).double()


class SpikeCounts(StepRenewal):
    """What a quantized layer's neuron does with an input, counted step by step."""

    operation: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """What the torch parent does with (input, weight, bias)."""

    def _currents(self, x: Tensor) -> Tensor:
        """What the neuron integrates: the input itself, or a mean of its frames for every time step."""
        return x if self.frames is None or self.loop == "frames" else bin_frames(x, self.active_steps)

    def _recurrence(self, currents: Tensor, time_steps: int) -> Iterator[tuple[Levels, Tensor]]:
        if self.loop == "frames" and self.calls.membrane is not None:
            # One call is one step of it.
            one = slice(self.calls.step, self.calls.step + 1)
            steps, bits = self.spike_step[one], self.spike_bits[one]
            return membrane_steps(
                self.calls.membrane,
                steps,
                bits,
                time_steps=1,
                decay=self.decay,
                signed=self.signed_input,
                neuron=self.neuron,
                width=self.membrane_width,
            )
        return membrane_steps(
            currents,
            self.spike_step,
            self.spike_bits,
            time_steps=time_steps,
            decay=self.decay,
            signed=self.signed_input,
            framed=self.frames is not None,
            neuron=self.neuron,
            width=self.membrane_width,
        )

    @torch.no_grad()
    def count(self, x: Tensor, spikes: Tensor | None = None, *, unrolled: bool = False) -> tuple[int, int, int]:
        """(non-zero spikes, all spikes, synaptic operations) over the time steps for an input.

        Connections are counted one by one, so a spike at a padded edge has fewer. ``spikes`` are what the layer has
        fired for the input already, if it has: only where they are a mean over several time steps do neurons fire
        anew. With ``unrolled``, a spike of level k goes through its connections k times, as binary ones would into
        which :class:`spikingjelly.activation_based.layer.SpikeCountToBinary` unrolls it.
        """
        nonzero = total = 0
        through: Tensor | None = None
        for codes in self.codes(x, None if unrolled else spikes):
            fired = nonzero_counts(codes)
            nonzero += int(fired.sum())
            total += codes.numel()
            sent = codes.abs().sum(0, keepdim=True, dtype=torch.float64) if unrolled else fired
            through = sent if through is None else through.add_(sent)
        assert through is not None
        return nonzero, total, self.connections(through)

    def codes(self, x: Tensor, spikes: Tensor | None) -> Iterator[Tensor]:
        """By time step, a tensor that is zero where no spike is sent, and whose entries are levels without ``spikes``.

        ``spikes`` are as :meth:`count` takes them. Of half precision, spikes may be zero that are none.
        """
        is_sequence = self.frames is not None and self.loop != "frames"
        is_one_step = self.loop == "frames" or self.active_steps == 1
        if spikes is None or spikes.dtype != torch.float32 or not (is_sequence or is_one_step):
            yield from (levels.codes for levels, _ in self._recurrence(self._currents(x), self.active_steps))
        elif is_sequence:
            yield from spikes
        else:
            yield spikes

    def count_spikes(self, x: Tensor) -> tuple[int, int]:
        """(non-zero spikes, all spikes) over the time steps for an input."""
        return self.count(x)[:2]

    def count_synops(self, x: Tensor, *, unrolled: bool = False) -> int:
        """Synaptic operations for an input over the time steps: the connections that non-zero spikes go through."""
        return self.count(x, unrolled=unrolled)[2]

    def connections(self, spikes: Tensor) -> int:
        """How many connections the spikes of ``[N, ...]`` go through, each as often as its entry says."""
        # The layer's own operation adds up the spikes that reach one output channel of every group. Its gradient is how
        # many outputs an input reaches there, alike for all samples: one is passed through instead of a batch.
        groups = getattr(self, "groups", 1)
        outputs, *window = self.output_first(self.weight).shape
        ones = self.in_layout(spikes.new_ones(groups, *window))
        one = torch.ones_like(spikes[:1]).requires_grad_()
        with torch.enable_grad():
            (reached,) = torch.autograd.grad(self.operation(one, ones, None).sum(), one)
        return int((spikes.detach() * reached).sum()) * (outputs // groups)
