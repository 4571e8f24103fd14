"""What everything that people write or keep is validated by: the base class, common types, one-line errors."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_BITS = 8


MAX_TIME_STEPS = 64


Bits = Annotated[int, Field(ge=1, le=MAX_BITS)]


TimeSteps = Annotated[int, Field(ge=1, le=MAX_TIME_STEPS)]


Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


Name = Annotated[str, Field(min_length=1, max_length=1000)]


class Frozen(BaseModel):
    """Base of everything people write or keep: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def explain(error: ValidationError) -> str:
    """The first fault of a validation error in one line: field, value, what is allowed."""
    fault = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in fault["loc"]) or "content"
    # A name may hold anything, line breaks included.
    field = "".join(character if character.isprintable() else repr(character)[1:-1] for character in path)
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return f"unknown field {field!r}; remove it or correct its spelling"
    if fault["type"] == "missing":
        return f"field {field!r} is missing"
    if not fault["loc"] and fault["type"] == "value_error":
        # What does not fit together is named in the message itself; the whole content would only be cut off.
        return message
    given = repr(fault["input"])
    shown = given if len(given) <= 80 else given[:77] + "..."
    return f"{field} is {shown}: {message}"


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


Count = Annotated[int, Field(ge=1)]
