"""Greedy search from a plan: down until every budget is met, up while something is left, and by exchanges."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitsearch.allocation.loss_model import LossModel, loss_prices
from bitsearch.allocation.moves import Kind, Move, loss_change, moves
from bitsearch.allocation.solvers.move_costs import Group, Numbers, costs_after
from bitsearch.choices import Shared
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.cost.metric import Bits
from bitsearch.plan import LayerPlan

NEAR_BEST = 0.5
"""Moves of several layers are made at once if their scores are at least this share of the best one's."""
MAX_PAIRED_MOVES = 24
"""So many moves down, those that cost least, are tried in an exchange with every move up of another layer."""
MIN_RELATIVE_GAIN = 1e-6
"""An exchange lowers the loss by at least this share of what it takes away: less is rounding."""
_WEIGHTS, _SPIKES, _MEMBRANES = slice(0, 1), slice(1, -1), slice(-1, None)
"""Slots of the moves of weight bits, of spike bits and time steps, and of membranes."""
_ROWS: tuple[tuple[Shared, slice], ...] = (
    ("weight_bits", _WEIGHTS),
    ("spike_bits", _SPIKES),
    ("membrane_bits", _MEMBRANES),
)


@dataclass(frozen=True)
class Exchange:
    """A move up of one layer's number, and the move down of another layer's that pays for it, if one has to."""

    change: float
    """Predicted loss after it minus that before it."""
    lost: float
    """What the move down adds to the predicted loss."""
    moves: tuple[tuple[int, Move], ...]
    """(index of the layer, or of the first of those that share the number, its move), the one down first."""


