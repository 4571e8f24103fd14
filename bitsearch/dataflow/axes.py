"""Which axis of a tensor is time, batch or token: told by running a network again on inputs that differ in one respect.

Of one sample less, the axis that holds the samples gets shorter; of one frame less, the one that holds time. Where an
axis holds more than one of them, folded, what a single changed sample changes tells in which order.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn

from bitsearch.network_inputs import Inputs, axis_length, is_dense, map_inputs, narrowed, tensors_of


@dataclass(frozen=True)
class Input:
    """What is kept of a call's input: its shape, and a number for every pair of indices along its first two axes."""

    module: nn.Module | None
    shape: tuple[int, ...]
    numbers: Tensor | None
    """``[A, B]``, or ``[A]`` of a vector: equal where all values behind the indices are; float64."""
    multi_step: bool
    """True if the module works on sequences, ``[T, N, ...]``."""

    @classmethod
    def of(cls, module: nn.Module | None, x: Tensor | None, *, multi_step: bool) -> "Input":
        """Of a call's first tensor; None if it has none, as a nested or sparse one has no axes to tell apart."""
        x = x if x is not None and is_dense(x) and not x.is_quantized else None
        if x is None or not x.dim() or not x.numel():
            return cls(module, () if x is None else tuple(x.shape), None, multi_step)
        values = x.detach().reshape(*x.shape[:2], -1).double()
        # So that the same values in another order give another number.
        weights = torch.arange(1, values.shape[-1] + 1, dtype=torch.float64, device=x.device).sin()
        return cls(module, tuple(x.shape), (values * weights).sum(-1), multi_step)


@dataclass(frozen=True)
class Axes:
    """What the axes of a call's input are."""

    frames: int | None
    """T if it has a time axis, ``[T, N, ...]`` or folded, ``[T·N·…, ...]``; None without one.

    A single frame is no time axis: it is as good as a static input.
    """
    samples: int
    """Inputs, times frames, that it holds; 1 if it does not depend on the batch."""
    is_static: bool
    """True if it has a time axis on which nothing changes."""
    same_as_before: bool
    """True if it is equal, value by value, to the input of the module's call before, and not zero everywhere."""
    is_zero: bool
    """True if all of it is zero."""
    mixes_samples: bool
    """True if a value changes with a sample that is not its own."""


Run = Callable[[Inputs], list[Input]]
"""Runs the network on an example and gives every call's input, in the order of the calls; or RunFailedError."""


class RunFailedError(Exception):
    """A run has ended in the error that it is raised from, while a module, by its path, was running."""

    def __init__(self, module: str, cause: Exception) -> None:
        super().__init__(str(cause))
        self.module, self.cause = module, cause


def find_axes(run: Run, example_input: Inputs, *, time_axis: bool) -> tuple[list[Axes], set[nn.Module]]:
    """(axes of every call's input, modules whose calls depend on the data).

    The example is ``[N, ...]`` or, with ``time_axis``, ``[T, N, ...]``.

    That modules in multi-step mode take the example for a sequence is seen without being told.
    The network runs three times, four with a time axis. A run that fails on an input of another size tells nothing;
    what it would have told is then taken from the sizes, and a warning says so.
    """
    example_input = map_inputs(_varied, example_input)
    try:
        inputs = run(example_input)
    except RunFailedError as failure:
        raise failure.cause from None
    time_axis = time_axis or _is_sequence(run, example_input, inputs)
    batch_axis = 1 if time_axis else 0
    batch = axis_length(example_input, batch_axis)
    # Which samples they are is of no matter for the sizes; others may show what depends on the data.
    length = axis_length(example_input, 0)
    fewer = _attempt(run, *_resized(map_inputs(lambda x: _mirrored(x, x), example_input), batch_axis, "sample"))
    shorter = _attempt(run, *_resized(example_input, 0, "frame")) if time_axis and length > 1 else None
    changed = _attempt(run, _with_changed_sample(example_input, batch_axis), "another first sample")
    sequences = {call.shape[:2] for call in inputs if call.multi_step and len(call.shape) > 1}
    if time_axis:
        sequences.add((length, batch))
    frames = length if time_axis else None
    find, find_without = _Finder(batch, frames, sequences), _Finder(batch, frames, set())
    before: dict[nn.Module | None, Input] = {}
    axes = []
    # A time axis that the network makes itself is there from the first module on that works on sequences; in front of
    # that, what was repeated has one too.
    begin = 0 if time_axis else next((index for index, call in enumerate(inputs) if call.multi_step), len(inputs))
    for index, (call, less, short, other) in enumerate(
        zip_longest(inputs, fewer or (), shorter or (), changed or (), fillvalue=None)
    ):
        if call is None:
            break
        again = _same_call(call, less), _same_call(call, short), _same_call(call, other)
        layout = find.axes(call, *again, before)
        if index < begin and not layout.is_static:
            layout = find_without.axes(call, *again, before)
        axes.append(layout)
        before[call.module] = call
    return axes, _varying(inputs, fewer, changed)


