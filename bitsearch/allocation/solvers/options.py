"""What a layer may get, as the columns of an integer program, and the rows by which layers share numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bitsearch.allocation.solvers.move_costs import Numbers
from bitsearch.choices import Choices, Shared
from bitsearch.cost import AllowedBits
from bitsearch.plan import LayerPlan

SHARED: tuple[Shared, ...] = ("weight_bits", "spike_bits", "membrane_bits")
"""What layers may have in common; time steps go with spike bits."""
UNCHOSEN = 0
"""Stands for the width of membranes where it is not chosen."""
ROUNDING = 1e-12
"""Relative; what two numbers add together may differ so much from the sum of what each adds."""


@dataclass(frozen=True)
class Option:
    """One choice of a layer: of all numbers, or of its weights or its spikes alone, which are None otherwise."""

    weight_bits: int | None
    spikes: tuple[int, int, int] | None
    """(spike bits, alike in all steps; time steps; width of the membranes, :data:`UNCHOSEN` where that is no choice).
    """

    def shared(self, number: Shared) -> int | tuple[int, int] | None:
        """What layers that share ``number`` have in common: time steps go with spike bits."""
        if number == "weight_bits":
            return self.weight_bits
        if self.spikes is None:
            return None
        return self.spikes[2] or None if number == "membrane_bits" else self.spikes[:2]

    def of(self, layer: LayerPlan) -> LayerPlan:
        """A layer that takes it."""
        weight_bits = layer.weight_bits if self.weight_bits is None else self.weight_bits
        if self.spikes is None:
            return layer.with_bits(weight_bits, layer.spike_bits)
        spike_bits, time_steps, membrane = self.spikes
        return layer.with_bits(weight_bits, (spike_bits,) * time_steps).with_membrane(membrane or None)


@dataclass(frozen=True)
class Choice:
    """Of its options, exactly one is taken.

    Args:
        layer: its place.
        options: of the layer.
        costs: ``[rows + 1, options]``, what each adds to every row of the program, and to the loss.
    """

    layer: int
    options: list[Option]
    costs: Numbers

    def without(self, taken: NDArray[np.bool_]) -> "Choice":
        """With the options alone that are True."""
        options = [option for option, keep in zip(self.options, taken, strict=True) if keep]
        return Choice(self.layer, options, self.costs[:, taken])

    def undominated(self, numbers: Sequence[Shared]) -> "Choice":
        """Without the options that another with the same values of ``numbers`` beats in the loss and every row."""
        best: dict[object, list[int]] = {}
        for o in np.lexsort(self.costs).tolist():
            rivals = best.setdefault(tuple(self.options[o].shared(number) for number in numbers), [])
            if not rivals or not (self.costs[:, rivals] <= self.costs[:, o, None]).all(0).any():
                rivals.append(o)
        kept = sorted(o for rivals in best.values() for o in rivals)
        return self.without(np.isin(np.arange(len(self.options)), kept))


def bits_of(choices: Choices) -> Numbers:
    """``[4, weight bits, spikes]``: weight bits, spike bits, time steps and widths of all that a layer may get.

    A width is that of membranes where it is chosen, and :data:`UNCHOSEN` elsewhere.
    """
    spikes = [
        (s, t, m)
        for s, t in product(choices.spike_bits.values, choices.time_steps.values)
        for m in (choices.membranes_at(t) if choices.chooses_membranes else (UNCHOSEN,))
    ]
    return np.array([[(w, *each) for each in spikes] for w in choices.weight_bits.values], np.float64).transpose(
        2, 0, 1
    )


def choices_of(layer: int, bits: Numbers, costs: Numbers, fits: NDArray[np.bool_]) -> list[Choice]:
    """What is to be chosen of a layer: its weight bits and its spikes, each by itself where no row binds them together.

    Args:
        layer: its place.
        bits: as of :func:`bits_of`.
        costs: ``[rows + 1, weight bits, spikes]``.
        fits: ``[weight bits, spikes]``, False for what may not be taken.
    """
    weights = [int(w) for w in bits[0, :, 0]]
    spikes = [(int(s), int(t), int(m)) for s, t, m in bits[1:, 0].T]
    by_weights, by_spikes = costs[:, :, :1], costs[:, :1] - costs[:, :1, :1]
    near = ROUNDING * np.abs(costs).max((1, 2), keepdims=True)
    independent = (np.abs(by_weights + by_spikes - costs) <= near).all()
    fitting = np.asarray(fits.any(1)), np.asarray(fits.any(0))
    if min(fits.shape) == 1 or not independent or (fits != np.logical_and.outer(*fitting)).any():
        options = [Option(w, spike) for w, spike in product(weights, spikes)]
        return [Choice(layer, options, costs.reshape(len(costs), -1)).without(fits.ravel())]
    return [
        Choice(layer, [Option(w, None) for w in weights], by_weights[:, :, 0]).without(fitting[0]),
        Choice(layer, [Option(None, spike) for spike in spikes], by_spikes[:, 0]).without(fitting[1]),
    ]


def sharing_rows(names: Sequence[str], columns: Sequence[tuple[int, Option]], rules: AllowedBits) -> csr_array | None:
    """``[rows, columns]``, zero times the chosen columns where layers that share a number have the same.

    For every value of it, as many options are chosen of one layer as of the first that shares it. None where no layers
    share any.
    """
    rows = []
    for number in SHARED:
        values = [option.shared(number) for _, option in columns]
        for index, name in enumerate(names):
            first = names.index(rules.sharing(name, number)[0])
            signs = [
                0 if value is None else (layer == first) - (layer == index)
                for (layer, _), value in zip(columns, values, strict=True)
            ]
            shared_values = dict.fromkeys(value for value, sign in zip(values, signs, strict=True) if sign)
            rows += [
                [sign * (other == value) for sign, other in zip(signs, values, strict=True)] for value in shared_values
            ]
    return csr_array(np.array(rows, dtype=np.float64)) if rows else None
