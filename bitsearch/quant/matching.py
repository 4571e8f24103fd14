r"""The step size with which a neuron of other bits sends what another one sends.

A network that was trained with neurons of one bit reads what these send, and not their membranes: a neuron of more bits
that rounds the membrane better says something else. So its step is

.. math::
    s^* = \arg\min_s \; \mathrm{mean}\, (Q(u; s, b) - o)^2

for the spikes o that are to be matched. Where the old step serves best it is the answer, so that bits that are of no
use change nothing.
"""

import functools

import torch
from torch import Tensor

from bitsearch.distributed import all_reduce_sum
from bitsearch.plan import NeuronSettings
from bitsearch.quant.firing import spike_levels
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.step_sizes import nearest_power
from bitsearch.quant.uniform import SMALLEST_STEP, q_max

MAX_ELEMENTS = 1 << 14
"""Number of elements on which candidates are compared."""
_OCTAVES = (-8, 3)
"""Range of the candidates around the old step, in powers of two."""
_EACH_OCTAVE = 6
_PARTS = 8
"""Whole parts of the old step up to its eighth are candidates too: the mean of k frames moves in k-th parts."""


def matching_step(
    membrane: Tensor,
    spikes: Tensor,
    step: Tensor,
    bits: Tensor,
    *,
    before: Tensor,
    neuron: NeuronSettings | None = None,
    shared: bool = False,
    power_of_two: bool = False,
) -> Tensor:
    """The step, a scalar, with which ``membrane`` sends what is nearest to ``spikes``, in mean squared error.

    Args:
        membrane: u, any shape.
        spikes: o, of the same shape.
        step: scalar, the one that ``spikes`` were sent with; kept unless another one is better.
        bits: scalar tensor, the new bit width.
        before: scalar tensor, the bit width that ``spikes`` were sent with.
        neuron: its reset and comparison.
        shared: ``membrane`` and ``spikes`` are this process's share of a tensor.
        power_of_two: the candidates are powers of two, as ``step`` is one.
    """
    membrane, spikes = membrane.detach().flatten(), spikes.detach().flatten()
    if len(membrane) > MAX_ELEMENTS:
        sample = _sample(len(membrane)).to(membrane.device)
        membrane, spikes = membrane[sample], spikes[sample]
    # That with the same largest spike is among them: what the old neuron cut off, the new one does then.
    same_edge = q_max(before, signed=False) / q_max(bits, signed=False)
    candidates = (step * torch.cat([_factors().to(step.device), same_edge.view(1)])).clamp_min(SMALLEST_STEP)
    if power_of_two:
        candidates = nearest_power(candidates.log())
    steps = candidates.unsqueeze(1)
    sent = spike_levels(membrane.unsqueeze(0), steps, bits, signed=False, neuron=neuron).codes * steps
    errors = (sent - spikes).square_().sum(1)
    errors = all_reduce_sum(errors) if shared else errors
    best = int(errors.argmin())
    # The first candidate is the old step.
    return candidates[best if errors[best] < errors[0] else 0]


def fitting_step(
    membrane: Tensor,
    bits: Tensor,
    *,
    signed: bool,
    neuron: NeuronSettings | None,
    shared: bool = False,
    power_of_two: bool = False,
) -> Tensor:
    """The step, a scalar, with which a neuron sends what is nearest to its ``membrane`` itself; any shape.

    Where a neuron rounds, that is :func:`bitsearch.quant.renewal.renew_step`'s; where it rounds down, the best step
    around it. Arguments as for that and for :func:`matching_step`.
    """
    step = renew_step(membrane, bits, signed=signed, shared=shared, power_of_two=power_of_two)
    if neuron is None or neuron.threshold == "half":
        return step
    return matching_step(
        membrane,
        membrane.clamp_min(0),
        step,
        bits,
        before=bits,
        neuron=neuron,
        shared=shared,
        power_of_two=power_of_two,
    )


@functools.cache
def _factors() -> Tensor:
    """Candidates as multiples of the old step, which is the first."""
    low, high = (_EACH_OCTAVE * octave for octave in _OCTAVES)
    octaves = torch.exp2(torch.arange(low, high + 1) / _EACH_OCTAVE)
    return torch.cat([torch.ones(1), 1 / torch.arange(2, _PARTS + 1), octaves])


@functools.cache
def _sample(count: int) -> Tensor:
    """Indices of ``MAX_ELEMENTS`` of ``count`` elements, the same at every call."""
    return torch.randint(count, (MAX_ELEMENTS,), generator=torch.Generator().manual_seed(0))
