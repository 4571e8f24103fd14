"""What the outer loop varies: a range or choices for a setting of ``[allocation]``, which a dotted name stands for."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from bitsearch.validation import Frozen


class Parameter(Frozen):
    """A setting that the outer loop varies: a real number from ``low`` to ``high``, or one of ``choices``."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[str | int | float | bool, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_form(self) -> "Parameter":
        if (self.choices is None) == (self.low is None) or (self.low is None) != (self.high is None):
            raise ValueError("give either low and high, or choices")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ValueError(f"low {self.low} is not below high {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"a log range needs a positive low, not {self.low}")
        return self

    @property
    def range(self) -> tuple[float, float] | None:
        """(low, high), or None where there are choices."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def __contains__(self, value: object) -> bool:
        if self.range is None:
            return value in (self.choices or ())
        return isinstance(value, int | float) and self.range[0] <= value <= self.range[1]


def flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by dotted name, from either form: ``"ramp.steps" = {…}``, or ``steps = {…}`` in a table ``ramp``.

    Raises:
        ValueError: one parameter in both forms.
    """
    flat: dict[str, Any] = {}
    for name, content in parameters.items():
        inside = content if isinstance(content, Mapping) else {}
        tables = {key: value for key, value in inside.items() if isinstance(value, Mapping | Parameter)}
        entries = {f"{name}.{key}": value for key, value in tables.items()}
        if not tables:
            entries = {name: content}
        elif len(tables) < len(inside):
            entries[name] = {key: value for key, value in inside.items() if key not in tables}
        for entry, value in entries.items():
            if entry in flat:
                raise ValueError(f"search.parameters.{entry} was given twice; give it once")
            flat[entry] = value
    return flat


def nest(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of :func:`flatten`, with a table for what stands before a name's dot, so that a path leads to it."""
    nested: dict[str, Any] = {}
    for name, value in parameters.items():
        put(nested, name, value)
    return nested


def put(content: dict[str, Any], name: str, value: object) -> None:
    """Set what a dotted name stands for; tables on the way are made."""
    *path, last = name.split(".")
    for table in path:
        content = content.setdefault(table, {})
    content[last] = value
