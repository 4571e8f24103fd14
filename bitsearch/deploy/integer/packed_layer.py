"""A quantized layer of the program: its geometry and arithmetic as data, and its tensors."""

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from bitsearch.deploy.integer.fields import Decay, Fraction, Padding, Pair, Shape, Size
from bitsearch.quant.frames import bins
from bitsearch.quant.membrane_width import MembraneWidth, membrane_width
from bitsearch.quant.uniform import q_max
from bitsearch.validation import MAX_TIME_STEPS, Bits, Frozen, Name, TimeSteps

Integers = npt.NDArray[np.int32]

LARGEST_EXPONENT = 30
"""Of a power of two that an int32 holds."""


class PackedLayer(Frozen):
    """A quantized layer: a neuron at its input, a (transposed) convolution or product of integers, an affine map.

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
    spike_bits: tuple[Bits, ...] = Field(min_length=1, max_length=MAX_TIME_STEPS)
    """One bit width a time step."""
    signed: bool
    """Whether codes are −q_max … q_max, q_max = 2^(b−1) − 1 (−1 or 1 at one bit), or 0 … 2^b − 1."""
    decay: Decay
    step_fraction: Fraction
    shift: int = Field(ge=0, le=62)
    fraction: Fraction
    stride: Pair = (1,)
    padding: Padding = (0,)
    dilation: Pair = (1,)
    groups: Size = 1
    output_padding: Padding | None = None
    """Of a transposed convolution, which has one; None for every other layer."""
    frames: TimeSteps | None = None
    """F, where the time steps are those of the input's time axis."""
    reset: Literal["subtract", "zero"] = "subtract"
    """What a spike takes from the membrane: code_t·S_t, or all of it."""
    threshold: Literal["half", "full"] = "half"
    """Whether code_t is ⌊(2·u_t + S_t) / (2·S_t)⌋, or ⌊u_t / S_t⌋."""
    strict: bool = False
    """Whether it is ⌈u_t / S_t⌉ − 1 instead of the latter."""
    largest: tuple[Annotated[int, Field(ge=1, le=255)], ...] | None = None
    """The largest code of every time step, where that is less than q_max."""
    membrane_bits: Annotated[int, Field(ge=8, le=31)] | None = None
    """Bits of a membrane that saturates, in units of S / :attr:`membrane_units`, S the one step size of all time steps.
    None: of the finer of the units of currents and steps, and as many bits as that takes."""
    weight_of: Name | None = None
    """The layer that the weight is stored for, where that is an earlier one."""
    step_sizes: Literal["power_of_two"] | None = None
    """Whether all S_t are powers of two, of which the exponents are stored."""
    scale: Literal["power_of_two"] | None = None
    """Whether all multipliers are, likewise."""
    one_step: Literal[True] | None = None
    """Set where one step size, stored once, is that of all time steps."""
    steps_of: Name | None = None
    """The layer that the step sizes are stored for, where that is an earlier one: both read the same spikes."""

    @model_validator(mode="after")
    def _one_setting_an_axis(self) -> "PackedLayer":
        axes = len(self.weight_shape) - 2
        if axes < 0:
            raise ValueError(f"weight_shape has {len(self.weight_shape)} axes; a layer's weight has at least two")
        for name in ("stride", "padding", "dilation"):
            setting = getattr(self, name)
            if len(setting) != max(axes, 1):
                raise ValueError(f"{name} has {len(setting)} numbers for a kernel of {axes} axes")
        self._check_output_padding(axes)
        if self.weight_shape[0] % self.groups:
            raise ValueError(f"{self.weight_shape[0]} outputs cannot be divided into {self.groups} groups")
        if self.frames is not None and self.time_steps > self.frames:
            raise ValueError(f"{self.time_steps} time steps for an input of {self.frames} frames")
        return self

    def _check_output_padding(self, axes: int) -> None:
        if self.output_padding is None:
            return
        if not axes or len(self.output_padding) != axes:
            raise ValueError(f"output_padding has {len(self.output_padding)} numbers for a kernel of {axes} axes")
        for extra, stride, dilation in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(stride, dilation):
                raise ValueError(f"output_padding is {extra}, with stride {stride} and dilation {dilation}; give less")

    @model_validator(mode="after")
    def _settings_of_one_neuron(self) -> "PackedLayer":
        if self.strict and self.threshold == "half":
            raise ValueError("a neuron whose threshold is half a step is strict")
        if self.signed and (self.reset, self.threshold, self.largest) != ("subtract", "half", None):
            raise ValueError("a signed input has settings that are for spikes of one sign")
        if self.largest is not None and len(self.largest) != self.time_steps:
            raise ValueError(f"{len(self.largest)} largest codes for {self.time_steps} time steps")
        if (
            self.membrane_bits is not None
            and self.membrane_bits <= q_max(max(self.spike_bits), signed=self.signed).bit_length()
        ):
            raise ValueError(f"membranes of {self.membrane_bits} bits for spikes of {max(self.spike_bits)}")
        for bits, code in zip(self.spike_bits, self.largest or (), strict=False):
            if code > q_max(bits, signed=False):
                raise ValueError(f"a largest code of {code} for spikes of {bits} bits")
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
    def channel_shape(self) -> tuple[int, ...]:
        """Of a tensor ``[outputs]`` beside the layer's sums."""
        return (-1, *[1] * len(self.kernel))

    @property
    def time_steps(self) -> int:
        """T."""
        return len(self.spike_bits)

    @property
    def stored_steps(self) -> int | None:
        """How many step sizes a file holds for the layer; None where it has those of another."""
        if self.steps_of is not None:
            return None
        return 1 if self.one_step else self.time_steps

    @property
    def bins(self) -> list[tuple[int, int]]:
        """The frames of every time step, first … end − 1; none without a time axis."""
        return [] if self.frames is None else bins(self.frames, self.time_steps)

    @property
    def finer(self) -> int:
        """By how many bits the unit of the mean of a bin is finer than the input's, c."""
        return (max((end - first for first, end in self.bins), default=1) - 1).bit_length()

    @property
    def membrane(self) -> MembraneWidth:
        """Width and unit of its membranes, which have a width."""
        assert self.membrane_bits is not None
        return membrane_width(self.membrane_bits, self.spike_bits, signed=self.signed)

    def q_max(self, t: int) -> int:
        """The largest code of a time step's spikes."""
        return q_max(self.spike_bits[t], signed=self.signed) if self.largest is None else self.largest[t]


