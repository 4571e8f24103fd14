"""What is said of single layers by their names: which bits they may get, how they are quantized, what they share."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from bitsearch.choices import NUMBERS, Number, Span, check_membranes
from bitsearch.errors import InputError
from bitsearch.override import override
from bitsearch.validation import MAX_BITS, MAX_TIME_STEPS, Bits, Frozen, MembraneBits, Name, TimeSteps, explain

MAX_LISTED_NAMES = 16
"""Layers that a message lists one by one."""


def _one_value(value: object) -> object:
    return {"low": value, "high": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _one_glob(value: object) -> object:
    return (value,) if isinstance(value, str) else value


BitValues = Annotated[Span, BeforeValidator(_one_value, json_schema_input_type=Bits | list[Bits] | Span)]
"""One bit width, a list of them, or all from ``low`` to ``high``."""
StepValues = Annotated[Span, BeforeValidator(_one_value, json_schema_input_type=TimeSteps | list[TimeSteps] | Span)]
"""The same of time steps."""
MembraneValues = Annotated[
    Span, BeforeValidator(_one_value, json_schema_input_type=MembraneBits | list[MembraneBits] | Span)
]
"""The same of widths of membranes."""
Globs = Annotated[
    tuple[Name, ...], BeforeValidator(_one_glob, json_schema_input_type=Name | list[Name]), Field(min_length=1)
]
"""One glob of module paths, or several."""
Setting = Literal["granularity", "spike_granularity", "step_sizes", "quantizer"]
"""How a layer is quantized, apart from its numbers."""


class LayerRule(Frozen):
    """What layers may get whose names match: a number fixed, listed, or within a range; and how they are quantized.

    A search space's ``[[layers]]`` say it in place of its choices, the later entry before the earlier; those of a
    hardware target are limits.

    >>> rule = bitsearch.LayerRule(match="layer3.*", weight_bits=8, spike_bits=[2, 4])
    >>> rule.weight_bits.values, rule.spike_bits.values, rule.applies_to("layer3.0.conv1")
    ((8,), (2, 4), True)
    """

    match: Globs
    """Globs of module paths: a layer is meant if it, or a module around it, matches one."""
    weight_bits: BitValues | None = None
    spike_bits: BitValues | None = None
    time_steps: StepValues | None = None
    granularity: Literal["layer", "channel"] | None = None
    """As in ``[allocation.quantizer]``, in its place."""
    spike_granularity: Literal["step", "layer"] | None = None
    """Likewise."""
    step_sizes: Literal["free", "power_of_two"] | None = None
    """Likewise."""
    quantizer: Literal["uniform", "sigmoid"] | None = None
    """In place of its ``form``."""
    membrane_bits: MembraneValues | None = None
    """Bits of its neurons' membranes, which saturate, in place of the target's; all time steps have one step size."""

    @model_validator(mode="after")
    def _within_reach(self) -> "LayerRule":
        for name, largest in (("weight_bits", MAX_BITS), ("spike_bits", MAX_BITS), ("time_steps", MAX_TIME_STEPS)):
            span: Span | None = getattr(self, name)
            if span is not None and span.high > largest:
                raise ValueError(f"{name} goes up to {span.high}; at most {largest}")
        if self.membrane_bits is not None:
            check_membranes(self.membrane_bits)
        if self.membrane_bits is not None and self.spike_granularity == "step":
            widths = ", ".join(map(str, self.membrane_bits.values))
            raise ValueError(
                f'layers {self} has membrane_bits {widths} and spike_granularity "step"; a membrane '
                "counts in one step size: leave one of them out"
            )
        names = [name for name in type(self).model_fields if name != "match"]
        if all(getattr(self, name) is None for name in names):
            raise ValueError(f"layers {self} sets nothing; give at least one of {', '.join(names)}")
        return self

    @classmethod
    def parse(cls, text: str) -> "LayerRule":
        """Read ``GLOB:KEY=VALUE``, the value as in TOML, as the command line takes it.

        Raises:
            InputError: another form, an unknown key, or a value that is not allowed.

        >>> bitsearch.LayerRule.parse("conv*:weight_bits=[2, 4]").weight_bits.values
        (2, 4)
        """
        match, _, setting = text.partition(":")
        key, equals, _ = setting.partition("=")
        if not (match.strip() and key.strip() and equals):
            raise InputError(f"layer {text!r} sets nothing; give GLOB:KEY=VALUE, such as 'layer3.*:weight_bits=8'")
        try:
            return cls.model_validate(override({}, [setting]) | {"match": match.strip()})
        except ValidationError as error:
            raise InputError(f"layer {text!r}: {explain(error, cls)}") from error

    @property
    def numbers(self) -> dict[Number, Span]:
        """What it says of the three numbers."""
        return {number: span for number in NUMBERS if (span := getattr(self, number)) is not None}

    def applies_to(self, name: str) -> bool:
        """True if the layer, or a module around it, matches one of the globs."""
        return matches(name, self.match)

    def __str__(self) -> str:
        return ", ".join(repr(glob) for glob in self.match)


class TieRule(Frozen):
    """Layers that share numbers, by their names: ``[[ties]]`` of a search space.

    >>> str(bitsearch.TieRule(match=["query", "key", "value"], share=["weight_bits"]))
    "'query', 'key', 'value'"
    >>> bitsearch.TieRule(share="streams").match
    ('*',)
    """

    match: Globs = ("*",)
    """Globs of module paths; all layers that one of them matches are tied together."""
    share: Annotated[tuple[Number, ...], Field(min_length=1)] | Literal["streams"]
    """Spike bits are one width a time step, so that layers share both of spike_bits and time_steps or neither.
    ``streams``: of the layers that match, those that read the same neurons share these two, and the neurons."""

    @model_validator(mode="after")
    def _whole(self) -> "TieRule":
        if self.share == "streams":
            return self
        if len(set(self.share)) < len(self.share):
            raise ValueError(f"share lists one twice: {', '.join(self.share)}; list each once")
        if ("spike_bits" in self.share) != ("time_steps" in self.share):
            raise ValueError("share has one of spike_bits and time_steps; give both, since a step has its own bits")
        return self

    @classmethod
    def parse(cls, text: str) -> "TieRule":
        """Read ``GLOBS:NUMBERS``, each separated by commas, or ``streams``, as the command line takes it.

        Raises:
            InputError: another form, or a number that cannot be shared.

        >>> tie = bitsearch.TieRule.parse("query,key,value:weight_bits")
        >>> tie.match, tie.share
        (('query', 'key', 'value'), ('weight_bits',))
        >>> bitsearch.TieRule.parse("streams") == bitsearch.TieRule(share="streams")
        True
        """
        globs, colon, share = text.rpartition(":")
        table: dict[str, object] = {"share": "streams" if share.strip() == "streams" else _listed(share)}
        if colon:
            table["match"] = _listed(globs)
        elif share.strip() != "streams":
            raise InputError(
                f"tie {text!r} shares nothing; give GLOB:NUMBERS, such as 'layer3.*:spike_bits,time_steps', or streams"
            )
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            raise InputError(f"tie {text!r}: {explain(error, cls)}") from error

    def __str__(self) -> str:
        return ", ".join(repr(glob) for glob in self.match)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def matches(name: str, globs: Iterable[str]) -> bool:
    """True if a module path, or that of a module around it, matches a glob."""
    return any(fnmatchcase(path, glob) for path in _paths(name) for glob in globs)


def last_rule(
    rules: Sequence[LayerRule], name: str, field: Number | Setting | Literal["membrane_bits"]
) -> LayerRule | None:
    """The last of the rules that match a layer and say something of this field; None if none does."""
    return next((rule for rule in reversed(rules) if getattr(rule, field) is not None and rule.applies_to(name)), None)


def check_globs(table: str, globs: Iterable[str], names: Sequence[str]) -> None:
    """Raise InputError, with the nearest names, for the first glob of a ``table`` that matches no layer.

    Args:
        table: where the globs stand, such as ``[[layers]]``.
        globs: as people wrote them.
        names: module paths of the layers that get bits.
    """
    for glob in globs:
        if any(matches(name, (glob,)) for name in names):
            continue
        paths = list(dict.fromkeys(path for name in names for path in _paths(name)))
        near = get_close_matches(glob.rstrip("*").rstrip("."), paths, n=3)
        listed = ", ".join(names[:MAX_LISTED_NAMES]) + (", …" if len(names) > MAX_LISTED_NAMES else "")
        advice = f"near: {', '.join(map(repr, near))}" if near else f"there are: {listed}"
        raise InputError(f"{table} match {glob!r} is the name of no layer that gets bits; {advice}")


def _paths(name: str) -> list[str]:
    """The module path and those of the modules around it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
