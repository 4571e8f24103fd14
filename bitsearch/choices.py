"""What bits a layer may get: the values to choose from, and those that the first layer has."""

from collections.abc import Iterable

from pydantic import Field, model_validator

from bitsearch.plan import UniformBits
from bitsearch.validation import MAX_BITS, MAX_TIME_STEPS, Bits, Frozen, TimeSteps


class Span(Frozen):
    """Whole numbers from ``low`` to ``high``, both included, or those of a list."""

    low: int = Field(ge=1)
    high: int = Field(ge=1)
    only: tuple[int, ...] | None = None
    """The values, in rising order, where they are not all from low to high."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, content: object) -> object:
        if not isinstance(content, list | tuple):
            return content
        if not content or not all(isinstance(value, int) and not isinstance(value, bool) for value in content):
            raise ValueError("list whole numbers, such as [1, 2, 4, 8], or give low and high")
        values = sorted(set(content))
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
        """The next value below (−1) or above (+1); None beyond the bounds."""
        beyond = [other for other in self.values if (other - value) * direction > 0]
        return min(beyond, key=lambda other: abs(other - value)) if beyond else None

    def nearest(self, value: float) -> int:
        """The value that is nearest; the larger of two."""
        return min(self.values, key=lambda other: (abs(other - value), -other))

    def within(self, allowed: Iterable[int]) -> "Span | None":
        """The values that are also ``allowed``; None if there are none."""
        both = sorted(set(self.values) & set(allowed))
        if both == list(self.values):
            return self
        return Span(low=both[0], high=both[-1], only=tuple(both)) if both else None


class Choices(Frozen):
    """What a searched layer may get: ``{low = 1, high = 8}``, or a list such as ``[1, 2, 4, 8]``."""

    weight_bits: Span = Span(low=1, high=8)
    spike_bits: Span = Span(low=1, high=8)
    time_steps: Span = Span(low=1, high=4)

    @model_validator(mode="after")
    def _within_reach(self) -> "Choices":
        for name, largest in (("weight_bits", MAX_BITS), ("spike_bits", MAX_BITS), ("time_steps", MAX_TIME_STEPS)):
            if getattr(self, name).high > largest:
                raise ValueError(f"{name}.high is {getattr(self, name).high}; at most {largest}")
        return self

    def nearest(self, bits: UniformBits) -> UniformBits:
        """The allocation within the choices that is nearest to ``bits``."""
        spans = {name: getattr(self, name) for name in UniformBits.model_fields}
        return UniformBits(**{name: span.nearest(getattr(bits, name)) for name, span in spans.items()})

    @property
    def smallest(self) -> UniformBits:
        """The cheapest allocation."""
        return UniformBits(
            weight_bits=self.weight_bits.low, spike_bits=self.spike_bits.low, time_steps=self.time_steps.low
        )


class FirstLayer(Frozen):
    """The first layer sees the network's input; its bits are fixed."""

    weight_bits: Bits = 8
    spike_bits: Bits = 8
    time_steps: TimeSteps | None = None
    """1 by default, or every frame of an input that changes along a time axis."""
    counted: bool = True
    """False leaves it out of the bit and operation counts, as the paper's tables do; memory always counts it."""

    def bits(self, frames: int | None = None) -> UniformBits:
        """Its bits, for an input with a time axis of ``frames`` or without one."""
        time_steps = self.time_steps or frames or 1
        return UniformBits(
            weight_bits=self.weight_bits, spike_bits=self.spike_bits, time_steps=min(time_steps, frames or time_steps)
        )