@dataclass(frozen=True)
class LayerNumbers:
    """The tensors of a layer."""

    levels: npt.NDArray[np.int8]
    """Weight levels, in the weight's shape."""
    multiplier: Integers
    """``[outputs]``."""
    bias: Integers
    """``[outputs]``."""
    steps: Integers
    """``[T]``."""

    @cached_property
    def spike_weights(self) -> list[int]:
        """n_t = S_t / gcd(S): what one level of a spike counts for in the accumulator."""
        steps = self.steps.tolist()
        common = gcd(*steps)
        return [step // common for step in steps]


def exponents(powers: Integers) -> Integers:
    """log2 of powers of two."""
    return np.array([int(power).bit_length() - 1 for power in powers.tolist()], dtype=np.int32)


def are_powers(numbers: Integers) -> bool:
    """Whether all numbers are powers of two, 1 among them."""
    return bool(((numbers > 0) & (numbers & (numbers - 1) == 0)).all())


def max_code_sum(layer: PackedLayer, weights: list[int]) -> int:
    """The most that Σ n_t·code_t can be in one sum: of all time steps, or with frames of one, n_t = ``weights[t]``."""
    steps = [weight * layer.q_max(t) for t, weight in enumerate(weights)]
    return sum(steps) if layer.frames is None else max(steps)


def level_sums(levels: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Σ|level| of every output channel."""
    sums: npt.NDArray[np.int64] = np.abs(levels.reshape(len(levels), -1), dtype=np.int64).sum(1)
    return sums


def accumulator_bound(numbers: LayerNumbers, largest: int) -> int:
    """The most that |A| and every part of its sum can be, in whatever order spikes of ±``largest`` are added up."""
    return int(level_sums(numbers.levels).max()) * largest
