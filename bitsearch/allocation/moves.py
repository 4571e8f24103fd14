"""Single steps from one allocation of a layer to the next, and what each does to the predicted loss."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bitsearch.allocation.loss_model import LossModel
from bitsearch.choices import Choices, Shared
from bitsearch.cost import AllowedBits
from bitsearch.plan import LayerPlan

Kind = str
"""``weight``, ``spike``, ``time`` or ``membrane``: which of a layer's numbers a move changes."""
MEMBRANE_SLOT = -1
"""``latent_index`` of a move of membranes, which have no latent: the last one."""


@dataclass(frozen=True)
class Move:
    """One of a layer's numbers at the next value that its choices allow."""

    kind: Kind
    latent_index: int
    """Which latent the move stands for, in the order of :attr:`QuantizedLayer.latents`."""
    weight_bits: int
    spike_bits: tuple[int, ...]
    membrane: int | None
    """Width of the membranes, where it is chosen: the narrowest at one time step."""
    distance: int
    """By how much the number changes."""

    @property
    def number(self) -> Shared:
        """What the move changes, and layers share: weight bits, spike bits with time steps, or membranes."""
        numbers: Mapping[Kind, Shared] = {"weight": "weight_bits", "membrane": "membrane_bits"}
        return numbers.get(self.kind, "spike_bits")

    def of(self, layer: LayerPlan, choices: Choices) -> LayerPlan:
        """A layer of these choices that makes this move, or is taken along by it."""
        if self.kind == "weight":
            return layer.with_bits(self.weight_bits, layer.spike_bits)
        if self.kind == "membrane":
            return layer.with_membrane(self.membrane)
        membrane = choices.membrane_at(len(self.spike_bits), layer.membrane_bits)
        return layer.with_bits(layer.weight_bits, self.spike_bits).with_membrane(membrane)


def moves(
    weight_bits: int, spike_bits: tuple[int, ...], choices: Choices, direction: int, membrane: int | None = None
) -> Iterator[Move]:
    """Every move of a layer down (−1) or up (+1): of weight bits, time steps, one step's spike bits, or membranes.

    ``membrane`` is the width of these where it is chosen.
    """
    to = choices.weight_bits.neighbour(weight_bits, direction)
    if to is not None:
        yield Move("weight", 0, to, spike_bits, membrane, abs(to - weight_bits))
    steps = len(spike_bits)
    to = choices.time_steps.neighbour(steps, direction)
    if to is not None:
        # Steps go from the end; those that come into use take over the last one's bits.
        spikes = (spike_bits + spike_bits[-1:] * (to - steps))[:to]
        width = None if membrane is None else choices.membrane_at(to, membrane)
        yield Move("time", 1, weight_bits, spikes, width, abs(to - steps))
    for t, bits in enumerate(spike_bits):
        to = choices.spike_bits.neighbour(bits, direction)
        if to is not None:
            spikes = (*spike_bits[:t], to, *spike_bits[t + 1 :])
            yield Move("spike", 2 + t, weight_bits, spikes, membrane, abs(to - bits))
    to = choices.membrane_neighbour(membrane, steps, direction)
    if membrane is not None and to is not None:
        yield Move("membrane", MEMBRANE_SLOT, weight_bits, spike_bits, to, abs(to - membrane))


def plan_after(plan: Mapping[str, LayerPlan], name: str, move: Move, rules: AllowedBits) -> dict[str, LayerPlan]:
    """The plan after a layer's move, which takes along the layers that share the number with it."""
    moved = rules.sharing(name, move.number)
    return {**plan, **{other: move.of(plan[other], rules.choices[other]) for other in moved}}


def loss_change(
    loss: LossModel,
    name: str,
    weight_bits: int,
    spike_bits: tuple[int, ...],
    move: Move,
    membrane: int | None = None,
) -> float:
    """Predicted loss after the move minus that before it."""
    if move.kind == "weight":
        return loss.weight_loss(name, move.weight_bits) - loss.weight_loss(name, weight_bits)
    return loss.spike_loss(name, move.spike_bits, move.membrane) - loss.spike_loss(name, spike_bits, membrane)
