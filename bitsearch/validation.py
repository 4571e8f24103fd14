"""Validation of all files that people write or keep: the base class, common types, one-line errors."""

import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitsearch.errors import InputError, printable, suggestion
from bitsearch.files import read_text

MAX_BITS = 8
MAX_TIME_STEPS = 100_000
MEMBRANE_BITS = (8, 31)
"""The narrowest and the widest membrane that has a width."""
MAX_SEEDS = 2**64
"""Seeds that torch's generators take, from 0."""

Bits = Annotated[int, Field(ge=1, le=MAX_BITS)]
TimeSteps = Annotated[int, Field(ge=1, le=MAX_TIME_STEPS)]
MembraneBits = Annotated[int, Field(ge=MEMBRANE_BITS[0], le=MEMBRANE_BITS[1])]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=MAX_SEEDS)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]


def shown(value: Any) -> str:
    """An argument of a program as messages have it: on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def whole(value: Any, name: str, least: int, most: int | None = None) -> int:
    """A whole number, whatever class it has; InputError if it is none, or not in the range."""
    limit = "2^64 - 1" if most == MAX_SEEDS - 1 else str(most)
    allowed = f"a whole number from {least}" + ("" if most is None else f" to {limit}")
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {shown(value)}; give {allowed}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise InputError(f"{name} is {value if isinstance(value, bool) else number}; give {allowed}")
    return number


def _without_examples(schema: dict[str, Any]) -> None:
    """Cut the examples off a class's description; a JSON Schema is read outside of Python."""
    if "description" in schema:
        schema["description"] = schema["description"].partition("\n\n>>> ")[0]


class Frozen(BaseModel):
    """Base of everything people write or keep: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_without_examples)


_CHOICE = re.compile(r"(tuple|list|dict|literal|function-\w+|constrained-\w+)\[")
"""How pydantic calls one of several kinds of value that a field may have, within the field's path."""
_PYTHON_WORDS = {"a valid dictionary": "give a table", "a valid tuple": "give a list", "a valid list": "give a list"}
"""What pydantic says of values from TOML, and TOML's words for it; of JSON, it has JSON's."""


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first fault of a validation error in one line: field, value, what is allowed.

    With the ``model`` that was validated by, a misspelt field is told the one that may have been meant.
    """
    fault = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in fault["loc"] if not _CHOICE.match(str(part))) or "content"
    # A name may hold anything, line breaks included.
    field = printable(path)
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = next((words for start, words in _PYTHON_WORDS.items() if start in message), message)
    if fault["type"] == "extra_forbidden":
        names = () if model is None else _fields_at(model, fault["loc"][:-1])
        return f"unknown field {field!r}; remove it or correct its spelling{suggestion(str(fault['loc'][-1]), names)}"
    if fault["type"] == "missing":
        return f"field {field!r} is missing"
    if not fault["loc"] and fault["type"] == "value_error":
        # The message of a rule over several fields names them; the whole content as the value would be cut off.
        return message
    # An object's text may have several lines.
    value_text = " ".join(repr(fault["input"]).split())
    excerpt = value_text if len(value_text) <= 80 else value_text[:77] + "..."
    # A literal's message lists what is allowed, in quotes.
    allowed = re.findall(r"'([^']*)'", message) if fault["type"] == "literal_error" else ()
    return f"{field} is {excerpt}: {message}{suggestion(str(fault['input']), allowed)}"


def _fields_at(model: type[BaseModel], path: Sequence[int | str]) -> Iterable[str]:
    """Names of the fields that the table at ``path`` may have; none where the table's names are free."""
    if not path:
        return model.model_fields
    if isinstance(path[0], int):
        # A place in a list of tables.
        return _fields_at(model, path[1:])
    field = model.model_fields.get(str(path[0]))
    parts = [] if field is None else [part for part in _annotations(field.annotation) if isinstance(part, type)]
    tables = [part for part in parts if issubclass(part, BaseModel)]
    return _fields_at(tables[0], path[1:]) if tables else ()


def _annotations(annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    return [leaf for argument in arguments for leaf in _annotations(argument)] if arguments else [annotation]


_Model = TypeVar("_Model", bound=Frozen)


def from_toml(model: type[_Model], text: str, source: str) -> _Model:
    """Read what people wrote as TOML; InputError names ``source``, the field, the value and what is allowed."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not TOML ({error})") from error
    try:
        return model.model_validate(content, context={"source": source})
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error, model)}") from error


_KEYS = {
    "settings of a run": {"baseline_costs", "space"},
    "search space": {"network", "data"},
    "hardware target": {"name", "sources"},
}
"""Keys by which a TOML file is known for one of the kinds that bitsearch reads."""


def _require_kind(text: str, source: str, kind: str) -> None:
    """Say of a file that is plainly of another kind which one it is, before it is told what fields it lacks."""
    try:
        keys = set(tomllib.loads(text))
    except (ValueError, RecursionError):
        return
    found = next((name for name, needed in _KEYS.items() if needed <= keys), kind)
    if found == kind:
        return
    if found == "settings of a run":
        folder = Path(source).parent
        give = f"give the run's folder, {folder}, where a run can be given, or the .toml file of a {kind}"
        raise InputError(f"{source} holds the settings of a run, not a {kind}; {give}")
    raise InputError(f"{source} holds a {found}, not a {kind}; give the .toml file of a {kind}")


def load_toml(
    model: type[_Model], name_or_path: str | Path, shipped_texts: Callable[[], Mapping[str, str]], kind: str
) -> _Model:
    """Load a file that came with the package by its name, or any file by its path, which ends in ``.toml``.

    Args:
        model: class to validate by.
        name_or_path: a :class:`pathlib.Path` is a path, whatever it ends in.
        shipped_texts: returns the TOML text of every shipped file, by name; called for a name only.
        kind: noun for messages, such as "search space".

    Raises:
        InputError: no such name or file, or as :func:`from_toml`.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or isinstance(name_or_path, Path):
        content = read_text(Path(text), kind)
        _require_kind(content, text, kind)
        return from_toml(model, content, text)
    texts = shipped_texts()
    if text not in texts:
        raise InputError(
            f"no {kind} named {text!r}; shipped: {', '.join(sorted(texts))}; or give the path of a .toml file"
            f"{suggestion(text, texts)}"
        )
    return from_toml(model, texts[text], text)


def to_toml(model: BaseModel) -> str:
    """``model`` as TOML, without what is None; options of users keep infinities, NaN and dates, which JSON has not."""
    settings: dict[str, Any] = {"exclude_none": True}
    return tomli_w.dumps(_toml_values(model.model_dump(**settings), model.model_dump(mode="json", **settings)))


def _toml_values(values: Any, as_json: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _toml_values(value, as_json[key]) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_toml_values(*pair) for pair in zip(values, as_json, strict=True)]
    return values if isinstance(values, float | date | time) else as_json
