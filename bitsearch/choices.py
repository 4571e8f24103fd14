"""The bits that a layer may get: a range or list of values, fixed ones for the first layer; what layers share."""

from collections.abc import Container, Mapping
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from bitsearch.errors import InputError
from bitsearch.plan import NeuronSettings, UniformBits
from bitsearch.validation import MAX_BITS, MAX_TIME_STEPS, MEMBRANE_BITS, Bits, Frozen, Name, TimeSteps, explain

Number = Literal["weight_bits", "spike_bits", "time_steps"]
"""One of the three numbers that a layer gets."""
NUMBERS: tuple[Number, ...] = get_args(Number)
"""All three."""
Shared = Literal["weight_bits", "spike_bits", "time_steps", "membrane_bits"]
"""What layers may have in common: a number, or the width of membranes that are the same neurons'."""


class Span(Frozen):
    """Whole numbers from ``low`` to ``high``, both included, or the numbers of a list.

    >>> span = bitsearch.Span.model_validate([1, 2, 4, 8])
    >>> span.values, 3 in span, span.neighbour(4, direction=1), span.nearest(3)
    ((1, 2, 4, 8), False, 8, 4)
    """

    low: int = Field(ge=1)
    high: int = Field(ge=1)
    only: tuple[int, ...] | None = None
    """The values in rising order if some between low and high are left out; None for every number."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, content: object) -> object:
        if isinstance(content, dict | Span):
            return content
        numbers = content if isinstance(content, list | tuple) else ()
        if not numbers or not all(isinstance(value, int) and not isinstance(value, bool) for value in numbers):
            raise ValueError("list whole numbers, such as [1, 2, 4, 8], or give low and high")
        values = sorted(set(numbers))
        return {"low": values[0], "high": values[-1], "only": tuple(values)}

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.only is not None and (
            list(self.only) != sorted(set(self.only)) or (self.only[:1], self.only[-1:]) != ((self.low,), (self.high,))
        ):
            raise ValueError("only lists every value once, in rising order, from low to high")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        """Every value, in rising order."""
        return self.only or tuple(range(self.low, self.high + 1))

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high and (self.only is None or value in self.only)

    def neighbour(self, value: int, direction: int) -> int | None:
        """The nearest value below (``direction`` −1) or above (+1) ``value``; None if there is none."""
        candidates = [candidate for candidate in self.values if (candidate - value) * direction > 0]
        return min(candidates, key=lambda candidate: abs(candidate - value)) if candidates else None

    def nearest(self, value: float) -> int:
        """The value of the span that is nearest to ``value``; of two equally near ones, the larger."""
        return min(self.values, key=lambda candidate: (abs(candidate - value), -candidate))

    def within(self, values: Container[int]) -> "Span | None":
        """The part of the span that is among ``values``; None if no value is."""
        common_values = [value for value in self.values if value in values]
        if common_values == list(self.values):
            return self
        return Span(low=common_values[0], high=common_values[-1], only=tuple(common_values)) if common_values else None


class Choices(Frozen):
    """Values to choose from for a searched layer; TOML has ``{low = 1, high = 8}``, or a list such as ``[1, 2, 4, 8]``.

    >>> choices = bitsearch.Choices(weight_bits=[2, 4, 8], time_steps=[1, 2])
    >>> str(choices.smallest), str(choices.nearest(bitsearch.UniformBits(weight_bits=5, spike_bits=4, time_steps=4)))
    ('w2 s1 T1', 'w4 s4 T2')
    """

    weight_bits: Span = Span(low=1, high=8)
    spike_bits: Span = Span(low=1, high=8)
    time_steps: Span = Span(low=1, high=4)
    membrane_bits: Span | None = None
    """Of membranes, which saturate; None where none is chosen: the hardware target's, or that of a layer rule."""

    @model_validator(mode="after")
    def _within_reach(self) -> "Choices":
        for name, largest in (("weight_bits", MAX_BITS), ("spike_bits", MAX_BITS), ("time_steps", MAX_TIME_STEPS)):
            if getattr(self, name).high > largest:
                raise ValueError(f"{name}.high is {getattr(self, name).high}; at most {largest}")
        if self.membrane_bits is not None:
            check_membranes(self.membrane_bits)
        return self

    def nearest(self, bits: UniformBits) -> UniformBits:
        """For each of the numbers, the choice that is nearest to that of ``bits``."""
        nearest = {name: getattr(self, name).nearest(getattr(bits, name)) for name in NUMBERS}
        return UniformBits(**nearest, membrane_bits=self.membrane_at(nearest["time_steps"], bits.membrane_bits))

    @property
    def smallest(self) -> UniformBits:
        """The cheapest allocation."""
        membranes = None if self.membrane_bits is None else self.membrane_bits.low
        return UniformBits(**{name: getattr(self, name).low for name in NUMBERS}, membrane_bits=membranes)

    @property
    def chooses_membranes(self) -> bool:
        """True if there are several widths of membranes, at some number of time steps."""
        return len(self.membranes_at(self.time_steps.high)) > 1

    def membranes_at(self, time_steps: int) -> tuple[int, ...]:
        """The widths among which there is a choice at so many time steps; empty where none is said.

        At one time step the narrowest alone: such a membrane holds nothing over.
        """
        widths = () if self.membrane_bits is None else self.membrane_bits.values
        return widths[:1] if time_steps == 1 else widths

    def membrane_at(self, time_steps: int, wanted: int | None = None) -> int | None:
        """Of these the nearest to ``wanted``, or the widest; None where none is said."""
        widths = self.membranes_at(time_steps)
        if not widths:
            return None
        return max(widths) if wanted is None else min(widths, key=lambda width: (abs(width - wanted), -width))

    def membrane_neighbour(self, width: int | None, time_steps: int, direction: int) -> int | None:
        """The next width below (−1) or above (+1) that there is at so many time steps; None if there is none."""
        if width is None:
            return None
        others = [other for other in self.membranes_at(time_steps) if (other - width) * direction > 0]
        return min(others, key=lambda other: abs(other - width)) if others else None


