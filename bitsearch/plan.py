"""The bit plan: weight bits, spike bits and time steps of every layer, and the plan's costs.

A plan is data: frozen, validated, versioned, written and read as JSON. This module does not import torch.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from bitsearch.errors import InputError
from bitsearch.files import read_text, write_whole
from bitsearch.score import Accuracy, Measured, MeasuredScore
from bitsearch.validation import Bits, Cost, Frozen, MembraneBits, Name, Positive, Seed, TimeSteps, explain

SCHEMA_VERSION = 1
DROP = "accuracy_drop"
"""The metric of an accuracy goal among a plan's budgets: validation accuracy below full precision, a share."""

SCORE_DROP = "score_drop"
"""Likewise of a score that is no share, in its unit."""

_UNIFORM_BITS = re.compile(r"w?(\d+)[ /]s?(\d+)[ /]T?(\d+)(?: m(\d+))?")

Loop = Literal["frames", "same", "shared"]
"""Of a layer that is called several times in a forward pass: once a frame, its membrane kept from call to call; always
with the same input, so that it is computed once; or at several places, each with an input of its own."""


class NeuronSettings(Frozen):
    """What a spiking neuron does apart from its decay: reset and comparison, in units of one spike level, the step s.

    A network that was trained with one neuron is another network with a different one.

    >>> bitsearch.NeuronSettings(reset="zero", threshold="full").strict
    False
    """

    reset: Literal["subtract", "zero", "delayed"] = "subtract"
    """What a spike takes from the membrane: its own height, everything, or its own height a step later, from what has
    decayed meanwhile."""
    threshold: Literal["half", "full"] = "half"
    """From where a level k is sent: (k − ½)·s, which rounds the membrane to the nearest level, or k·s, which rounds it
    down."""
    strict: bool = False
    """True if the membrane has to be above k·s, and not at it."""
    largest: Positive | None = None
    """The largest spike that the neuron ever sends, in units of its threshold: finer steps divide it, and bits beyond
    it are of no use. None: as many levels as there are bits for."""

    @model_validator(mode="after")
    def _strict_is_full(self) -> "NeuronSettings":
        if self.strict and self.threshold == "half":
            raise ValueError('strict is true, but threshold is "half"; give threshold "full", or leave strict out')
        return self

    def multi_bit(self) -> "NeuronSettings":
        """These, for spikes of several bits that are trained: as many levels as the bits have, instead of one spike.

        Kept at one spike, a network is at conversion what it was; trained, its layers learn to read more levels.

        >>> bitsearch.NeuronSettings(reset="zero", threshold="full", largest=1).multi_bit().largest is None
        True
        """
        return self.model_copy(update={"largest": None}) if self.largest == 1 else self


