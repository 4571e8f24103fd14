"""At which sums of a layer the codes of the neuron behind it begin: everything between the two, as whole numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitsearch.deploy.integer.layer_tensors import LayerTensors
from bitsearch.deploy.integer.operations import Relu, Scale
from bitsearch.deploy.integer.operations.layer_neuron import integer_spikes
from bitsearch.deploy.integer.operations.operation import IntegerEvaluation
from bitsearch.deploy.integer.packed_file import PackedNetwork


@dataclass(frozen=True)
class SumThresholds:
    """A neuron of one time step as comparisons: its code is the number of k with ``signs``·A ≥ ``levels``[k]."""

    signs: Tensor
    """``[outputs]``, −1 where a negative multiplier makes codes fall as sums rise, else 1."""
    levels: Tensor
    """``[q_max, outputs]``, rising, int64: −``bound`` where the code is always reached, ``bound`` + 1 where never."""
    bound: int
    """The most that |A| can be."""


def sum_thresholds(packed: PackedNetwork, weights: int, between: Sequence[int], neuron: int) -> SumThresholds:
    """Found by bisection in what the operations make of a sum, which rises with it.

    Largest and smallest sums of windows pass through all of it, so that max pooling may lie anywhere between.

    Args:
        packed: the network.
        weights: index of the operation that sums up, with weights of one time step and no frames.
        between: those behind it that turn each current into another, in order: ``relu`` and ``scale``.
        neuron: the one whose neuron reads them, without frames, with one time step and codes above zero.
    """
    program, analysis = packed.program, packed.analysis
    run, ranges = program.operations[weights], analysis.operations[weights]
    sender = program.operations[neuron]
    widths, sender_ranges = ranges.widths, analysis.operations[neuron]
    assert widths is not None
    assert sender_ranges.widths is not None
    layer, numbers = program.layers[run.layer], packed.numbers[run.layer]  # type: ignore[union-attr]  # the caller's
    receiver = sender.layer  # type: ignore[union-attr]  # as the caller says of both
    bound = widths.accumulator or 0
    signs = torch.from_numpy(numbers.multiplier).sign().long()
    signs[signs == 0] = 1
    tensors = LayerTensors(layer, numbers, bound)

    def codes(sums: Tensor) -> Tensor:
        shaped = (sums * signs).view(len(sums), *layer.channel_shape[1:], layer.outputs)
        current = tensors.affine(shaped.movedim(-1, 1) if layer.kernel else shaped, ranges.dtype)
        for index in between:
            operation = program.operations[index]
            assert isinstance(operation, Relu | Scale)
            evaluation = IntegerEvaluation(analysis.operations[index], _unobserved, {})
            current = operation.integers([current], evaluation)
        sent = integer_spikes(
            program.layers[receiver],
            packed.numbers[receiver],
            torch.int32,
            current,
            sender_ranges.inputs[0],
            sender_ranges.widths,  # type: ignore[arg-type]  # asserted above
            _unobserved,
        )
        return sent.view(len(sums), layer.outputs)

    k = torch.arange(1, program.layers[receiver].q_max(0) + 1)[:, None]
    low = torch.full((len(k), layer.outputs), -bound)
    high = torch.full_like(low, bound + 1)
    while bool((low < high).any()):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        # Where both have met above all sums there is nothing to ask.
        reached = (codes(middle.clamp_max(bound)) >= k) & (middle <= bound)
        high = torch.where(reached, middle, high)
        low = torch.where(reached | (low >= high), low, middle + 1)
    return SumThresholds(signs, low, bound)


def _unobserved(quantity: str, step: int, integers: Tensor) -> None:
    """Nobody looks at sums that are only tried."""
