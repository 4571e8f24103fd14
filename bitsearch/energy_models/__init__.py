"""What others' energy models say of a plan's network and its firing, beside the hardware target's own table.

Nothing here needs torch: the command names the models before it loads a network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Estimate:
    """What a model says of one input."""

    total: float
    """In pJ, as the others are."""
    arithmetic: float | None
    """Part of the total; None where the model does not tell it from memory."""
    memory: float | None


@dataclass(frozen=True)
class EnergyModel:
    """A published energy model."""

    summary: str
    """For ``--help``: what it is of."""
    sources: tuple[str, ...]
    omits: str
    """Which layers it says nothing of; empty where it knows all that it does not refuse."""
    function: str
    """``package.module:name`` of what takes a :class:`bitsearch.energy_models.firing.Firing`, raising ValueError or
    NotImplementedError for one that it cannot express."""

    def estimate(self, firing: "nn.Module") -> Estimate:
        """Of what a network did for one input."""
        module, _, name = self.function.partition(":")
        function = cast("Callable[[nn.Module], Estimate]", getattr(import_module(module), name))
        return function(firing)


_MODULE = "bitsearch.energy_models.spikingjelly"
ENERGY_MODELS = {
    "simple": EnergyModel(
        "additions and products of 32-bit floats at 45 nm, and every byte of weights and membranes",
        ("Horowitz, ISSCC 2014, doi 10.1109/ISSCC.2014.6757323", "STEP, openreview.net/pdf?id=SzwU2XrXIS"),
        "",
        f"{_MODULE}:simple",
    ),
    "lemaire": EnergyModel(
        "32-bit integers at 45 nm, memories that cost by their size, and addressing",
        ("Lemaire et al., ICONIP 2022, arXiv 2210.13107",),
        "",
        f"{_MODULE}:lemaire",
    ),
    "neuromc": EnergyModel(
        "a training accelerator's forward pass at 32 nm: 1-bit spikes, 16-bit weights",
        ("NeuroMC, Nature Communications 2026, doi 10.1038/s41467-026-70586-x",),
        "",
        f"{_MODULE}:neuromc",
    ),
    "spikesim": EnergyModel(
        "analog crossbars of 64 × 64 memristors at 65 nm, whatever fires",
        ("SpikeSim, IEEE TCAD 2023, doi 10.1109/TCAD.2023.3274918",),
        "linear layers",
        f"{_MODULE}:spikesim",
    ),
}
"""By the name that ``profile --energy-model`` takes: the models of ``spikingjelly.activation_based.op_counter``."""

__all__ = ["ENERGY_MODELS", "EnergyModel", "Estimate"]
