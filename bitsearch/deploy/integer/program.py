"""The deployed network as data: integer operations in the order they run, and what each layer's integers mean.

Value 0 is the network's input, operation i makes value i + 1, and the last value is the network's output.

An input with a time axis has F frames, and so has every value until ``sum_frames`` adds them up. Shapes are those of
one frame; every operation is done on each frame alone, but for layers that have frames, neurons with the time steps of
these, and for ``fire``.
"""

from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from bitsearch.deploy.integer.fields import Fraction, Shape
from bitsearch.deploy.integer.operations import (
    AnyOperation,
    RunLayer,
    RunNeuron,
    RunSynapses,
    SumFrames,
)
from bitsearch.deploy.integer.packed_layer import PackedLayer
from bitsearch.errors import InputError
from bitsearch.validation import Frozen, Name, TimeSteps, explain


class NetworkInput(Frozen):
    """The input's shape without batch and time axis; its encoding is ⌊x·2^fraction + ½⌋, saturated at ±``largest``."""

    shape: Shape
    fraction: Fraction
    largest: int = Field(ge=1, lt=1 << 31)
    frames: TimeSteps | None = None
    """F, the length of the time axis; None without one."""
    repeated: bool = False
    """Whether a batch has no time axis, and every frame shows it."""

    @model_validator(mode="after")
    def _repeated_over_frames(self) -> "NetworkInput":
        if self.repeated and self.frames is None:
            raise ValueError("an input without frames is repeated")
        return self

    @property
    def axes(self) -> tuple[int | str, ...]:
        """Of a batch, N samples."""
        return (*(() if self.frames is None or self.repeated else (self.frames,)), "N", *self.shape)


def _of_spikes(layer: PackedLayer) -> tuple[object, ...]:
    return layer.time_steps, layer.step_fraction, layer.one_step, layer.step_sizes


class Program(Frozen):
    """Everything about a deployed network but its numbers."""

    input: NetworkInput
    layers: dict[Name, PackedLayer] = Field(min_length=1, max_length=1 << 14)
    operations: tuple[Annotated[AnyOperation, Field(discriminator="op")], ...] = Field(min_length=1, max_length=1 << 16)

    @model_validator(mode="after")
    def _references_exist(self) -> "Program":
        for index, operation in enumerate(self.operations):
            if any(value > index for value in operation.inputs):
                raise ValueError(f"operation {operation.name!r} reads a value that is made after it")
            if isinstance(operation, RunLayer | RunNeuron | RunSynapses) and operation.layer not in self.layers:
                raise ValueError(f"operation {operation.name!r} runs layer {operation.layer!r}, which there is none of")
        return self

    @model_validator(mode="after")
    def _weights_are_stored(self) -> "Program":
        earlier: dict[str, PackedLayer] = {}
        for name, layer in self.layers.items():
            owner = None if layer.weight_of is None else earlier.get(layer.weight_of)
            if owner is not None and (owner.weight_shape, owner.weight_bits) != (layer.weight_shape, layer.weight_bits):
                raise ValueError(f"layer {name!r} has the weight of {layer.weight_of!r}, not of its shape and bits")
            if owner is None and layer.weight_of is not None:
                raise ValueError(f"layer {name!r} has the weight of {layer.weight_of!r}, for which none is stored")
            if layer.weight_of is None:
                earlier[name] = layer
        return self

    @model_validator(mode="after")
    def _steps_are_stored(self) -> "Program":
        earlier: dict[str, PackedLayer] = {}
        for name, layer in self.layers.items():
            owner = None if layer.steps_of is None else earlier.get(layer.steps_of)
            if owner is not None and _of_spikes(owner) != _of_spikes(layer):
                raise ValueError(f"layer {name!r} has the step sizes of {layer.steps_of!r}, whose spikes are others")
            if owner is None and layer.steps_of is not None:
                raise ValueError(f"layer {name!r} has the step sizes of {layer.steps_of!r}, for which none are stored")
            if layer.steps_of is None:
                earlier[name] = layer
        return self

    @model_validator(mode="after")
    def _one_time_axis(self) -> "Program":
        frames = self.input.frames
        for name, layer in self.layers.items():
            if layer.frames not in (None, frames):
                raise ValueError(f"layer {name!r} has {layer.frames} frames, the input {frames or 'none'}")
        ends = [index for index, operation in enumerate(self.operations) if isinstance(operation, SumFrames)]
        if ends != ([] if frames is None else [len(self.operations) - 1]):
            raise ValueError(
                "a program with a time axis, and no other, ends with sum_frames, which occurs nowhere else"
            )
        return self

    @classmethod
    def from_json(cls, text: str, source: str) -> "Program":
        """Read a program; InputError, naming ``source``, if it is not one."""
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise InputError(f"{source}: {explain(error)}") from error

    def runs(self) -> list[tuple[int, RunLayer | RunSynapses]]:
        """(index, operation) of every run of a layer's weights, in order."""
        return [
            (index, operation)
            for index, operation in enumerate(self.operations)
            if isinstance(operation, RunLayer | RunSynapses)
        ]
