"""The bit plan: how many weight bits, spike bits and time steps each layer gets, and what that costs.

A plan is data: frozen, validated, versioned, written and read as JSON. It knows nothing of torch.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bitsearch.errors import InputError, StorageError

SCHEMA_VERSION = 1
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


class LayerPlan(Frozen):
    """What one layer gets."""

    weight_bits: Bits
    spike_bits: tuple[Bits, ...]
    """One bit width a time step."""
    time_steps: TimeSteps
    granularity: Literal["layer", "channel"] = "layer"
    """One weight step size for the whole layer, or one per output channel."""
    signed_input: bool = False
    """True where the layer's input may be negative, as the network's own input is."""
    decay: float = Field(default=1.0, ge=0, le=1)
    """Membrane decay between the time steps."""
    frames: TimeSteps | None = None
    """Length of the time axis of the layer's input, as event data have one; None without one."""

    @model_validator(mode="after")
    def _one_width_per_step(self) -> "LayerPlan":
        if self.frames is not None and self.time_steps > self.frames:
            raise ValueError(f"time_steps is {self.time_steps}, but the layer's input has {self.frames} frames")
        if len(self.spike_bits) != self.time_steps:
            raise ValueError(
                f"spike_bits lists {len(self.spike_bits)} bit widths for {self.time_steps} time steps; "
                "give one a time step"
            )
        return self

    @property
    def mean_spike_bits(self) -> float:
        """Spike bits averaged over the time steps."""
        return sum(self.spike_bits) / self.time_steps


class UniformBits(Frozen):
    """The same weight bits, spike bits and time steps for every layer."""

    weight_bits: Bits
    spike_bits: Bits
    time_steps: TimeSteps

    def __str__(self) -> str:
        return f"{self.weight_bits}/{self.spike_bits}/{self.time_steps}"


class Baseline(UniformBits):
    """The declared starting point, on every layer alike; ``4x`` means a quarter of its cost."""

    costs: dict[Name, Cost]


class BudgetOutcome(Frozen):
    """A budget as asked for, the limit it stands for, and what the plan costs."""

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
    """A layer that keeps 32 bits: it is in every cost, at that width."""

    reason: Name
    weights: int = Field(ge=0)
    macs: int = Field(ge=0)
    """Multiply-accumulates for one input."""


class Accuracy(Frozen):
    """Share of correctly classified samples, by the split it was measured on."""

    validation: Share | None = None
    test: Share | None = None
    soft_validation: Share | None = None
    """With soft weight steps, before they became the hard ones that ``validation`` is of."""


class Provenance(Frozen):
    """Where a plan comes from."""

    bitsearch: str
    torch: str
    seed: int
    command: str
    trial: int | None = None
    method: str = "adaptive"
    split_seed: int = 0


class BitPlan(Frozen):
    """A per-layer bit plan. Layers are named by their module path in the network, in the order they run."""

    schema_version: Literal[1] = 1
    space: Name
    network: Name
    target: Name = "generic"
    budget: tuple[BudgetOutcome, ...]
    baseline: Baseline
    layers: dict[Name, LayerPlan] = Field(min_length=1)
    unquantized: dict[str, Unquantized] = {}
    """What cannot be given bits, by module path; products in the network's own forward pass have the empty path."""
    costs: dict[Name, Cost]
    accuracy: Accuracy = Accuracy()
    provenance: Provenance

    @property
    def met(self) -> bool:
        """True if every budget is met."""
        return all(outcome.met for outcome in self.budget)

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
            raise InputError(f"{source}: {explain(error)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to ``path``, whole or not at all; it is validated once more before."""
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


def read_text(path: Path, what: str) -> str:
    """The text of a file; InputError, naming ``what`` it was to be, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no {what} at {path}; give the path of an existing file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the {what} {path}: {error}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never half of it.

    Raises:
        StorageError: it cannot be written; what was there before is as it was.
    """
    draft = path.with_name(f"{DRAFT}{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _make_rename_last(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


DRAFT = ".draft-"
"""How the names of files start that are not whole yet; a kill may leave one behind."""


def _make_rename_last(folder: Path) -> None:
    # Until the folder itself is on the disk, a power cut may bring the old file back. Windows cannot open folders.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
