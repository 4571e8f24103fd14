r"""What the readers of NIR make of a neuron, one dialect each, as their released importers have it.

NIR's neurons are differential equations; what a reader computes a step at a time is its own choice. All read a membrane
that starts at rest and leaks to it,

.. math::
    v_{t+1} = v_{rest} + \lambda (v_t - v_{rest}) + I_{t+1}

but they differ in where rest is, whether it fires at its threshold or above it, what a spike takes from it, how τ and
r say λ, and in the nodes that they know. A dialect writes the numbers that its reader turns into the network's neuron,
and refuses a neuron that it has no numbers for.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bitsearch.plan import NeuronSettings

if TYPE_CHECKING:
    import nir

    from bitsearch.layers import QuantizedLayer

DT = 1e-4
"""Seconds a step, as NIR's writers and importers have it by default, but for Norse's."""

_NORSE_DT = 1e-3
_NO_LEAK = 2.0**60
"""Time constant in steps that leaks nothing in float32: 1 − 1/τ and exp(−1/τ) are 1."""


@dataclass(frozen=True)
class SpikingNeuron:
    """A refined neuron with one-bit spikes, in the terms of the equation above."""

    threshold: float
    """Of v, a float32."""
    inclusive: bool
    """True if it fires at its threshold too."""
    rest: float
    """Where v starts and leaks to, and where a reset to zero puts it."""
    decay: float
    """λ."""
    reset: Literal["subtract", "zero", "delayed"]
    """What a spike takes from v: the threshold, or everything above rest."""
    time_steps: int
    """With one it keeps nothing: it is a comparison."""

    @classmethod
    def of(cls, layer: "QuantizedLayer") -> "SpikingNeuron":
        """The neuron at a layer's input, or where it is placed; its steps have one size."""
        settings = layer.neuron or NeuronSettings()
        step = float(layer.spike_step[0])
        half = step / 2 if settings.threshold == "half" else 0.0
        # A soft reset takes the whole step s: the threshold is that too, and the membrane starts half of it higher.
        rest = half if settings.reset == "subtract" and layer.active_steps > 1 else 0.0
        return cls(
            threshold=step - half + rest,
            inclusive=settings.threshold == "full" and not settings.strict,
            rest=rest,
            decay=layer.decay,
            reset=settings.reset,
            time_steps=layer.active_steps,
        )

    @property
    def threshold_above(self) -> float:
        """The threshold for a reader whose neurons fire above it."""
        return float(np.nextafter(np.float32(self.threshold), np.float32(0))) if self.inclusive else self.threshold

    @property
    def threshold_at(self) -> float:
        """The threshold for a reader whose neurons fire at it too."""
        return self.threshold if self.inclusive else float(np.nextafter(np.float32(self.threshold), np.float32(np.inf)))


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Dialect:
    """How one reader wants NIR."""

    name: str
    reader: str
    """In words."""
    neuron: Callable[[SpikingNeuron, Shape], "nir.NIRNode"]
    """A node that the reader turns into the neuron; of one sample's shape."""
    refusal: Callable[[SpikingNeuron], str | None] = lambda _: None
    """Why there is none."""
    setting: Callable[[SpikingNeuron], str | None] = lambda _: None
    """What has to be set in the network that the importer makes, where that is not the neuron yet."""
    nodes: frozenset[str] | None = None
    """The kinds that its importer knows; None for all."""
    dt: float = DT
    """Seconds a step."""
    chains: bool = False
    """True where its importer runs a node once one in front of it has run: only a chain comes out right."""
    nir_1_0_4: bool = False
    """True where its library has that version of ``nir``: neurons have no ``v_reset``, and may be one a channel."""

    def knows(self, kind: str) -> bool:
        """True if a node of a kind can be read."""
        return self.nodes is None or kind in self.nodes


def _filled(shape: Shape, **values: float) -> dict[str, np.ndarray]:
    return {name: np.full(shape, value, dtype=np.float32) for name, value in values.items()}


def _plain(neuron: SpikingNeuron, shape: Shape) -> "nir.NIRNode":
    import nir

    threshold = neuron.threshold_above
    if neuron.time_steps == 1:
        return nir.Threshold(**_filled(shape, threshold=threshold))
    return _euler(neuron, shape, threshold)


def _euler(neuron: SpikingNeuron, shape: Shape, threshold: float) -> "nir.NIRNode":
    """NIR's equations in steps of Euler's, dt long: r makes up for what they multiply the current with."""
    import nir

    state = {"v_threshold": threshold, "v_reset": neuron.rest}
    if neuron.decay == 1:
        return nir.IF(**_filled(shape, r=1 / DT, **state))
    tau = DT / (1 - neuron.decay)
    return nir.LIF(**_filled(shape, tau=tau, r=tau / DT, v_leak=neuron.rest, **state))


def _spikingjelly(neuron: SpikingNeuron, shape: Shape) -> "nir.NIRNode":
    import nir

    if neuron.time_steps == 1:
        return nir.IF(**_filled(shape, r=1 / DT, v_threshold=neuron.threshold_at, v_reset=neuron.rest))
    return _euler(neuron, shape, neuron.threshold_at)


