"""Packing: a trained quantized network lowered to integers, observed on a batch, and written as a packed file."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from bitsearch.cost import Target
from bitsearch.data.splits import Splits
from bitsearch.deploy.integer.bounds import signed_bits
from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.integer.operations import AnyOperation, RunLayer, RunNeuron
from bitsearch.deploy.integer.packed_file import FORMAT_VERSION, PREFIX, WIDTHS, RunWidths, checksum, stored_tensors
from bitsearch.deploy.integer.program import Program
from bitsearch.deploy.integer.ranges import Analysis
from bitsearch.deploy.integer.source import Source
from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.layers import quantized_layers
from bitsearch.layers.weights import bare, weights_checksum
from bitsearch.network_inputs import Inputs, single_input
from bitsearch.plan import BitPlan


@torch.no_grad()
def pack(
    network: nn.Module,
    example_input: Inputs,
    path: str | os.PathLike[str],
    plan: BitPlan | None = None,
    splits: Splits | None = None,
    target: Target | None = None,
) -> int:
    """Write a trained quantized network to ``path``.

    Args:
        network: from :func:`bitsearch.apply`, with weights loaded; or from :func:`bitsearch.quantize`, projected.
        example_input: a batch ``[N, ...]`` or ``[F, N, ...]``, N > 1, to trace the network and to observe widths with.
        path: file to write, whole or not at all.
        plan: kept in the file, so that :func:`bitsearch.verify` finds the network again.
        splits: the data, whose class names and scaling of inputs are written into the file.
        target: hardware whose accumulators are to be wide enough.

    Returns:
        The bytes of its tensors, header not included.

    Raises:
        InputError: as :func:`bitsearch.deploy.lower.lowering.lower`, sums that are too wide for the target, or a file
            that cannot be written.

    >>> network, task = bitsearch.rebuild(Path("run/plan.json"))
    >>> size = bitsearch.pack(network, task.examples, "network.packed")
    >>> size == bitsearch.BitPlan.load("run/plan.json").costs["weight_memory"]
    True
    """
    example_input = single_input(example_input, "a packed file")
    network = bare(network)
    moving = [name for name, layer in quantized_layers(network).items() if layer.is_learnable]
    if moving:
        raise InputError(f"the bits of layer {moving[0]!r} may still move; call project() before the network is packed")
    lowered = lower(network, example_input)
    tensors: dict[str, Tensor] = {}
    for name, layer in lowered.program.layers.items():
        tensors |= stored_tensors(name, layer, lowered.numbers[name])
    maxima = MinMaxObserver()
    Replay(lowered.program, lowered.numbers, lowered.analysis)(example_input.cpu(), maxima)
    widths = _widths(lowered.program, lowered.analysis, maxima)
    if target is not None and target.accumulator_bits is not None:
        _check_accumulators(widths, target.accumulator_bits, target.name)
    if target is not None:
        _warn_of_membranes(widths, lowered.program, target)
    parts = {
        "program": lowered.program.model_dump_json(exclude_none=True),
        "widths": WIDTHS.dump_json(widths, exclude_none=True).decode(),
        "plan": "" if plan is None else plan.model_dump_json(exclude_none=True),
    }
    parts["source"] = _source(network, splits).model_dump_json(exclude_none=True)
    header = {"format": str(FORMAT_VERSION), **parts, "sha256": checksum(parts, tensors)}
    write_whole(Path(path), save(tensors, {PREFIX + key: value for key, value in header.items()}))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _warn_of_membranes(widths: Mapping[str, RunWidths], program: Program, target: Target) -> None:
    """Say which membranes without a width may be wider than the target's; u takes a bit less than what is formed."""
    wide = {
        run.name: widths[run.name].membrane or 0
        for run in program.operations
        if isinstance(run, RunLayer | RunNeuron) and program.layers[run.layer].membrane_bits is None
    }
    name = max(wide, key=lambda run: wide[run], default="")
    if target.plan_membrane_bits is not None and wide and wide[name] - 1 > target.plan_membrane_bits:
        warnings.warn(
            f"the membranes of layer {name!r} may take {wide[name] - 1} bits, and those of the hardware target "
            f"{target.name!r} have {target.plan_membrane_bits}; plans that are trained for it keep to them",
            stacklevel=3,
        )


def _membrane_bits(operation: AnyOperation, program: Program, bound: int) -> int | None:
    if not operation.spiking:
        return None
    width = program.layers[operation.layer].membrane_bits if isinstance(operation, RunLayer | RunNeuron) else None
    return signed_bits(-bound, bound) if width is None else width


def _check_accumulators(widths: Mapping[str, RunWidths], most: int, target: str) -> None:
    name, widest = max(((name, run.accumulator or 0) for name, run in widths.items()), key=lambda item: item[1])
    if widest > most:
        raise InputError(
            f"layer {name!r} adds up to integers of {widest} bits, and the hardware target {target!r} has accumulators "
            f"of {most}; search with fewer bits, or with allocation.quantizer.spike_granularity = 'layer', which makes "
            "sums over several time steps narrower"
        )


def _source(network: nn.Module, splits: Splits | None) -> Source:
    weights = weights_checksum(network)
    if splits is None:
        return Source(weights=weights)
    return Source(weights=weights, classes=splits.class_names, mean=splits.mean, deviation=splits.deviation)


class MinMaxObserver:
    """An observer of a replay: the least and the largest integers that were seen."""

    def __init__(self) -> None:
        self._extremes: dict[tuple[str, str], tuple[int, int]] = {}

    def __call__(self, operation: str, quantity: str, step: int, integers: Tensor) -> None:
        """Take note of a tensor."""
        if integers.numel():
            low, high = self._extremes.get((operation, quantity), (0, 0))
            least, most = torch.aminmax(integers)
            self._extremes[operation, quantity] = (min(low, int(least)), max(high, int(most)))

    def bits(self, operation: str, quantity: str) -> int:
        """Width of a signed integer that would have held them."""
        return signed_bits(*self._extremes.get((operation, quantity), (0, 0)))


def _widths(program: Program, analysis: Analysis, maxima: MinMaxObserver) -> dict[str, RunWidths]:
    widths = {}
    for operation, ranges in zip(program.operations, analysis.operations, strict=True):
        bound, name = ranges.widths, operation.name
        if bound is None:
            continue
        summed = bound.accumulator is not None
        widths[name] = RunWidths(
            accumulator=signed_bits(-bound.accumulator, bound.accumulator) if bound.accumulator is not None else None,
            membrane=_membrane_bits(operation, program, bound.membrane),
            output=ranges.result.bits,
            observed_accumulator=maxima.bits(name, "accumulator") if summed else None,
            observed_membrane=maxima.bits(name, "membrane") if operation.spiking else None,
        )
    return widths