class LayerPlan(Frozen):
    """The bits and time steps of one layer.

    >>> layer = bitsearch.LayerPlan(weight_bits=4, spike_bits=(3, 2), time_steps=2)
    >>> layer.mean_spike_bits, layer.with_bits(2, (1,)).time_steps
    (2.5, 1)
    >>> print(layer)
    w4 s3,2 T2
    """

    weight_bits: Bits
    spike_bits: tuple[Bits, ...]
    """One bit width a time step."""
    time_steps: TimeSteps
    granularity: Literal["layer", "channel"] = "layer"
    """One weight step size for the whole layer, or one per output channel."""
    spike_granularity: Literal["layer"] | None = None
    """One spike step size for all time steps; None for one a time step."""
    step_sizes: Literal["power_of_two"] | None = None
    """Step sizes of weights and spikes are powers of two; None for any."""
    membrane_bits: MembraneBits | None = None
    """Bits of the membranes of the layer's neurons, which saturate; None of floats, for which a packed file has as many
    as it takes."""
    signed_input: bool = False
    """True where the layer's input may be negative, as the network's own input is."""
    decay: float = Field(default=1.0, ge=0, le=1)
    """Membrane decay between the time steps."""
    frames: TimeSteps | None = None
    """Length of the time axis of the layer's input, as event data have one; None without one."""
    loop: Loop | None = None
    """Where the layer is called several times in a forward pass."""
    neurons: tuple[Name, ...] | None = None
    """Module paths of the network's neurons that the layer's own stands for. None, in plans written before they were
    recorded: those registered in front of the layer."""
    pooled: bool | None = None
    """True where these neurons' spikes are pooled, added up or scaled before the layer reads them. Unless they fire
    ``in_place``, the layer's own neuron then stands behind that."""
    in_place: bool | None = None
    """True where these neurons stay where they are, with the layer's spike bits, time steps and step sizes: what the
    layer reads is made of their spikes. None, as in plans of before there was a choice, puts one neuron at its
    input."""
    stream: Name | None = None
    """The layer whose neurons' spikes this one reads too, with their step sizes; None where the neurons are its own,
    or stand ``in_place``."""
    neuron: NeuronSettings | None = None
    """Of the layer's own neuron. None: it subtracts what it sends, and sends the nearest level."""

    @model_validator(mode="after")
    def _one_width_per_step(self) -> "LayerPlan":
        if self.frames is not None and self.time_steps > self.frames:
            raise ValueError(f"time_steps is {self.time_steps}, but the layer's input has {self.frames} frames")
        if self.loop == "frames" and self.time_steps != self.frames:
            raise ValueError(f"time_steps is {self.time_steps}, but the layer is called for {self.frames} frames")
        if self.neuron is not None and self.signed_input:
            raise ValueError("signed_input is true, but neuron has settings, which are for spikes of one sign")
        if self.neuron is not None and self.neuron.reset == "delayed" and not self.decay:
            raise ValueError("neuron.reset is 'delayed', but decay is 0: there is nothing to take a spike from later")
        if self.in_place and not self.neurons:
            raise ValueError("in_place is true, but the layer lists no neurons that would fire there")
        if self.in_place and self.stream is not None:
            raise ValueError(f"in_place is true, but the layer reads the spikes of {self.stream!r} at its input")
        if self.in_place and self.signed_input:
            raise ValueError("in_place and signed_input are true, but spikes of neurons are never below zero")
        if self.membrane_bits is not None:
            self._check_membrane(self.membrane_bits)
        if len(self.spike_bits) != self.time_steps:
            raise ValueError(
                f"spike_bits lists {len(self.spike_bits)} bit widths for {self.time_steps} time steps; "
                "give one a time step"
            )
        return self

    def _check_membrane(self, bits: int) -> None:
        if self.time_steps > 1 and self.spike_granularity is None:
            raise ValueError(
                f"membrane_bits is {bits}, but every time step has a step size of its own; give spike_granularity "
                '"layer", since a membrane counts in one step size'
            )
        if bits <= max(self.spike_bits) - self.signed_input:
            raise ValueError(f"membrane_bits is {bits}, too few for spikes of {max(self.spike_bits)} bits")

    def __str__(self) -> str:
        return f"w{self.weight_bits} s{self.spike_widths} T{self.time_steps}"

    def with_bits(self, weight_bits: int, spike_bits: tuple[int, ...]) -> "LayerPlan":
        """A copy of the layer with other weight bits, and with one time step for each of ``spike_bits``."""
        bits = {"weight_bits": weight_bits, "spike_bits": spike_bits, "time_steps": len(spike_bits)}
        return self.model_copy(update=bits)

    def with_bits_of(self, layer: "LayerPlan") -> "LayerPlan":
        """A copy with another layer's weight bits, spike bits, time steps and width of membranes."""
        return self.with_bits(layer.weight_bits, layer.spike_bits).with_membrane(layer.membrane_bits)

    def with_membrane(self, bits: int | None) -> "LayerPlan":
        """A copy of the layer with membranes of another width; itself of None."""
        return self if bits is None else self.model_copy(update={"membrane_bits": bits})

    @property
    def spike_widths(self) -> str:
        """Spike bits step by step, ``3,2``, or once if all steps agree."""
        steps = self.spike_bits if len(set(self.spike_bits)) > 1 else self.spike_bits[:1]
        return ",".join(str(bits) for bits in steps)

    @property
    def mean_spike_bits(self) -> float:
        """Spike bits averaged over the time steps."""
        return sum(self.spike_bits) / self.time_steps


class UniformBits(Frozen):
    """The same weight bits, spike bits and time steps for every layer.

    >>> str(bitsearch.UniformBits(weight_bits=8, spike_bits=4, time_steps=2))
    'w8 s4 T2'
    """

    weight_bits: Bits
    spike_bits: Bits
    time_steps: TimeSteps
    membrane_bits: MembraneBits | None = None
    """Of layers that may have several widths; None: the widest that each may have."""

    def __str__(self) -> str:
        membranes = "" if self.membrane_bits is None else f" m{self.membrane_bits}"
        return f"w{self.weight_bits} s{self.spike_bits} T{self.time_steps}{membranes}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` writes, ``w8 s4 T2``, or wrote in earlier versions, ``8/4/2``; ValueError otherwise."""
        match = _UNIFORM_BITS.fullmatch(text)
        if match is None:
            raise ValueError(f"uniform bits are {text!r}; write them as in w8 s4 T2, or w8 s4 T2 m12")
        numbers = zip(("weight_bits", "spike_bits", "time_steps", "membrane_bits"), match.groups(), strict=True)
        return cls.model_validate({name: int(value) for name, value in numbers if value is not None})


