"""What a layer may get, as the columns of an integer program, and the rows by which layers share numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse import csr_array

from bitsearch.allocation.loss_model import LossModel, layer_loss
from bitsearch.allocation.moves import Kind
from bitsearch.choices import Number
from bitsearch.cost import AllowedBits

_SHARED: tuple[Number, ...] = ("weight_bits", "spike_bits")


@dataclass(frozen=True)
class Option:
    """One choice of all three numbers of a layer, its spike bits alike in all steps."""

    weight_bits: int
    spike_bits: int
    time_steps: int
    loss: float

    def shared(self, number: Number) -> tuple[int, ...]:
        """What layers that share ``number`` have in common: time steps go with spike bits."""
        return (self.weight_bits,) if number == "weight_bits" else (self.spike_bits, self.time_steps)


def options_of(name: str, rules: AllowedBits, loss: LossModel, prices: Mapping[Kind, float]) -> Iterator[Option]:
    """Everything that a layer may get, with the loss that it adds; none where nothing is searched."""
    choices = rules.choices[name]
    searched = name in rules.searched
    for w, s, t in product(choices.weight_bits.values, choices.spike_bits.values, choices.time_steps.values):
        added = layer_loss(loss, name, w, (s,) * t, prices) if searched else 0.0
        yield Option(w, s, t, added)


def shared_part(name: str, option: Option, rules: AllowedBits) -> tuple[tuple[int, ...], ...]:
    """Of an option, what other layers have to have as well; empty for a layer that shares nothing."""
    return tuple(option.shared(number) for number in _SHARED if len(rules.sharing(name, number)) > 1)


def sharing_rows(names: Sequence[str], columns: Sequence[tuple[int, Option]], rules: AllowedBits) -> csr_array | None:
    """``[rows, columns]``, zero times the chosen columns where layers that share a number have the same.

    For every value of it, as many options are chosen of one layer as of the first that shares it. None where no layers
    share any.
    """
    rows = []
    for number in _SHARED:
        values = [option.shared(number) for _, option in columns]
        for index, name in enumerate(names):
            first = names.index(rules.sharing(name, number)[0])
            signs = [(layer == first) - (layer == index) for layer, _ in columns]
            shared_values = dict.fromkeys(value for value, sign in zip(values, signs, strict=True) if sign)
            rows += [
                [sign * (other == value) for sign, other in zip(signs, values, strict=True)] for value in shared_values
            ]
    return csr_array(np.array(rows, dtype=np.float64)) if rows else None
