"""Geometry of a network's layers: what each computes and reads for one input, from which its costs follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bitsearch.cost.layer_shape import LayerShape
from bitsearch.plan import Loop, NeuronSettings
from bitsearch.quant.uniform import q_max

NEVER_CALLED = "never called"
"""``LayerGeometry.fixed_reason`` of a layer that the example's forward pass does not call."""
DEPENDS_ON_DATA = "whether it runs, and on how much, depends on the data"
"""What is noted of a layer whose counts are those of the example alone."""
EXCLUSION_REASONS = ("not included", "excluded")
"""``LayerGeometry.fixed_reason`` of a layer that no ``include``, or an ``exclude``, matches."""


@dataclass(frozen=True)
class LayerGeometry:
    """Counts of one layer for one input and one time step, from which the cost of any bits follows."""

    name: str
    """Module path in the network."""
    macs: int
    """Multiply-accumulates; conventions in :func:`bitsearch.dataflow.products.layer_macs`."""
    weights: int
    """Weight elements, without biases; those of a weight that several modules share stand at one of them: the first,
    or the first that keeps 32 bits, since the weight then does."""
    inputs: int
    """Input features, each of which is a spike; 0 for a module without multiplications."""
    outputs: int
    """Output channels, each of which has a bias; of a module without channels, its biases."""
    signed_input: bool
    """True unless the operations in front of the layer let nothing below zero through."""
    follows_input: bool = field(default=False, kw_only=True)
    """True if that is so for inputs of the network that are never below zero alone."""
    first: bool
    """True for the first layer with weights in the forward pass."""
    head: bool = field(default=False, kw_only=True)
    """True if the network returns what it computes, or what neurons make of that."""
    fixed_reason: str | None = None
    """The reason for which the layer cannot be given bits; None if it can."""
    factor_bits: tuple[float, float] | None = None
    """Without weights, the mean bits of what it multiplies, wider and narrower; None where these are not spikes."""
    frames: int | None = None
    """Length of its input's time axis, or of the loop that calls it once a frame; None without one."""
    is_static_input: bool = False
    """True if the example did not change along that axis: a static input, repeated."""
    loop: Loop | None = None
    """What its calls have to do with each other, where one input makes several."""
    calls: int = 1
    """How often it is called for one input."""
    call_inputs: int | None = None
    """Input features of its largest call; None for those of all."""
    reads: str = ""
    """What its input comes from, in words."""
    neurons: tuple[str, ...] = ()
    """Module paths of the spiking neurons that give way to its own."""
    pooled: bool = False
    """True if their spikes are pooled, added up or scaled before the layer reads them."""
    in_place: bool = False
    """True if the layer's neurons stand where these do, in front of that."""
    membranes: int | None = None
    """How many neurons it has where they stand, each with a membrane; None: one for every input."""
    stream_of: str | None = None
    """The first layer that has its neurons in place in common with it, where it is not this one."""
    source: str | None = None
    """The first layer that reads the same values, where it is not this one: they may have one stream of spikes."""
    decay: float | None = None
    """Membrane decay of the neurons that it reads; 0 where they stay, None if there are none."""
    silent: bool = False
    """True if all that it got from the example was zero."""
    data_dependent: bool = False
    """True if it ran more or less often, or on more or less, for another example."""
    weight_of: str | None = None
    """The first module that has the layer's own weight, where it is not this one: they are one parameter."""
    largest_spike: float | None = None
    """The largest that the neurons send which it reads; None where they send any, or where it reads something else."""
    neuron: NeuronSettings | None = None
    """Reset and comparison of the neurons that give way to its own, if any."""
    shape: LayerShape | None = None
    """Kind, kernel, stride and channels of a layer that can be given bits; None in scores kept by earlier versions."""

    def code_sum(self, spike_bits: Sequence[int]) -> int:
        """The most that the levels of one input's spikes add up to: of all time steps, or with frames of one."""
        levels = [q_max(bits, signed=self.signed_input) for bits in spike_bits]
        return max(levels) if self.frames is not None else sum(levels)


@dataclass(frozen=True)
class NetworkGeometry(Sequence[LayerGeometry]):
    """The layers of a network, in the order they run, and what becomes of its spiking neurons."""

    layers: tuple[LayerGeometry, ...]
    staying: Mapping[str, str] = field(default_factory=dict)
    """Why a spiking neuron does not give way to those of the layers that read it, by module path."""
    poolings: Mapping[str, str] | None = None
    """Kinds of the network's poolings, by the path of the module that pools; None where they are not known."""

    def __getitem__(self, index: Any) -> Any:
        """The layers as a sequence."""
        return self.layers[index]

    def __len__(self) -> int:
        """How many layers there are."""
        return len(self.layers)