def _varying(inputs: list[Input], fewer: list[Input] | None, changed: list[Input] | None) -> set[nn.Module]:
    """Modules that ran more or less often for other samples, or, for as many samples, on more or less."""
    counts = Counter(call.module for call in inputs)
    varying: set[nn.Module] = set()
    for other in (fewer, changed):
        if other is not None:
            difference = Counter(call.module for call in other)
            varying.update(m for m in counts | difference if m is not None and counts[m] != difference[m])
    for one, another in zip(inputs, changed or (), strict=False):
        if one.module is None or one.module is not another.module:
            break
        if one.shape != another.shape:
            varying.add(one.module)
    return varying


def _varied(x: Tensor) -> Tensor:
    """The example itself; of one that is the same everywhere, on which no axis shows, one that is not."""
    if not x.is_floating_point() or x.min() < x.max():
        return x
    return x + torch.arange(x.numel(), dtype=x.dtype, device=x.device).sin().reshape(x.shape)


def _is_sequence(run: Run, example_input: Inputs, inputs: list[Input]) -> bool:
    """True if the first module that works on sequences takes the example for one: its second axis holds the samples."""
    first = next((call for call in inputs if call.multi_step), None)
    tensors = tensors_of(example_input)
    steps, samples = (*tensors[0].shape, 0, 0)[:2]
    axes = {x.dim() for x in tensors if x.shape[:2] == (steps, samples)}
    if first is None or len(first.shape) not in axes or first.shape[:2] != (steps, samples):
        return False
    if any(_equal(first.numbers, Input.of(None, x, multi_step=False).numbers) for x in tensors):
        return True
    if len({x.shape[1:2] for x in tensors}) > 1:
        # They have no second axis in common that could hold the samples.
        return False
    fewer = _silently(run, _resized(example_input, 1, "sample")[0]) if samples > 1 else None
    first = next((call for call in fewer or () if call.multi_step), None)
    return first is not None and first.shape[:2] == (steps, samples - 1)


def _attempt(run: Run, example_input: Inputs, difference: str) -> list[Input] | None:
    try:
        return run(example_input)
    except RunFailedError as failure:  # a network may insist on a size
        place = f"its module {failure.module!r}" if failure.module else "it"
        reason = (str(failure).splitlines() or [type(failure.cause).__name__])[0]
        warnings.warn(
            f"the network does not run with {difference}: {place} fails ({reason}); what its axes hold is taken from "
            "their sizes",
            stacklevel=2,
        )
        return None


def _silently(run: Run, example_input: Inputs) -> list[Input] | None:
    """A run on what may be a wrong guess."""
    try:
        return run(example_input)
    except RunFailedError:
        return None


def _resized(inputs: Inputs, axis: int, content: str) -> tuple[Inputs, str]:
    """(one less along the axis, or one more of a single one; what that is, in words)."""
    size = axis_length(inputs, axis)
    if size > 1:
        return narrowed(inputs, axis, 0, size - 1), f"one {content} less"
    return map_inputs(lambda x: torch.cat([x, x], axis), inputs), f"one {content} more"


def _with_changed_sample(inputs: Inputs, axis: int) -> Inputs:
    """The example with its first sample mirrored, or one of tokens, classes or a mask made another one."""

    def change(x: Tensor) -> Tensor:
        first, *others = x.unbind(axis)
        changed = x.clone()
        if x.is_floating_point():
            another = _mirrored(first, x)
        else:
            # What the network takes for sure: a mirrored mask may hide all there is.
            another = next((y for y in others if not torch.equal(y, first)), (first == 0).to(x.dtype))
        changed.select(axis, 0).copy_(another)
        return changed

    return map_inputs(change, inputs)


def _mirrored(x: Tensor, whole: Tensor) -> Tensor:
    """Every value mirrored between the least and the largest one of all; tokens, classes and masks as they are."""
    return whole.max() + whole.min() - x if x.is_floating_point() else x


def _same_call(call: Input, again: Input | None) -> Input | None:
    return again if again is not None and again.module is call.module and len(again.shape) == len(call.shape) else None


