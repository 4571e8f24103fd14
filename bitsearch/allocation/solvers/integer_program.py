r"""The best plan under the budgets by an integer program: one option a layer, least predicted loss.

.. math::
    \min \sum_{l,o} \Delta L_{l,o}\, x_{l,o}, \qquad \sum_o x_{l,o} = 1, \quad x_{l,o} \in \{0, 1\}

An option is (weight bits, spike bits, time steps, and the width of membranes where that is chosen), the spike bits
alike in all steps. What is exact: every metric that is a sum over the layers (S-ACE, its mean a MAC, weight memory,
energy, latency, cores; those of non-zero spikes at the given activity) is one linear row, rounding to whole bytes or
cores included; a peak forbids options, and where layers count together in it, each such group is one row. The Bit
Budget W̄·S̄·T̄ is no sum: its three means are linear rows, and their product is met by branch and bound over boxes of
means. Within a box, the logarithm is concave and lies above its
secant, so that "sum of secants ≤ log limit", one linear row more, is a valid relaxation; a solution that breaks the
product splits the box where this is furthest off. A box is first solved without whole numbers, which takes a
hundredth of the time and, of many layers, comes to nearly the same: only where that keeps to the product, whole
numbers are asked for. Where no row binds a layer's weights to its spikes, as with the Bit
Budget and weight memory, each is chosen by itself: 8 + 32 columns in the place of 8 · 32, and the same optimum. Layers
that share a number have rows that make the options of each of its values equally many in both:
:math:`\sum_{o: w(o) = v} x_{l,o} = \sum_{o: w(o) = v} x_{k,o}` for every v. Solved by HiGHS,
without a gap up to 64 layers, and beyond to within a thousandth of the least loss, which no signal tells apart from it;
the cost model has the last word on every solution.
"""

import heapq
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from bitsearch.allocation.loss_model import EVEN_PRICES, LossModel, layer_loss
from bitsearch.allocation.moves import Kind
from bitsearch.allocation.solvers.boxes import Box
from bitsearch.allocation.solvers.local_search import Problem
from bitsearch.allocation.solvers.move_costs import Numbers
from bitsearch.allocation.solvers.options import SHARED, UNCHOSEN, Choice, bits_of, choices_of, sharing_rows
from bitsearch.allocation.solvers.solution import SECONDS, Solution
from bitsearch.cost import METRICS, AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.cost.formulas import mean_bits, means
from bitsearch.cost.metric import Bits
from bitsearch.plan import LayerPlan

MAX_PROGRAMS = 16
"""So many programs are solved at most where it has to be brief: one, unless the Bit Budget has a limit."""
RELAXED_A_PROGRAM = 8
"""So many relaxed ones to each of these."""
LEAST_GAIN = 1e-2
"""The share of the predicted loss that a better plan has to save there: no signal is as exact as that."""
MAX_NODES = 1000
"""Of the solver's branch and bound in each of these."""
EXACT_LAYERS = 64
"""Networks of more layers are solved to within :data:`GAP`: to tell what is nearly equal apart takes hours there."""
GAP = 1e-3
"""Relative, of the predicted loss."""
SPLIT = 1e-4
"""A relaxed solution that breaks the product by more, relatively, splits the box before whole numbers are asked for."""
_NEAR = 1e-5
"""A solution that breaks a budget by less, relatively, is cut off by itself: the solver's tolerances are near."""
_SCALE = 1e4
"""The largest loss in the solver's units: its absolute gap of 1e-6 is small then."""


def solve(
    start: Mapping[str, LayerPlan],
    model: CostModel,
    budgets: Sequence[Budget],
    rules: AllowedBits,
    loss: LossModel,
    *,
    prices: Mapping[Kind, float] | None = None,
    activity: SpikeStatistics | None = None,
    seconds: float = SECONDS,
) -> Solution:
    """The plan with the least predicted loss within the budgets.

    Args:
        start: what a plan takes over besides its bits, such as granularity.
        model: costs.
        budgets: feasible, as for :func:`bitsearch.allocation.solvers.projection.project`.
        rules: what each layer may get.
        loss: scored once, it serves any number of budgets.
        prices: regularizer weights of ``weight``, ``spike`` and ``time``, as in
            :func:`bitsearch.allocation.loss_model.layer_loss`.
        activity: spike counts, for budgets on metrics that need them; taken as constant.
        seconds: time limit.

    Raises:
        InputError: infeasible budgets.
    """
    for budget in budgets:
        budget.check_counted(model, activity)
        budget.check_feasible(model, rules, activity)
    problem = Problem(model, budgets, rules, loss, prices or EVEN_PRICES, activity)
    program = _Program(start, problem, _Effort(deadline=time.monotonic() + seconds))
    solution = program.solve()
    if solution is not None and solution.optimal:
        return solution
    # The time is up. What single moves lead to may have spike bits that differ between steps.
    plan = problem.best_of_starts(start)
    moved = Solution(plan, problem.predicted(plan), False, program.bound)
    return moved if solution is None else min(solution, moved, key=lambda found: found.loss)