class GreedySearch:
    """The plan so far, every move from there, and what both cost.

    A move takes along all layers that share the number which it changes; it is listed at the first of them.

    Args:
        plan: where it begins; values that the rules do not allow go to the nearest that they do, and layers that share
            a number get that of the first.
        model: costs.
        budgets: the limits.
        rules: what each layer may get.
        loss: predicts what a move does to the accuracy.
        prices: regularizer weights of ``weight``, ``spike`` and ``time``.
        activity: spike counts, for budgets on metrics that need them.
    """

    def __init__(
        self,
        plan: Mapping[str, LayerPlan],
        model: CostModel,
        budgets: Sequence[Budget],
        rules: AllowedBits,
        loss: LossModel,
        prices: Mapping[Kind, float],
        activity: SpikeStatistics | None,
    ) -> None:
        self.start, self.model, self.budgets, self.loss = dict(plan), model, budgets, loss
        self.geometry = model.geometry(activity)
        self.names = [layer.name for layer in model.layers]
        self.rules = rules
        self.searched = set(rules.searched)
        self.weight_bits, self.spike_bits = [], []
        self.membranes: list[int | None] = []
        """Widths where they are chosen; None elsewhere."""
        for name in self.names:
            layer, choices = plan[name], rules.choices[name]
            steps = choices.time_steps.nearest(layer.time_steps)
            spikes = (layer.spike_bits + layer.spike_bits[-1:] * steps)[:steps]
            self.weight_bits.append(choices.weight_bits.nearest(layer.weight_bits))
            self.spike_bits.append(tuple(choices.spike_bits.nearest(bits) for bits in spikes))
            chosen = choices.chooses_membranes
            self.membranes.append(choices.membrane_at(steps, layer.membrane_bits) if chosen else None)
        self.members = np.zeros((3, len(self.names), len(self.names)), dtype=bool)
        """``[weight bits, spikes or membranes, L, L]``: which layers a move of a layer takes along, itself included."""
        self.groups = self._find_groups()
        for group in self.groups:
            values: list[Any] = (self.weight_bits, self.spike_bits, self.membranes)[group.row]
            for index in group.layers:
                values[index] = values[group.layers[0]]
        self._narrow_single_steps(range(len(self.names)))
        slots = 3 + max(choices.time_steps.high for choices in rules.choices.values())
        shape = (slots, len(self.names))
        self.options: dict[int, dict[tuple[int, int], Move]] = {-1: {}, 1: {}}
        # Of every move [slot, layer], the numbers of its layer after it, what the loss does, and its price.
        self.after = {direction: np.ones((5, *shape)) for direction in (-1, 1)}
        self.change = {direction: np.full(shape, np.nan) for direction in (-1, 1)}
        self.layer_change = {direction: np.full(shape, np.nan) for direction in (-1, 1)}
        """Of a move, what it changes in one layer alone."""
        weight_price, spike_price = loss_prices(prices)
        by_step = [prices["spike"]] * (slots - 3)
        self.price = np.array([prices["weight"], prices["time"], *by_step, spike_price])[:, None]
        self.loss_price = np.array([weight_price, *[spike_price] * (slots - 1)])[:, None]
        for index in range(len(self.names)):
            self._refresh(index)

    def _find_groups(self) -> list[Group]:
        groups = []
        for row, (number, slots) in enumerate(_ROWS):
            for index, name in enumerate(self.names):
                layers = np.array([self.names.index(other) for other in self.rules.sharing(name, number)])
                self.members[row, index, layers] = True
                if len(layers) > 1 and layers[0] == index:
                    groups.append(Group(row, slots, layers))
        return groups

    def _moved(self, index: int, move: Move) -> list[int]:
        """The layers that a layer's move takes along, itself included."""
        row = [number for number, _ in _ROWS].index(move.number)
        return [int(other) for other in np.flatnonzero(self.members[row, index])]

    def _narrow_single_steps(self, layers: Iterable[int]) -> None:
        """Let membranes that are chosen be the narrowest where there is one time step, and no narrower elsewhere."""
        for index in layers:
            if (width := self.membranes[index]) is not None:
                choices = self.rules.choices[self.names[index]]
                self.membranes[index] = choices.membrane_at(len(self.spike_bits[index]), width)

    def _width(self, index: int, width: int | None) -> float:
        """Of membranes, also where it is not chosen."""
        return float(self.geometry.membrane_widths[index] if width is None else width)

    def _refresh(self, index: int) -> None:
        name, weight_bits, spike_bits = self.names[index], self.weight_bits[index], self.spike_bits[index]
        membrane = self.membranes[index]
        for direction in (-1, 1):
            change = self.layer_change[direction]
            change[:, index] = np.nan
            options = self.rules.choices[name]
            found = moves(weight_bits, spike_bits, options, direction, membrane) if name in self.searched else ()
            for move in found:
                self.options[direction][move.latent_index % len(change), index] = move
                steps = len(move.spike_bits)
                self.after[direction][:, move.latent_index, index] = (
                    move.weight_bits,
                    sum(move.spike_bits) / steps,
                    steps,
                    self.model.layers[index].code_sum(move.spike_bits),
                    self._width(index, move.membrane),
                )
                change[move.latent_index, index] = loss_change(self.loss, name, weight_bits, spike_bits, move, membrane)
            self.change[direction][:, index] = change[:, index]
            for group in self.groups:
                if index in group.layers:
                    self.change[direction][group.slots, group.layers] = np.nan
                    self.change[direction][group.slots, group.layers[0]] = change[group.slots, group.layers].sum(-1)

    def _numbers(self) -> Numbers:
        """``[5, layers]``: weight bits, mean spike bits, time steps, sums of their codes, widths of membranes."""
        steps = np.array([len(bits) for bits in self.spike_bits], dtype=np.float64)
        spikes = np.array([sum(bits) for bits in self.spike_bits], dtype=np.float64) / steps
        sums = [layer.code_sum(bits) for layer, bits in zip(self.model.layers, self.spike_bits, strict=True)]
        widths = [self._width(index, width) for index, width in enumerate(self.membranes)]
        rows = (self.weight_bits, spikes, steps, sums, widths)
        return np.stack([np.array(row, dtype=np.float64) for row in rows])

    def _bits(self) -> Bits:
        return self.model.vectors(*self._numbers())

    def costs(self) -> Numbers:
        """``[budgets]``."""
        bits = self._bits()
        return np.array([self.model.metric(budget.metric).cost(self.geometry, bits) for budget in self.budgets])

    def log_violation(self) -> float:
        """The largest log(cost/limit)."""
        limits = np.array([budget.limit for budget in self.budgets])
        # A network without a single spike costs nothing.
        with np.errstate(divide="ignore"):
            return float(np.log(self.costs() / limits).max())

    def _costs_after(self, direction: int, here: Bits, *, pressure: bool) -> tuple[Numbers, Numbers]:
        there = self.model.vectors(*self.after[direction])
        shape = (len(self.price), len(self.names))
        metrics = [self.model.metric(budget.metric) for budget in self.budgets]
        return costs_after(metrics, self.geometry, here, there, shape, self.groups, pressure=pressure)

    def drop_idle_bits(self) -> None:
        """Make every move down that does not raise the predicted loss: it costs something, and is worth nothing."""
        while (idle := np.argwhere(self.change[-1] <= 0)).size:
            slot, index = (int(place) for place in idle[0])
            self._set(index, self.options[-1][slot, index])
            self._refresh(index)

    def remove_bits(self) -> bool:
        """Make the cheapest moves in loss per cost saved; False if there is none."""
        exceeded = self.costs() > np.array([budget.limit for budget in self.budgets])
        now, after = self._costs_after(-1, self._bits(), pressure=True)
        saved = np.log(now[exceeded, None, None] / after[exceeded]).sum(0)
        if not np.nanmax(np.where(np.isnan(self.change[-1]), np.nan, saved), initial=0.0) > 0:
            # A whole number such as of cores stays where it is until enough is saved: then any saving of memory does.
            saved = np.where(np.isnan(self.change[-1]), np.nan, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(saved > 0, -self.change[-1] / (saved * self.price), np.nan)
        return self._make(-1, score, saved, self.log_violation() / 2)

    def add_bits(self) -> bool:
        """Make the moves that lower the loss most per share of what is left of the budgets; False if none fits.

        Shares of all budgets add up (Dobson 1982), so that of moves that take the same of one, that which takes least
        of another is made.
        """
        now, after = self._costs_after(1, self._bits(), pressure=False)
        slack = np.array([budget.limit for budget in self.budgets]) - now
        spent = (after - now[:, None, None]).clip(min=0.0)
        fits = (after <= np.array([budget.limit for budget in self.budgets])[:, None, None]).all(0)
        # What lowers no loss is not worth what is left.
        fits &= self.change[1] < 0
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(spent > 0, spent / slack[:, None, None], 0.0).sum(0).clip(min=1e-12)
            score = np.where(fits, -self.change[1] / (share * self.price), np.nan)
        return self._make(1, score, share, 0.5)

    def fill_budget(self, exchanges: int) -> None:
        """Spend what is left of the budgets, and better that by at most so many exchanges."""
        while self.add_bits():
            pass
        for _ in range(exchanges):
            if not self.swap():
                break
            while self.add_bits():
                pass

    def swap(self) -> bool:
        """Make the pair of moves, one layer's down and another's up, that lowers the loss most within the budgets.

        False if none does.
        """
        for exchange in self.exchanges():
            if exchange.change >= 0:
                break
            if exchange.change < -MIN_RELATIVE_GAIN * abs(exchange.lost):
                for index, move in exchange.moves:
                    self._set(index, move)
                    self._refresh_moved(index, move)
                return True
        return False

    def exchanges(self, *, single: bool = False) -> Iterator[Exchange]:
        """Every exchange within the budgets, the lowest predicted loss first.

        It is judged by what it does to the plan's predicted loss, as whole plans are. With ``single``, moves up that
        the budgets have room for are among them.
        """
        limits = np.array([budget.limit for budget in self.budgets])[:, None, None, None]
        losses = {direction: self.change[direction] / self.loss_price for direction in (-1, 1)}
        flat = losses[-1].ravel()
        downs = np.argsort(flat, kind="stable")[:MAX_PAIRED_MOVES]
        downs = downs[~np.isnan(flat[downs])]
        slots, layers = np.divmod(downs, len(self.names))
        numbers = np.repeat(self._numbers()[:, None], single + len(downs), axis=1)
        rows_of_slots = np.minimum(slots, 1) + (slots == len(self.price) - 1)
        moved_along = self.members[rows_of_slots, layers]
        rows, moved = np.nonzero(moved_along)
        numbers[:, single + rows, moved] = self.after[-1][:, slots[rows], moved]
        _, after = self._costs_after(1, self.model.vectors(*numbers), pressure=False)
        # A first row without a move down, where such are asked for: it is no layer's, and loses nothing.
        lost = np.concatenate([[0.0] * single, flat[downs]])
        payers = np.concatenate([np.zeros((int(single), len(self.names)), dtype=bool), moved_along])
        # [kinds of moves, rows, layers]: moves up of layers that the move down leaves as they are.
        partners = ~(payers @ self.members.transpose(0, 2, 1))
        allowed = (after <= limits).all(0) & ~np.isnan(losses[1])
        for row, (_, kind) in enumerate(_ROWS):
            allowed[:, kind] &= partners[row][:, None]
        change = np.where(allowed, losses[1], np.inf) + lost[:, None, None]
        for place in np.argsort(change, axis=None, kind="stable")[: int(allowed.sum())]:
            row, slot, index = (int(part) for part in np.unravel_index(place, change.shape))
            pair = [(index, self.options[1][slot, index])]
            if row >= single:
                payer = int(layers[row - single])
                pair.insert(0, (payer, self.options[-1][int(slots[row - single]), payer]))
            yield Exchange(float(change[row, slot, index]), float(lost[row]), tuple(pair))

    def plan_after(self, exchange: Exchange) -> dict[str, LayerPlan]:
        """The plan that an exchange would lead to."""
        plan = self.plan()
        for index, move in exchange.moves:
            for name in (self.names[other] for other in self._moved(index, move)):
                plan[name] = move.of(plan[name], self.rules.choices[name])
        return plan

    def _set(self, index: int, move: Move) -> list[tuple[int, int, tuple[int, ...], int | None]]:
        """Make a move of one layer and of those it takes along; of each, its numbers before."""
        layers = self._moved(index, move)
        before = [(other, self.weight_bits[other], self.spike_bits[other], self.membranes[other]) for other in layers]
        for other in layers:
            if move.kind == "weight":
                self.weight_bits[other] = move.weight_bits
            elif move.kind == "membrane":
                self.membranes[other] = move.membrane
            else:
                self.spike_bits[other] = move.spike_bits
        self._narrow_single_steps(layers)
        return before

    def _refresh_moved(self, index: int, move: Move) -> None:
        for other in self._moved(index, move):
            self._refresh(other)

    def _make(self, direction: int, score: Numbers, effect: Numbers, enough: float) -> bool:
        """Make the best move, and other layers' that are nearly as good while the effect is not ``enough``."""
        if np.isnan(score).all():
            return False
        slots = np.nan_to_num(score, nan=-np.inf).argmax(0)
        layers = np.arange(len(self.names))
        best = score[slots, layers]
        order = [index for index in np.argsort(-best, kind="stable") if not np.isnan(best[index])]
        top, total = best[order[0]], 0.0
        # Scores below zero are prices: nearly as good means little dearer.
        least = top * (NEAR_BEST if top > 0 else 1 / NEAR_BEST)
        count, refused = 0, score.copy()
        for index in order:
            step = float(effect[slots[index], index])
            if count and (best[index] < least or total + step > enough):
                break
            move = self.options[direction][int(slots[index]), int(index)]
            before = self._set(int(index), move)
            # In a product of means, moves that fit one by one may not fit together.
            if direction > 0 and self.log_violation() > 0:
                for other, weight_bits, spike_bits, membrane in before:
                    self.weight_bits[other], self.spike_bits[other] = weight_bits, spike_bits
                    self.membranes[other] = membrane
                refused[slots[index], index] = np.nan
                continue
            self._refresh_moved(int(index), move)
            total, count = total + step, count + 1
        # What refuses one of a layer's moves may allow another.
        return count > 0 or self._make(direction, refused, effect, enough)

    def plan(self) -> dict[str, LayerPlan]:
        """The current bits as plan data."""
        return {
            name: self.start[name].with_bits(weight_bits, spike_bits).with_membrane(membrane)
            for name, weight_bits, spike_bits, membrane in zip(
                self.names, self.weight_bits, self.spike_bits, self.membranes, strict=True
            )
        }
