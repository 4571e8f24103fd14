"""The deployed network as data: integer operations in the order they run, and what each layer's integers mean.

A *current* is an integer in the unit 2^−fraction. What every operation computes is stated in its docstring and nowhere
else; docs/packed-format.md gives the same to those who write a reader. Value 0 is the network's input, operation i
makes value i + 1, and the last value is the network's output.

An input with a time axis has F frames, and so has every value until ``sum_frames`` adds them up. Shapes are those of
one frame; every operation is done on each frame alone, but for layers that have frames and for ``fire``.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from bitsearch.errors import InputError
from bitsearch.quant.frames import bins
from bitsearch.quant.uniform import q_max
from bitsearch.validation import Bits, Frozen, Name, TimeSteps, explain

DECAY_FRACTION = 16
"""A membrane decay is an integer in the unit 2^−16."""

Fraction = Annotated[int, Field(ge=-64, le=64)]
Size = Annotated[int, Field(ge=1, le=1 << 24)]
Pair = Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 12)], ...], Field(min_length=1, max_length=2)]
Padding = Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 12)], ...], Field(min_length=1, max_length=2)]
Shape = Annotated[tuple[Size, ...], Field(min_length=1, max_length=4)]
Value = Annotated[int, Field(ge=0)]


class PackedLayer(Frozen):
    """A quantized layer: a neuron at its input, a convolution or product of integers, an affine map to a current.

    Spikes are codes of ``spike_bits`` bits; step sizes S_t are integers in the unit 2^−step_fraction, and the weight
    n_t of a spike is S_t / gcd(S). With A = Σ_t n_t·Σ code_t·level the layer's output is
    ⌊(A·multiplier + ½·2^shift) / 2^shift⌋ + bias, by output channel, in the unit 2^−fraction.

    Without ``frames`` the current is the same at every time step. With them the current of time step t is the mean of
    the k frames of its bin, ⌊(2·sum·2^c + k) / (2·k)⌋ with c = ⌈log2 k⌉ of the largest bin, c bits finer than the
    input; every time step has an A = n_t·Σ code_t·level and an output of its own, which frame f shows for t = ⌊f·T/F⌋.
    """

    weight_shape: Shape
    """``[outputs, inputs / groups, *kernel]``."""
    weight_bits: Bits
    spike_bits: tuple[Bits, ...] = Field(min_length=1, max_length=64)
    """One bit width a time step."""
    signed: bool
    """Whether codes are −q_max … q_max, q_max = 2^(b−1) − 1 (−1 or 1 at one bit), or 0 … 2^b − 1."""
    decay: int = Field(ge=0, le=1 << DECAY_FRACTION)
    step_fraction: Fraction
    shift: int = Field(ge=0, le=62)
    fraction: Fraction
    stride: Pair = (1,)
    padding: Padding = (0,)
    dilation: Pair = (1,)
    groups: Size = 1
    frames: TimeSteps | None = None
    """F, where the time steps are those of the input's time axis."""

    @model_validator(mode="after")
    def _one_setting_an_axis(self) -> "PackedLayer":
        axes = len(self.weight_shape) - 2
        if axes < 0:
            raise ValueError(f"weight_shape has {len(self.weight_shape)} axes; a layer's weight has at least two")
        for name in ("stride", "padding", "dilation"):
            given = getattr(self, name)
            if len(given) != max(axes, 1):
                raise ValueError(f"{name} has {len(given)} numbers for a kernel of {axes} axes")
        if self.weight_shape[0] % self.groups:
            raise ValueError(f"{self.weight_shape[0]} outputs cannot be divided into {self.groups} groups")
        if self.frames is not None and self.time_steps > self.frames:
            raise ValueError(f"{self.time_steps} time steps for an input of {self.frames} frames")
        return self

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.weight_shape[0]

    @property
    def kernel(self) -> tuple[int, ...]:
        """Of a convolution; empty for a linear layer."""
        return self.weight_shape[2:]

    @property
    def time_steps(self) -> int:
        """T."""
        return len(self.spike_bits)

    @property
    def bins(self) -> list[tuple[int, int]]:
        """The frames of every time step, first … end − 1; none without a time axis."""
        return [] if self.frames is None else bins(self.frames, self.time_steps)

    @property
    def finer(self) -> int:
        """By how many bits the unit of the mean of a bin is finer than the input's, c."""
        return (max((end - first for first, end in self.bins), default=1) - 1).bit_length()

    def q_max(self, t: int) -> int:
        """q_max of a time step's spikes."""
        return q_max(self.spike_bits[t], signed=self.signed)


class RunLayer(Frozen):
    """A layer's output for a current; linear layers work on its last axis, convolutions on ``[C, L]`` or ``[C, H, W]``.

    A layer may run several times in a network.
    """

    op: Literal["layer"] = "layer"
    name: Name
    inputs: tuple[Value]
    layer: Name


class Relu(Frozen):
    """max(x, 0)."""

    op: Literal["relu"] = "relu"
    name: Name
    inputs: tuple[Value]


class Scale(Frozen):
    """A factor of multiplier·2^−(shift + finer): ⌊(x·multiplier + ½·2^shift) / 2^shift⌋, ``finer`` bits finer."""

    op: Literal["scale"] = "scale"
    name: Name
    inputs: tuple[Value]
    multiplier: int = Field(ge=1, le=1 << 16)
    shift: int = Field(ge=0, le=16)
    finer: Fraction


