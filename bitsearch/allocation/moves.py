"""Single steps from one allocation of a layer to the next, and what each does to the predicted loss."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bitsearch.allocation.loss_model import LossModel
from bitsearch.choices import Choices, Number
from bitsearch.cost import AllowedBits
from bitsearch.plan import LayerPlan

Kind = str
"""``weight``, ``spike`` or ``time``: which of a layer's three numbers a move changes."""


@dataclass(frozen=True)
class Move:
    """One of a layer's three numbers at the next value that its choices allow."""

    kind: Kind
    latent_index: int
    """Which latent the move stands for, in the order of :attr:`QuantizedLayer.latents`."""
    weight_bits: int
    spike_bits: tuple[int, ...]
    distance: int
    """By how much the number changes."""

    @property
    def number(self) -> Number:
        """What the move changes, and layers share: the weight bits, or the spike bits with the time steps."""
        return "weight_bits" if self.kind == "weight" else "spike_bits"

    def of(self, layer: LayerPlan) -> LayerPlan:
        """A layer that makes this move, or is taken along by it."""
        if self.kind == "weight":
            return layer.with_bits(self.weight_bits, layer.spike_bits)
        return layer.with_bits(layer.weight_bits, self.spike_bits)


def moves(weight_bits: int, spike_bits: tuple[int, ...], choices: Choices, direction: int) -> Iterator[Move]:
    """Every move of a layer down (−1) or up (+1): of its weight bits, its time steps, or one step's spike bits."""
    to = choices.weight_bits.neighbour(weight_bits, direction)
    if to is not None:
        yield Move("weight", 0, to, spike_bits, abs(to - weight_bits))
    steps = len(spike_bits)
    to = choices.time_steps.neighbour(steps, direction)
    if to is not None:
        # Steps go from the end; those that come into use take over the last one's bits.
        yield Move("time", 1, weight_bits, (spike_bits + spike_bits[-1:] * (to - steps))[:to], abs(to - steps))
    for t, bits in enumerate(spike_bits):
        to = choices.spike_bits.neighbour(bits, direction)
        if to is not None:
            yield Move("spike", 2 + t, weight_bits, (*spike_bits[:t], to, *spike_bits[t + 1 :]), abs(to - bits))


def plan_after(plan: Mapping[str, LayerPlan], name: str, move: Move, rules: AllowedBits) -> dict[str, LayerPlan]:
    """The plan after a layer's move, which takes along the layers that share the number with it."""
    return {**plan, **{other: move.of(plan[other]) for other in rules.sharing(name, move.number)}}


def loss_change(loss: LossModel, name: str, weight_bits: int, spike_bits: tuple[int, ...], move: Move) -> float:
    """Predicted loss after the move minus that before it."""
    if move.kind == "weight":
        return loss.weight_loss(name, move.weight_bits) - loss.weight_loss(name, weight_bits)
    return loss.spike_loss(name, move.spike_bits) - loss.spike_loss(name, spike_bits)
