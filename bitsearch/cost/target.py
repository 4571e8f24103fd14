"""Hardware targets: a chip's bit widths, its memory, and the costs of its operations.

A target is a commented TOML file. Those shipped with bitsearch are found by name, others by path. Every figure names
its source, so that an estimate made from it can be checked.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from bitsearch.cost.figures import figures_of
from bitsearch.cost.target_tables import (
    ConvolutionLimits,
    Cores,
    Energy,
    KindLimits,
    Latency,
    LayerKind,
    Limits,
    Memory,
    RequiredBits,
    TargetTable,
    Widths,
)
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule
from bitsearch.plug_ins import load_plug_in
from bitsearch.validation import TimeSteps, from_toml, load_toml


def _check_source(source: object) -> object:
    if isinstance(source, dict):
        raise ValueError('put the whole key into quotation marks, such as "energy.bit_operation" = "…"')
    return source


Source = Annotated[str, Field(pattern=r"\S", max_length=2000), BeforeValidator(_check_source)]


class Target(TargetTable):
    """A hardware target.

    >>> target = bitsearch.Target.load("power_of_two")
    >>> target.weight_bits, target.max_time_steps, "generic" in bitsearch.Target.names()
    ((1, 2, 4, 8), 8, True)
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")
    description: str = ""
    weight_bits: Widths
    """Bits that a weight may have."""
    spike_bits: Widths
    """Bits that a spike may have, at every time step."""
    max_time_steps: TimeSteps
    """Most time steps that a layer may have."""
    granularity: tuple[Literal["layer", "channel"], ...] = Field(
        default=("layer", "channel"), min_length=1, strict=False
    )
    """A weight step size for the whole layer, for every output channel, or either."""
    first_layer: RequiredBits | None = None
    last_layer: RequiredBits | None = None
    layers: tuple[LayerRule, ...] = Field(default=(), strict=False)
    """What layers may get whose names match, in place of the widths and time steps that all may have."""
    one_spike_stream: bool = False
    """True where neurons send one stream of spikes to all layers that read them, which then share spike bits and time
    steps; elsewhere every layer may have neurons of its own."""
    format: Literal["akida"] | None = None
    """What its plans are deployed as; a network that this format cannot express is refused before it is trained."""
    membrane_bits: int = Field(default=32, ge=8, le=32)
    """Bits at which a membrane potential or an input current is stored; below 32, plans' membranes are trained so."""
    accumulator_bits: int | None = Field(default=None, ge=8, le=64)
    """Bits in which a layer adds up its products; what would need more is not packed. None: any."""
    memory: Memory | None = None
    cores: Cores | None = None
    energy: Energy | None = None
    latency: Latency | None = None
    limits: Limits | None = None
    convolution: ConvolutionLimits | None = None
    depthwise: ConvolutionLimits | None = None
    """None: as other convolutions."""
    transposed: ConvolutionLimits | None = None
    linear: KindLimits | None = None
    sources: dict[str, Source]
    """The source of every figure, by its key such as ``energy.bit_operation``: a citation, or "assumption: …".

    A figure at its default, such as 32 membrane bits, needs none.
    """

    @field_validator("sources")
    @classmethod
    def _complete(cls, sources: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        figures = figures_of(cls, info.data)
        for key, (value, default) in figures.items():
            if key not in sources and value != default:
                raise ValueError(f'{key} has no source; add "{key}" = a citation, or "assumption: …" where it is yours')
        for key in sources:
            if key not in figures:
                raise ValueError(f"{key!r} is not a figure of this target; it gives: {', '.join(figures)}")
        return sources

    @field_validator("layers")
    @classmethod
    def _of_hardware(cls, rules: tuple[LayerRule, ...]) -> tuple[LayerRule, ...]:
        for rule in rules:
            if rule.quantizer is not None:
                raise ValueError(
                    f"layers {rule} has a quantizer, by which weights are trained; say it in the search space"
                )
            if rule.membrane_bits is not None and rule.membrane_bits.low < rule.membrane_bits.high:
                raise ValueError(f"layers {rule} has several membrane_bits; give the widest that the chip has there")
        return rules

    def of_kind(self, kind: LayerKind) -> tuple[str, KindLimits | None]:
        """(name, limits) of the table that says what layers of a kind keep to, if the target has one."""
        table = "convolution" if kind == "depthwise" and self.depthwise is None else kind
        return table, getattr(self, table)

    @property
    def plan_membrane_bits(self) -> int | None:
        """Width that plans' membranes are trained with; None where 32 bits hold any."""
        return self.membrane_bits if self.membrane_bits < 32 else None

    @property
    def spike_granularity(self) -> Literal["step", "layer"]:
        """Of plans that say nothing else: one spike step size a layer, where membranes or accumulators have a width."""
        return "step" if self.plan_membrane_bits is None and self.accumulator_bits is None else "layer"

    @property
    def figures(self) -> dict[str, Any]:
        """The target's figures, by their keys in :data:`bitsearch.cost.figures.FIGURES`."""
        return {key: value for key, (value, _) in figures_of(type(self), dict(self)).items()}

    def to_json(self) -> str:
        """The target as JSON; :meth:`model_validate_json` reads it again."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"

    def to_toml(self) -> str:
        """The target as TOML, as :meth:`from_toml` reads it."""
        return tomli_w.dumps(
            self.model_dump(mode="json", exclude_none=True, exclude_defaults=True) | {"name": self.name}
        )

    @classmethod
    def from_toml(cls, text: str, source: str = "hardware target") -> "Target":
        """Read a target; InputError names ``source``, the field, the value and what is allowed."""
        return from_toml(cls, text, source)

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Target":
        """A shipped target by name, a package's, or any by the path of its TOML file (it ends in ``.toml``).

        A package declares its TOML text, or a target, as an entry point of ``bitsearch.targets``.
        """
        name = str(name_or_path)
        if name == name_or_path and not name.endswith(".toml") and name not in cls.names():
            plug_in = load_plug_in("hardware target", name)
            if isinstance(plug_in, str):
                return from_toml(cls, plug_in, f"hardware target {name!r} of a package")
            if plug_in is not None and not isinstance(plug_in, cls):
                raise InputError(f"hardware target {name!r} of a package is no TOML text, but {type(plug_in).__name__}")
            if plug_in is not None:
                return plug_in
        return load_toml(cls, name_or_path, _shipped_texts, "hardware target")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The targets that came with the package."""
        return tuple(_shipped_texts())

    @classmethod
    def template(cls, name: str) -> str:
        """A commented TOML file of that name with every key; it is valid as it stands.

        Raises:
            InputError: no target may have that name.
        """
        text = resources.files("bitsearch").joinpath("cost", "target_template.toml").read_text(encoding="utf-8")
        text = text.replace('name = "my_chip"', f"name = {json.dumps(name)}", 1)
        cls.from_toml(text, f"target {name!r}")
        return text

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of a target; it also lies beside this module as ``target.schema.json``."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}


def _shipped_texts() -> dict[str, str]:
    """The TOML text of every target that came with the package, by name in alphabetical order."""
    folder = resources.files("bitsearch").joinpath("cost", "targets")
    files = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
    return {name.removesuffix(".toml"): files[name].read_text(encoding="utf-8") for name in sorted(files)}