def check_membranes(widths: Span) -> None:
    """Raise ValueError unless all of these are widths that a membrane can have."""
    low, high = MEMBRANE_BITS
    if not low <= widths.low <= widths.high <= high:
        given = ", ".join(map(str, sorted({widths.low, widths.high})))
        raise ValueError(f"membrane_bits has {given}; give widths from {low} to {high}")


class FirstLayer(Frozen):
    """The fixed bits of the first layer, whose input is the network's own.

    >>> str(bitsearch.FirstLayer().bits()), str(bitsearch.FirstLayer(weight_bits=4).bits(frames=10))
    ('w8 s8 T1', 'w4 s8 T10')
    """

    weight_bits: Bits = 8
    spike_bits: Bits = 8
    time_steps: TimeSteps | None = None
    """None means 1, or every frame of an input that changes along its time axis."""
    counted: bool = True
    """False leaves it out of the bit and operation counts, as the paper's tables do; memory always counts it."""
    relax: bool = False
    """True lets the search lower its bits where a budget cannot be met with them, as of a network that comes without a
    search space; with enough room they stay fixed."""

    def bits(self, frames: int | None = None) -> UniformBits:
        """The layer's bits for an input of ``frames`` frames; None for an input without a time axis."""
        time_steps = self.time_steps or frames or 1
        return UniformBits(
            weight_bits=self.weight_bits, spike_bits=self.spike_bits, time_steps=min(time_steps, frames or time_steps)
        )


class Tie(Frozen):
    """Layers that have some numbers in common, since they have one weight or one stream of spikes.

    Spike bits are one width a time step, so that layers share both or neither.

    >>> str(bitsearch.Tie(layers=("encoder", "decoder"), share={"weight_bits"}, why="one weight"))
    'encoder, decoder: weight_bits (one weight)'
    """

    layers: tuple[Name, ...] = Field(min_length=2)
    """Module paths."""
    share: frozenset[Number] = Field(min_length=1)
    why: str = ""
    """The reason, in words."""

    @model_validator(mode="after")
    def _whole(self) -> "Tie":
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers names one twice: {', '.join(self.layers)}; name each once")
        if ("spike_bits" in self.share) != ("time_steps" in self.share):
            raise ValueError("share has one of spike_bits and time_steps; give both, since a step has its own bits")
        return self

    def __str__(self) -> str:
        shared = " ".join(number for number in NUMBERS if number in self.share)
        return f"{', '.join(self.layers)}: {shared}" + (f" ({self.why})" if self.why else "")


class NeuronChoice(Frozen):
    """What all refined neurons do, in place of what the network's own do: ``[neuron]``.

    A chip or a library has one kind of neuron, and a network is trained with that one.

    >>> bitsearch.NeuronChoice(reset="zero").start is None  # starts as the network's own neurons do
    True
    """

    reset: Literal["subtract", "zero"] | None = None
    """What a spike takes from the membrane: its own height, or everything. None: as the network's own neurons do, or
    its own height."""
    start: Literal["half", "zero"] | None = None
    """Where the membrane starts, below a threshold of one step: at half a step, so that the nearest level is sent, or
    at zero, so that what does not fill a level waits. None: as the network's own neurons do, or half a step."""

    def replace(self, choice: "NeuronChoice | Mapping[str, Any] | None") -> "NeuronChoice":
        """This choice with what another one says, an object or its fields; what that leaves out stays as it is.

        Raises:
            InputError: neither, an unknown field, or a value that is not allowed.
        """
        if not isinstance(choice, NeuronChoice | Mapping | None):
            raise InputError(f'neuron is {choice!r}; give a NeuronChoice, or its fields, such as {{"reset": "zero"}}')
        fields = choice.model_dump(exclude_none=True) if isinstance(choice, NeuronChoice) else dict(choice or {})
        try:
            return NeuronChoice.model_validate(self.model_dump() | fields)
        except ValidationError as error:
            raise InputError(f"neuron: {explain(error, NeuronChoice)}") from error

    def of(self, settings: NeuronSettings | None) -> NeuronSettings:
        """A layer's neuron: ``settings``, those of the network's neurons that it stands for, if any, as chosen here."""
        changes: dict[str, object] = {} if self.reset is None else {"reset": self.reset}
        if self.start is not None:
            half = self.start == "half"
            changes |= {"threshold": "half", "strict": False} if half else {"threshold": "full"}
        return (settings or NeuronSettings()).model_copy(update=changes)