def _no_spikingjelly(neuron: SpikingNeuron) -> str | None:
    if neuron.time_steps == 1:
        return None
    if neuron.decay < 1 and np.float32(DT / (1 - neuron.decay)) / DT <= 1:
        return f"its membrane decays by {neuron.decay:g}, and SpikingJelly's importer takes no LIF that keeps nothing"
    if neuron.reset == "subtract" and neuron.decay < 1 and neuron.rest:
        return (
            "its membrane leaks to the half step that it starts at, and SpikingJelly's leaks to 0 where it is reset "
            'softly; train with [neuron] start = "zero", or reset = "zero"'
        )
    return None


def _soft_spikingjelly(neuron: SpikingNeuron) -> str | None:
    if neuron.reset == "zero" or neuron.time_steps == 1:
        return None
    return "SpikingJelly's importer resets hard: set v_reset = None in every neuron that it makes"


def _snntorch(neuron: SpikingNeuron, shape: Shape) -> "nir.NIRNode":
    import nir

    # Its IF leaks, so that there are LIF alone; their current is r·dt/τ times the input.
    tau = 1.0 if neuron.time_steps == 1 else _NO_LEAK if neuron.decay == 1 else 1 / (1 - neuron.decay)
    state = {"v_leak": 0.0, "v_threshold": neuron.threshold_above, "v_reset": 0.0}
    return nir.LIF(**_filled(shape, tau=tau * DT, r=tau, **state))


def _hard_only(library: str) -> Callable[[SpikingNeuron], str | None]:
    def refusal(neuron: SpikingNeuron) -> str | None:
        if neuron.reset == "zero" or neuron.time_steps == 1:
            return None
        reason = f"its neuron subtracts its spikes, and {library}'s importer resets to zero"
        return f'{reason}; train with [neuron] reset = "zero"'

    return refusal


def _sinabs(neuron: SpikingNeuron, shape: Shape) -> "nir.NIRNode":
    import nir

    # Its IF cuts membranes off below, so that there are LIF alone, in steps of one, which decay by exp(−1/τ).
    tau = -1 / math.log(neuron.decay) if 0 < neuron.decay < 1 else _NO_LEAK
    if neuron.time_steps == 1 or neuron.decay == 0:
        tau = 2.0**-10
    # It asks whether any of v_leak is set, which NumPy answers for one axis of more than one number.
    by_channel = (shape[0], *[1] * (len(shape) - 1))
    return nir.LIF(**_filled(by_channel, tau=tau, r=tau, v_leak=0.0, v_threshold=neuron.threshold_at, v_reset=0.0))


def _no_sinabs(neuron: SpikingNeuron) -> str | None:
    if neuron.time_steps == 1 or (neuron.reset == "subtract" and not neuron.rest):
        return None
    wrong = "is reset to zero" if neuron.reset == "zero" else "starts at half a step"
    advice = 'train with [neuron] reset = "subtract", start = "zero"'
    return f"its neuron {wrong}, and sinabs' importer subtracts spikes from membranes that start at 0; {advice}"


def _single_sinabs(_: SpikingNeuron) -> str:
    return "sinabs' neurons send several spikes at once: set spike_fn = SingleSpike in every neuron that it makes"


def _norse(neuron: SpikingNeuron, shape: Shape) -> "nir.NIRNode":
    import nir

    threshold = neuron.threshold_above
    if neuron.decay == 1 and neuron.time_steps > 1:
        return nir.IF(**_filled(shape, r=1.0, v_threshold=threshold, v_reset=0.0))
    # Its LIF takes what comes in by 1 − λ, whatever r is; so is the threshold.
    share = 1.0 if neuron.time_steps == 1 else 1 - neuron.decay
    state = {"v_leak": 0.0, "v_threshold": threshold * share, "v_reset": 0.0}
    return nir.LIF(**_filled(shape, tau=_NORSE_DT / share, r=1.0, **state))


_CONNECTIONS = frozenset({"Affine", "Conv2d", "Flatten"})

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("plain", "a reader of NIR's equations", _plain),
        Dialect(
            "spikingjelly",
            "SpikingJelly",
            _spikingjelly,
            _no_spikingjelly,
            _soft_spikingjelly,
            _CONNECTIONS | {"AvgPool2d", "Conv1d", "IF", "LIF"},
        ),
        Dialect(
            "snntorch",
            "snnTorch",
            _snntorch,
            _hard_only("snnTorch"),
            nodes=_CONNECTIONS | {"AvgPool2d", "LIF"},
        ),
        Dialect(
            "sinabs",
            "sinabs",
            _sinabs,
            _no_sinabs,
            _single_sinabs,
            _CONNECTIONS | {"LIF"},
            dt=1.0,
            chains=True,
            nir_1_0_4=True,
        ),
        Dialect(
            "norse", "Norse", _norse, _hard_only("Norse"), nodes=_CONNECTIONS | {"IF", "LIF"}, dt=_NORSE_DT, chains=True
        ),
    )
}
"""By name; what a dialect says is what these versions do: SpikingJelly 2.0, snnTorch 1.0, sinabs 3.1, Norse 1.1."""

PLAIN = "plain"