@dataclass(frozen=True)
class _Finder:
    batch: int
    frames: int | None
    """Of the example, if it has a time axis."""
    sequences: set[tuple[int, ...]]
    """(T, N) of the example's time axis, or that modules in multi-step mode saw."""

    def axes(
        self,
        call: Input,
        fewer: Input | None,
        shorter: Input | None,
        changed: Input | None,
        before: dict[nn.Module | None, Input],
    ) -> Axes:
        """Of one call, seen in all runs."""
        frames, samples, owners = self._layout(call, fewer, shorter, changed)
        previous = before.get(call.module)
        return Axes(
            frames=frames,
            samples=samples,
            is_static=frames is not None and _is_static(call.numbers, frames),
            same_as_before=previous is not None and _equal(previous.numbers, call.numbers, silent=False),
            is_zero=call.numbers is not None and not bool(call.numbers.any()),
            mixes_samples=owners is not None and _reaches_others(call, changed, owners),
        )

    def _layout(
        self, call: Input, fewer: Input | None, shorter: Input | None, changed: Input | None
    ) -> tuple[int | None, int, Tensor | None]:
        """(frames, samples times frames, which sample every index along the first two axes belongs to)."""
        if fewer is None:
            return self._from_sizes(call.shape)
        grown = [axis for axis, sizes in enumerate(zip(call.shape, fewer.shape, strict=True)) if sizes[0] != sizes[1]]
        if not grown:
            return None, 1, None
        axis, size = grown[0], call.shape[grown[0]]
        if len(grown) > 1 or axis > 1 or size % self.batch:
            return self._from_sizes(call.shape)
        folds = size // self.batch
        if axis == 1 and folds == 1:
            frames = self._time(call.shape[0], shorter)
            samples = self.batch * (frames or 1)
            return frames, samples, torch.arange(self.batch).expand(call.shape[0], -1)
        if axis == 1:
            return None, self.batch, None
        for frames, owners in self._folds(folds, call, shorter):
            if not _reaches_others(call, changed, owners):
                return frames, self.batch * (frames or 1), owners
        return None, self.batch, owners

    def _time(self, size: int, shorter: Input | None) -> int | None:
        """Whether an axis of ``size`` in front of the samples is time."""
        if size == 1:
            return None
        if self.frames is not None and shorter is not None:
            return size if shorter.shape[0] != size else None
        return size if (size, self.batch) in self.sequences else None

    def _folds(self, folds: int, call: Input, shorter: Input | None) -> Iterator[tuple[int | None, Tensor]]:
        """(frames, whose sample every index is) for an axis of folds·N, the likeliest first."""
        # [T·N·P], then [P·N] and [N·P].
        lengths = {steps for steps, _ in self.sequences if steps > 1 and folds % steps == 0}
        if self.frames is not None and shorter is not None and call.shape[0] == shorter.shape[0]:
            # Tokens stay when a frame goes.
            lengths.clear()
        indices = torch.arange(folds * self.batch)
        for frames in sorted(lengths, reverse=True):
            yield frames, (indices // (folds // frames)) % self.batch
        yield None, indices % self.batch
        yield None, indices // folds

    def _from_sizes(self, shape: tuple[int, ...]) -> tuple[int | None, int, Tensor | None]:
        """What the sizes alone tell, where the network runs with one batch size only."""
        for steps, batch in sorted(self.sequences):
            if steps > 1 and (shape[:2] == (steps, batch) or (shape[:1] and shape[0] % (steps * batch) == 0)):
                return steps, steps * batch, None
        for batch in {batch for _, batch in self.sequences} or {self.batch}:
            if batch in shape[:2] or (shape[:1] and shape[0] % batch == 0):
                return None, batch, None
        return None, 1, None


def _is_static(numbers: Tensor | None, frames: int) -> bool:
    if numbers is None or numbers.shape[0] % frames:
        return False
    sequence = numbers.reshape(frames, -1)
    return _equal(sequence, sequence[:1].expand_as(sequence))


def _equal(one: Tensor | None, other: Tensor | None, *, silent: bool = True) -> bool:
    """True if all numbers are; of zeros alone, only if ``silent`` ones count."""
    if one is None or other is None or one.shape != other.shape or not (silent or one.any()):
        return False
    return torch.allclose(one, other, rtol=1e-9, atol=1e-12 * max(float(one.abs().max()), 1e-300), equal_nan=True)


def _reaches_others(call: Input, changed: Input | None, owners: Tensor) -> bool:
    """True if the change of the first sample changed anything that belongs to another one."""
    if changed is None or call.numbers is None or changed.numbers is None or call.shape != changed.shape:
        return False
    numbers, changed_numbers = call.numbers, changed.numbers
    size = float(numbers.abs().max())
    if not math.isfinite(size):
        return False
    differs = (numbers - changed_numbers).abs() > 1e-4 * size
    while differs.dim() > owners.dim():
        differs = differs.any(-1)
    return bool(differs[owners != 0].any())
