r"""Spiking neurons that no quantized layer reads: behind the last one, where their mean firing is the prediction.

With v_reset for zero, and the membrane in units of its charge κ (1, or 1/τ where the input decays too), SpikingJelly's
integrate-and-fire neurons are all

.. math::
    u_{t+1} = \lambda r_t + x_{t+1}, \qquad z_t = [u_t \ge (\theta - v_{reset}) / \kappa]

with r_t what the reset leaves of u_t: the operation ``fire``, but for the rounding of the threshold and of λ·r_t.
"""

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from bitsearch.deploy.integer.fields import DECAY_FRACTION
from bitsearch.deploy.integer.operations import Fire
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import describe
from bitsearch.frameworks.spikingjelly import NEURONS

OUTPUT_NEURONS = tuple(kind for kind in NEURONS if kind is not neuron.ILIFNode)
"""Types of neurons that ``fire`` stands for; the spikes of the others have several levels."""


class OutputNeuron(nn.Module):
    """A neuron of its own whose time axis is part of the batch: ``[F·N, ...]``, or ``[N, ...]`` for a single frame."""

    def __init__(self, spiking: nn.Module, frames: int | None) -> None:
        super().__init__()
        self.spiking, self.frames = spiking, frames

    def forward(self, x: Tensor) -> Tensor:
        """Shaped like ``x``."""
        self.spiking.reset()  # type: ignore[operator]  # spikingjelly's
        if self.frames is None:
            return self.spiking(x)  # type: ignore[no-any-return]  # spikingjelly's
        return self.spiking(x.unflatten(0, (self.frames, -1))).flatten(0, 1)  # type: ignore[no-any-return]  # spikingjelly's

    def operation(self, title: str, name: str, value: int, fraction: int) -> Fire:
        """The neuron as an operation ``name``, for currents that are ``value`` and have ``fraction``.

        Raises:
            InputError: a threshold that is not above the reset, or out of range, or a time axis that it does not know;
                names ``title``.
        """
        module, description = self.spiking, describe(self.spiking)
        if self.frames is not None and module.step_mode != "m":
            raise InputError(f"{title} sees all {self.frames} frames as one step; give it step_mode='m'")
        reset = module.v_reset
        module.reset()  # type: ignore[operator]  # spikingjelly's
        start = float(module.v)  # type: ignore[arg-type]  # spikingjelly's
        if reset is not None and start != reset:
            raise InputError(f"{title} starts at {start:g} and resets to {reset:g}; a deployed neuron does both at one")
        distance = float(module.v_threshold) - float(reset or 0)  # type: ignore[arg-type]  # spikingjelly's
        threshold = torch.tensor(distance / description.charge, dtype=torch.float64).ldexp(torch.tensor(fraction))
        if not 0.5 <= threshold < 2.0**50 - 1:
            raise InputError(
                f"{title} fires {distance:g} above its reset, which is {float(threshold):g} in the "
                "unit of its currents; deployed thresholds are 1 to 2^50 of these"
            )
        return Fire(
            name=name,
            inputs=(value,),
            threshold=int(torch.floor(threshold + 0.5)),
            decay=round(description.decay * 2**DECAY_FRACTION),
            hard=reset is not None,
        )