class MaxPool(Frozen):
    """The largest current in each window over the last axes; padding never wins."""

    op: Literal["max_pool"] = "max_pool"
    name: Name
    inputs: tuple[Value]
    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair


class AveragePool(Frozen):
    """The mean of each window of k currents, padding counted as zeros.

    ⌊(2·sum·2^c + k) / (2·k)⌋ with c = ⌈log2 k⌉, c bits finer than the input: exact where k is a power of two.
    """

    op: Literal["average_pool"] = "average_pool"
    name: Name
    inputs: tuple[Value]
    kernel: Pair
    stride: Pair
    padding: Padding

    @property
    def window(self) -> int:
        """How many currents are averaged, k."""
        size = 1
        for length in self.kernel:
            size *= length
        return size

    @property
    def finer(self) -> int:
        """By how many bits the unit becomes finer, c."""
        return (self.window - 1).bit_length()


class Add(Frozen):
    """x + y of currents of one shape, in the finer of their units."""

    op: Literal["add"] = "add"
    name: Name
    inputs: tuple[Value, Value]


class Concatenate(Frozen):
    """Currents one behind the other along their first axis (the channels), in the finest of their units."""

    op: Literal["concatenate"] = "concatenate"
    name: Name
    inputs: tuple[Value, ...] = Field(min_length=1, max_length=1 << 10)


class Reshape(Frozen):
    """The same currents in another shape, in row-major order."""

    op: Literal["reshape"] = "reshape"
    name: Name
    inputs: tuple[Value]
    shape: Shape


class Fire(Frozen):
    """The spikes of a neuron that reads the network out: 1 where the membrane reaches ``threshold``, 0 elsewhere.

    Frame by frame, with currents x_f and u_0 = x_0, in their unit: what is left of the membrane, r_f = u_f −
    threshold·spike_f, or u_f·(1 − spike_f) with a hard reset, becomes u_(f+1) = x_(f+1) +
    ⌊(r_f·decay + 2^15) / 2^16⌋. Without a time axis there is one frame. The result has fraction 0.
    """

    op: Literal["fire"] = "fire"
    name: Name
    inputs: tuple[Value]
    threshold: int = Field(ge=1, lt=1 << 50)
    decay: int = Field(ge=0, le=1 << DECAY_FRACTION)
    hard: bool


class SumFrames(Frozen):
    """The sum of a value's frames: F times the mean that the prediction is. Ends a program with a time axis."""

    op: Literal["sum_frames"] = "sum_frames"
    name: Name
    inputs: tuple[Value]


Operation = RunLayer | Relu | Scale | MaxPool | AveragePool | Add | Concatenate | Reshape | Fire | SumFrames


class NetworkInput(Frozen):
    """The input's shape without batch and time axis; its encoding is ⌊x·2^fraction + ½⌋, saturated at ±``largest``."""

    shape: Shape
    fraction: Fraction
    largest: int = Field(ge=1, lt=1 << 31)
    frames: TimeSteps | None = None
    """F, the length of the time axis; None without one."""
    repeated: bool = False
    """Whether what is given has no time axis, and every frame shows it."""

    @model_validator(mode="after")
    def _repeated_over_frames(self) -> "NetworkInput":
        if self.repeated and self.frames is None:
            raise ValueError("an input without frames is repeated")
        return self

    @property
    def axes(self) -> tuple[int | str, ...]:
        """Of a batch as it is given, N samples."""
        return (*(() if self.frames is None or self.repeated else (self.frames,)), "N", *self.shape)


class Program(Frozen):
    """Everything about a deployed network but its numbers."""

    input: NetworkInput
    layers: dict[Name, PackedLayer] = Field(min_length=1, max_length=1 << 14)
    operations: tuple[Annotated[Operation, Field(discriminator="op")], ...] = Field(min_length=1, max_length=1 << 16)

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> "Program":
        for index, operation in enumerate(self.operations):
            if any(value > index for value in operation.inputs):
                raise ValueError(f"operation {operation.name!r} reads a value that is made after it")
            if isinstance(operation, RunLayer) and operation.layer not in self.layers:
                raise ValueError(f"operation {operation.name!r} runs layer {operation.layer!r}, which there is none of")
        return self

    @model_validator(mode="after")
    def _one_time_axis(self) -> "Program":
        frames = self.input.frames
        for name, layer in self.layers.items():
            if layer.frames not in (None, frames):
                raise ValueError(f"layer {name!r} has {layer.frames} frames, the input {frames or 'none'}")
        ends = [index for index, found in enumerate(self.operations) if isinstance(found, SumFrames)]
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

    def neurons(self) -> list[tuple[int, RunLayer | Fire]]:
        """(index, operation) of everything that spikes, in order."""
        return [(index, found) for index, found in enumerate(self.operations) if isinstance(found, RunLayer | Fire)]

    def runs(self) -> list[tuple[int, RunLayer]]:
        """(index, operation) of every run of a layer, in order."""
        return [(index, found) for index, found in enumerate(self.operations) if isinstance(found, RunLayer)]
