"""A packed network cut into stages, each from a layer's sum to the spikes that the next one reads."""

from dataclasses import dataclass

from bitsearch.deploy.formats.akida.windows import Window
from bitsearch.deploy.integer.operations import (
    AnyOperation,
    AveragePool,
    MaxPool,
    Relu,
    Reshape,
    RunLayer,
    RunNeuron,
    RunSynapses,
    Scale,
)
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.errors import InputError


@dataclass(frozen=True)
class Stage:
    """Indices of operations."""

    weights: int
    """That sums up."""
    between: tuple[int, ...]
    """That turn each current into another, in front of the neuron."""
    pool: int | None
    """Behind the sum; which side of the neuron, is all one to a largest value."""
    neuron: int | None
    """None behind the last layer."""


def name_of(operation: AnyOperation) -> str:
    """The layer that an operation runs, or else its own name."""
    return getattr(operation, "layer", operation.name)


def refused(name: str, reason: str) -> InputError:
    """The error that names what Akida has no layer for."""
    return InputError(f"Akida's first generation has no layer for {name!r}: {reason}")


def stages(packed: PackedNetwork) -> tuple[int, list[Stage]]:
    """(index of the operation that makes spikes of the input, stages in order).

    Raises:
        InputError: a network that is no chain of weights, pooling and neurons; names what is not.
    """
    program = packed.program
    if program.input.frames is not None:
        raise InputError(
            f"the network has a time axis of {program.input.frames} frames, and Akida's first generation keeps no "
            "state between frames; deploy a network of still inputs"
        )
    operations = program.operations
    for index, operation in enumerate(operations):
        if operation.inputs != (index,):
            raise refused(name_of(operation), "it reads something else than what comes before it; only chains can be")
    sums = [index for index, _ in program.runs()]
    neurons = [index for index, operation in enumerate(operations) if isinstance(operation, RunLayer | RunNeuron)]
    if len(neurons) != len(sums):
        raise refused(name_of(operations[neurons[-1]]), "it is a neuron without weights behind it")
    for operation in operations[: neurons[0]]:
        if not isinstance(operation, Reshape):
            raise refused(name_of(operation), "it is in front of the first layer")
    ends = [*neurons[1:], len(operations)]
    made = [_stage(packed, weights, end) for weights, end in zip(sums, ends, strict=True)]
    return neurons[0], made


def _stage(packed: PackedNetwork, weights: int, end: int) -> Stage:
    """Of what lies behind a sum, up to the next neuron and what it sends to its weights."""
    operations = packed.program.operations
    last = end == len(operations)
    between, pools = [], []
    for index in range(weights + 1, end):
        operation = operations[index]
        if isinstance(operation, Relu | Scale) and not last:
            between.append(index)
        elif isinstance(operation, MaxPool) or (isinstance(operation, AveragePool) and _whole(packed, index) and last):
            pools.append(index)
        elif not isinstance(operation, Reshape):
            raise refused(name_of(operation), _reason(operation, last=last))
    for index in range(end + 1, len(operations) if isinstance(_at(operations, end), RunNeuron) else 0):
        operation = operations[index]
        if isinstance(operation, RunSynapses):
            break
        if isinstance(operation, MaxPool):
            pools.append(index)
        elif not isinstance(operation, Reshape):
            raise refused(name_of(operation), "it works on spikes, of which only the largest of a window can be taken")
    if len(pools) > 1:
        raise refused(name_of(operations[pools[1]]), "it pools what has been pooled")
    return Stage(weights, tuple(between), pools[0] if pools else None, None if last else end)


def _at(operations: tuple[AnyOperation, ...], index: int) -> AnyOperation | None:
    return operations[index] if index < len(operations) else None


def _reason(operation: AnyOperation, *, last: bool) -> str:
    if isinstance(operation, AveragePool):
        return "averages are taken over the whole map behind the last layer's weights alone, on no other's activations"
    return "it is behind the last layer, whose sums are the output" if last else "it has no such operation"


def _whole(packed: PackedNetwork, index: int) -> bool:
    """Whether an average is of one window, the whole map."""
    operation, (shape,) = packed.program.operations[index], [packed.analysis.operations[index].inputs[0].shape]
    return isinstance(operation, AveragePool) and operation.kernel == shape[1:] and not any(operation.padding)


def windows(packed: PackedNetwork, stage: Stage) -> list[Window]:
    """Of its convolution and pooling, along every axis."""
    along: list[Window] = []
    operation = packed.program.operations[stage.weights]
    layer = packed.program.layers[operation.layer]  # type: ignore[union-attr]  # a stage's weights are a layer's
    if layer.kernel:
        along += _along(packed, stage.weights, layer.kernel, layer.stride, layer.padding)
    if stage.pool is not None:
        pool = packed.program.operations[stage.pool]
        if isinstance(pool, MaxPool):
            along += _along(packed, stage.pool, pool.kernel, pool.stride, pool.padding)
    return along


def _along(
    packed: PackedNetwork, index: int, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> list[Window]:
    ranges = packed.analysis.operations[index]
    lengths, counts = ranges.inputs[0].shape[1:], ranges.result.shape[1:]
    return [Window(*axis) for axis in zip(lengths, counts, kernel, stride, padding, strict=True)]
