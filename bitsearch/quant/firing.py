r"""One step of a spiking neuron: the level that its membrane reaches, and what the reset leaves of it.

With a step size s and q levels above zero, the level k of a membrane u is, with the threshold of a level at half a
step, at the full step, and strictly above that,

.. math::
    k = \mathrm{round}(u / s), \qquad k = \lfloor u / s \rfloor, \qquad k = \lceil u / s \rceil - 1,

each within 0 … q; what is sent is o = s·k. q is the most that the bits have, 2^b − 1, or the number of steps in the
largest spike that the network's own neuron sends, where that is less. Left of the membrane is u − o; with a reset to
zero u where k = 0 and 0 elsewhere; and with a delayed one u − o/λ, since what is left decays by λ and o does not. At
one bit the full step is the threshold of an integrate-and-fire neuron as people train it.
"""

import torch
from torch import Tensor

from bitsearch.plan import NeuronSettings
from bitsearch.quant.uniform import Levels, q_max, to_levels, working_precision


def spike_levels(
    membrane: Tensor,
    step: Tensor,
    bits: Tensor,
    *,
    signed: bool,
    largest: Tensor | None = None,
    neuron: NeuronSettings | None = None,
) -> Levels:
    """Levels of a membrane of any shape; arguments as for :func:`bitsearch.quant.uniform.to_levels`.

    Rounding down is rounding to the nearest of u/s − ½, so its straight-through window is half a step higher, ½ ≤ u/s ≤
    q + ½; that of one bit is centred on the threshold, as it is with the threshold at half a step. ``clipped`` of the
    result is u/s within that window, which makes every formula for gradients of levels that of rounding down too:
    ∂o/∂s = k − u/s inside, k outside.
    """
    if neuron is None or neuron.threshold == "half":
        if largest is None:
            largest = largest_level(step, bits, signed=signed, neuron=neuron)
        return to_levels(membrane, step, bits, signed=signed, largest=largest)
    scaled = working_precision(membrane) / step
    if largest is None:
        largest = largest_level(step, bits, signed=signed, neuron=neuron)
    whole = torch.ceil(scaled) - 1 if neuron.strict else torch.floor(scaled)
    codes = whole.clamp_min_(0).clamp_max_(largest)
    return Levels(codes, scaled, scaled.clamp_min(0.5).minimum(largest + 0.5), largest)


def largest_level(steps: Tensor, bits: Tensor, *, signed: bool, neuron: NeuronSettings | None) -> Tensor:
    """q, shaped like ``bits`` and ``steps`` together: q_max, or the whole number of steps in the largest spike."""
    largest = q_max(bits, signed=signed)
    if neuron is None or neuron.largest is None:
        return largest
    return torch.round(neuron.largest / steps.detach()).clamp_min(1).minimum(largest)


def residual(membrane: Tensor, spikes: Tensor, neuron: NeuronSettings | None, decay: float) -> Tensor:
    """What the reset leaves of ``membrane`` after the ``spikes`` o of its shape; decays by ``decay`` λ > 0 next."""
    if neuron is None or neuron.reset == "subtract":
        return membrane - spikes
    if neuron.reset == "delayed":
        return torch.sub(membrane, spikes, alpha=1 / decay if decay else 0.0)
    # No product, since the membrane may be infinite.
    return torch.where(spikes == 0, membrane, torch.zeros_like(membrane))