def improve(plan: Mapping[str, LayerPlan], problem: Problem) -> tuple[dict[str, LayerPlan], bool]:
    """(a plan that is predicted to lose less than ``plan``, or that one; whether none loses less still).

    Less by a share of :data:`LEAST_GAIN`. The search is bounded by counts, not by a clock, so that it comes to the same
    on every machine.

    Args:
        plan: within the budgets.
        problem: what plans are judged by.
    """
    program = _Program(plan, problem, _Effort(programs=MAX_PROGRAMS, nodes=MAX_NODES))
    solution = program.solve(below=problem.predicted(plan) * (1 - LEAST_GAIN))
    return dict(plan) if solution is None else solution.plan, not program.stopped


@dataclass(frozen=True)
class _Effort:
    deadline: float = np.inf
    programs: float = np.inf
    nodes: int | None = None
    """Of each program."""


class _Program:
    def __init__(self, start: Mapping[str, LayerPlan], problem: Problem, effort: _Effort) -> None:
        model, budgets, rules = problem.model, problem.budgets, problem.rules
        self.start, self.model, self.budgets, self.rules = dict(start), model, budgets, rules
        self.activity, self.loss, self.prices = problem.activity, problem.loss, problem.prices
        self.effort, self.solved, self.relaxed = effort, 0, 0
        self.names = [layer.name for layer in model.layers]
        self.linear = [budget for budget in budgets if not _is_product(budget) and not model.metric(budget.metric).peak]
        self.limits = [budget.limit for budget in budgets if _is_product(budget)]
        self._joined = [
            (budget, int(column))
            for budget in budgets
            if model.metric(budget.metric).peak
            for column in np.flatnonzero(model.metric(budget.metric).joined(model.geometry()).sum(0) > 1)
        ]
        """(budget, group) of every group of layers that count together in a peak."""
        self.choices: list[Choice] = []
        for index, name in enumerate(self.names):
            shared = [number for number in SHARED if len(rules.sharing(name, number)) > 1]
            self.choices += [choice.undominated(shared) for choice in self._choices(index)]
        self.columns = [(choice.layer, option) for choice in self.choices for option in choice.options]
        costs = np.concatenate([choice.costs for choice in self.choices], axis=1)
        self.rows, losses = costs[:-1], costs[-1]
        """``[means and linear budgets, columns]``: a mean in its unit, a cost as a share of its limit."""
        self.scale = _SCALE / max(losses.max(initial=0.0), 1e-30)
        self.losses = losses * self.scale
        self.choice_of = np.repeat(np.arange(len(self.choices)), [len(choice.options) for choice in self.choices])
        one = np.zeros((len(self.choices), len(self.columns)))
        one[self.choice_of, range(len(self.columns))] = 1
        self.one_each = csr_array(one)
        self.links = sharing_rows(self.names, self.columns, rules)
        self.no_good_cuts: list[Numbers] = []
        """Solutions that the cost model refused."""
        self.stopped = False
        self.gap = 0.0 if len(self.names) <= EXACT_LAYERS else GAP
        self.bound = -np.inf
        """No solution has a loss below it."""

    def _choices(self, index: int) -> list[Choice]:
        """Of a layer, with those options alone that fit every peak."""
        name = self.names[index]
        numbers = self._affordable(index, bits_of(self.rules.choices[name]))
        columns = np.repeat(numbers.reshape(4, -1, 1), len(self.names), 2)
        bits = self._vectors(columns)
        if name in self.rules.searched:
            losses = [
                layer_loss(self.loss, name, int(w), (int(s),) * int(t), self.prices, int(m) or None)
                for w, s, t, m in numbers.reshape(4, -1).T
            ]
        else:
            losses = [0.0] * columns.shape[1]
        fits = np.ones(columns.shape[1], dtype=bool)
        for budget in self.budgets:
            if self.model.metric(budget.metric).peak:
                fits &= self._peak(budget, bits)[:, index] <= budget.limit
        costs = np.vstack([*self._rows(index, bits), losses])
        return choices_of(index, numbers, costs.reshape(-1, *numbers.shape[1:]), fits.reshape(numbers.shape[1:]))

    def _vectors(self, numbers: Numbers) -> Bits:
        """Of ``[4, options, L]``; membranes whose width is not chosen have that of the network's costs."""
        weights, spikes, steps, widths = numbers
        unchosen = np.broadcast_to(self.model.geometry().membrane_widths, len(self.model.geometry().macs))
        widths = np.where(widths == UNCHOSEN, unchosen[: len(self.names)], widths)
        return self.model.vectors(weights, spikes, steps, membranes=widths)

    def _affordable(self, index: int, numbers: Numbers) -> Numbers:
        """Of a layer's values, those that fit every budget with the fewest bits everywhere else.

        What nobody can afford need not be predicted: that is what takes the time.
        """
        geometry, least = self.model.geometry(self.activity), self.rules.smallest(self.model)
        fewest = np.array(
            [
                [bits.weight_bits, bits.spike_bits[0], bits.time_steps, self.rules.membrane_of(name, bits) or UNCHOSEN]
                for name, bits in least.items()
            ],
            dtype=np.float64,
        )
        kept = []
        for values in (numbers[:, :, 0], numbers[:, 0]):
            columns = np.repeat(fewest.T[:, None], values.shape[1], 1)
            columns[:, :, index] = values
            bits = self._vectors(columns)
            costs = [self.model.metric(budget.metric).cost(geometry, bits) / budget.limit for budget in self.budgets]
            kept.append(np.all(np.array(costs) <= 1 + _NEAR, axis=0))
        return numbers[:, kept[0]][:, :, kept[1]]

    def _rows(self, index: int, bits: Bits) -> list[Numbers]:
        """What each option of a layer adds to W̄, S̄, T̄ (where a budget limits their product) and to linear costs."""
        geometry, count = self.model.geometry(self.activity), len(bits.weights)
        rows: list[Numbers] = []
        if self.limits:
            weight, weights, spike, steps, inputs = mean_bits(geometry, bits)
            rows += means(weight[:, index], weights.sum(), spike[:, index], steps[:, index], inputs.sum())
        for budget in self.linear:
            metric = self.model.metric(budget.metric)
            first, *factors = metric.terms(geometry, bits)
            share = metric.total(first[:, index], *(factor.sum() for factor in factors)) / budget.limit
            rows.append(np.broadcast_to(share, count))
        for budget, column in self._joined:
            joined = self.model.metric(budget.metric).joined(geometry)[index, column]
            rows.append(self._peak(budget, bits)[:, index] * joined / budget.limit)
        return rows

    def _constants(self) -> Numbers:
        """Rows of what is not quantized."""
        geometry = self.model.geometry(self.activity)
        bits = self.model.vectors(*np.ones((3, len(self.names))))
        fixed = slice(len(self.names), None)
        rows: list[Numbers] = []
        if self.limits:
            weight, weights, spike, steps, inputs = mean_bits(geometry, bits)
            totals = (weight[fixed].sum(), weights.sum(), spike[fixed].sum(), steps[fixed].sum(), inputs.sum())
            rows += means(*totals)
        for budget in self.linear:
            metric = self.model.metric(budget.metric)
            first, *factors = metric.terms(geometry, bits)
            rows.append(metric.total(first[fixed].sum(), *(factor.sum() for factor in factors)) / budget.limit)
        rows += [np.zeros(()) for _ in self._joined]
        return np.array(rows, dtype=np.float64)

    def _peak(self, budget: Budget, bits: Bits) -> Numbers:
        """``[options, L]``: what each layer adds to a budget's peak."""
        metric = self.model.metric(budget.metric)
        return np.asarray(metric.total(*metric.terms(self.model.geometry(self.activity), bits)))

    def solve(self, below: float = np.inf) -> Solution | None:
        """Best-first over boxes of means; without a product there is one box. None if no plan loses less than below."""
        constants = self._constants()
        count = 3 if self.limits else 0
        limit = min(self.limits, default=np.inf)
        low, high = (np.array([self._extreme(row, of) for row in self.rows[:count]]) for of in (np.min, np.max))
        whole = Box(low + constants[:count], high + constants[:count], limit)
        number = itertools.count()
        queue: list[tuple[float, int, Box, Numbers | None]] = [(-np.inf, next(number), whole, None)]
        """(bound of the loss, number, box, the point that has this loss with shares of columns, once it is known)."""
        best, plan = below * self.scale, None
        while queue and queue[0][0] < best * (1 - self.gap) - 1e-6 and not self.stopped:
            self.bound = queue[0][0] / self.scale
            if self._effort_is_over():
                self.stopped = True
                break
            value, _, box, point = heapq.heappop(queue)
            if count and point is None:
                # Its own bound may be far above that of what it is a part of: others may come first.
                tight = box.tightened_limit()
                relaxed = None if tight is None else self._solve_program(tight, constants, whole=False)
                if tight is not None and relaxed is not None:
                    value, chosen = max(value, relaxed[0]), relaxed[1]
                    heapq.heappush(queue, (value, next(number), tight, self.rows[:count] @ chosen + constants[:count]))
                continue
            if point is None or point.prod() <= limit * (1 + SPLIT):
                solved = self._solve_program(box, constants, whole=True)
                if solved is None or solved[0] >= best - 1e-6:
                    continue
                value, chosen = solved
                tried = self._plan(chosen)
                if all(budget.met_by(self.model, tried, self.activity) for budget in self.budgets):
                    if (loss := float(self.losses @ chosen)) < best:
                        best, plan = loss, tried
                    continue
                point = self.rows[:count] @ chosen + constants[:count]
                if not count or point.prod() <= limit * (1 + _NEAR):
                    self.no_good_cuts.append(chosen)
                    heapq.heappush(queue, (value, next(number), box, None))
                    continue
            for part in box.split(point):
                heapq.heappush(queue, (value, next(number), part, None))
        if not queue or not self.stopped:
            self.bound = best / self.scale * (1 - self.gap)
        return None if plan is None else Solution(plan, best / self.scale, not self.stopped, self.bound)

    def _effort_is_over(self) -> bool:
        return (
            time.monotonic() > self.effort.deadline
            or self.solved >= self.effort.programs
            or self.relaxed >= RELAXED_A_PROGRAM * self.effort.programs
        )

    def _extreme(self, row: Numbers, of: Callable[[Numbers], float]) -> float:
        return sum(float(of(row[self.choice_of == choice])) for choice in range(len(self.choices)))

    def _solve_program(self, box: Box, constants: Numbers, *, whole: bool) -> tuple[float, Numbers] | None:
        """(loss in the solver's units, the columns as 0 and 1) of the best choice in a box; None if there is none.

        Without ``whole``, columns are shares, and what comes out bounds the loss of every choice.
        """
        count = len(box.low)
        upper = np.concatenate([box.high, np.ones(len(constants) - count)]) - constants
        lower = np.concatenate([box.low - constants[:count], np.full(len(constants) - count, -np.inf)])
        constraints = [LinearConstraint(self.one_each, 1, 1)]
        if self.links is not None:
            constraints.append(LinearConstraint(self.links, 0, 0))
        if len(upper):
            constraints.append(LinearConstraint(csr_array(self.rows), lower, upper))
        if count:
            slopes, offsets = box.secants()
            slack = np.log(box.limit) - (offsets + slopes * constants[:count]).sum()
            constraints.append(LinearConstraint(csr_array(slopes[None] @ self.rows[:count]), -np.inf, slack))
        if self.no_good_cuts:
            cuts = vstack([csr_array(chosen[None]) for chosen in self.no_good_cuts])
            constraints.append(LinearConstraint(cuts, -np.inf, len(self.choices) - 1))
        limits: dict[str, float] = {} if self.effort.nodes is None else {"node_limit": self.effort.nodes}
        if np.isfinite(self.effort.deadline):
            limits["time_limit"] = max(self.effort.deadline - time.monotonic(), 1e-3)
        result = milp(
            self.losses,
            integrality=np.full(len(self.losses), float(whole)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": self.gap, **limits},
        )
        self.solved += whole
        self.relaxed += not whole
        # Anything but an optimum or infeasibility: the effort was too little.
        self.stopped = self.stopped or result.status not in (0, 2)
        if result.x is None:
            return None
        if not whole:
            return float(result.fun), result.x
        chosen = np.round(result.x)
        least = float(self.losses @ chosen)
        return (min(least, float(result.mip_dual_bound)) if self.gap else least), chosen

    def _plan(self, chosen: Numbers) -> dict[str, LayerPlan]:
        plan = dict(self.start)
        for column in np.flatnonzero(chosen):
            index, option = self.columns[column]
            name = self.names[index]
            plan[name] = option.of(plan[name])
        return plan


def _is_product(budget: Budget) -> bool:
    return METRICS[budget.metric].terms is mean_bits