class Baseline(UniformBits):
    """Uniform bits that a relative budget refers to: ``4x`` means a quarter of their cost."""

    costs: dict[Name, Cost]


class Reference(Frozen):
    """The network before any bits were chosen, with its costs: 32-bit weights, its own spikes and time steps.

    >>> str(Reference(spike_bits=1, time_steps=8, costs={}))
    'w32 s1 T8'
    """

    weight_bits: int = 32
    spike_bits: int = Field(ge=1, le=32)
    """Of the spikes that its neurons send; 32 of a network without spiking neurons."""
    time_steps: TimeSteps
    costs: dict[Name, Cost]

    def __str__(self) -> str:
        return f"w{self.weight_bits} s{self.spike_bits} T{self.time_steps}"


class BudgetOutcome(Frozen):
    """A budget as the user requested it, its limit in the metric's unit, and the plan's cost."""

    metric: Name
    requested: Name
    limit: Cost
    achieved: Cost
    met: bool

    @model_validator(mode="after")
    def _met_is_true(self) -> "BudgetOutcome":
        if self.met != (self.achieved <= self.limit):
            raise ValueError(f"met is {self.met}, but achieved {self.achieved} against a limit of {self.limit}")
        return self


class Unquantized(Frozen):
    """A layer that keeps 32 bits; every cost includes it at that width."""

    reason: Name
    weights: int = Field(ge=0)
    macs: int = Field(ge=0)
    """Multiply-accumulates for one input."""


class Provenance(Frozen):
    """The origin of a plan: versions, seeds, method and command."""

    bitsearch: str
    torch: str
    seed: Seed
    command: str
    trial: int | None = None
    method: str = "adaptive"
    split_seed: Seed = 0


class BitPlan(Frozen):
    """A per-layer bit plan. Layers are named by their module path in the network, in the order they run.

    >>> plan = bitsearch.BitPlan.load("run/plan.json")
    >>> bitsearch.BitPlan.from_json(plan.to_json()) == plan, plan.met, next(iter(plan.layers))
    (True, True, 'conv1')
    """

    schema_version: Literal[1] = 1
    space: Name
    network: Name
    target: Name = "generic"
    budget: tuple[BudgetOutcome, ...]
    baseline: Baseline
    layers: dict[Name, LayerPlan] = Field(min_length=1)
    unquantized: dict[str, Unquantized] = {}
    """Modules without bits, by path; the empty path stands for products in the network's own forward pass."""
    costs: dict[Name, Cost]
    accuracy: Accuracy = Accuracy()
    score: MeasuredScore | None = None
    """Of a task whose score is no accuracy."""
    provenance: Provenance

    def __repr__(self) -> str:
        measured = "" if self.measured.validation is None else f", validation {self.measured.validation:.4f}"
        budgets = ", ".join(
            f"{outcome.metric} {outcome.achieved:.6g} of {outcome.limit:.6g}" for outcome in self.budget
        )
        return f"BitPlan({self.network!r}, {len(self.layers)} layers{measured}{', ' if budgets else ''}{budgets})"

    __str__ = __repr__

    @property
    def measured(self) -> Measured:
        """Accuracy, or the score of a task that has another."""
        return self.accuracy if self.score is None else self.score

    def with_measured(self, measured: Measured) -> "BitPlan":
        """This plan with other measurements."""
        return self.model_copy(update={"accuracy" if isinstance(measured, Accuracy) else "score": measured})

    @property
    def met(self) -> bool:
        """True if every budget is met."""
        return all(outcome.met for outcome in self.budget)

    @property
    def accuracy_goal(self) -> BudgetOutcome | None:
        """What was lost against full precision, of a plan that was searched with a goal for it."""
        return next((outcome for outcome in self.budget if outcome.metric in (DROP, SCORE_DROP)), None)

    def to_json(self) -> str:
        """The plan as it is written to ``plan.json``."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "plan") -> "BitPlan":
        """Read a plan.

        Raises:
            InputError: not JSON, another schema version, an unknown field or a value out of range; names
                ``source``, the field, the value and what is allowed.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}: not JSON ({error})") from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(content, dict) and version != SCHEMA_VERSION:
            raise InputError(f"{source}: schema_version is {version!r}; this bitsearch reads version {SCHEMA_VERSION}")
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise InputError(f"{source}: {explain(error, cls)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Validate the plan once more and write it to ``path`` atomically."""
        text = self.to_json()
        type(self).from_json(text)
        write_whole(Path(path), text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "BitPlan":
        """Read ``path``; raises InputError as :meth:`from_json` does, and if the file cannot be read."""
        return cls.from_json(read_text(Path(path), "plan"), source=str(path))

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of ``plan.json``; it also lies beside this module as ``plan.schema.json``."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}
