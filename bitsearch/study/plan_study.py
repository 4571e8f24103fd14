"""How many trials of a study aim at its budget, and how many go along the front."""

from collections.abc import Sequence
from itertools import zip_longest

from bitsearch.allocation.methods import COUNTS_ATTEMPTS
from bitsearch.allocation.solvers.uniform_grid import uniform_front, uniform_plans
from bitsearch.cost import Budget, SpikeStatistics
from bitsearch.errors import InputError
from bitsearch.plan import UniformBits
from bitsearch.study.front import FrontAxis, UniformCandidate
from bitsearch.study.narrowing import tries
from bitsearch.study.trial_roles import StudyPlan, baselines, searched
from bitsearch.train.task import Task


def plan_study(
    task: Task,
    budgets: Sequence[Budget],
    metric: str,
    trials: int,
    activity: SpikeStatistics | None,
    *,
    narrows: bool = False,
    stops: Sequence[float] = (),
    shortens: bool = True,
) -> StudyPlan:
    """The trials of a study.

    Args:
        task: its space says which share goes along the front; where methods take turns, all aim at the budget.
        budgets: the run's.
        metric: of the front's axis. Without a budget on it, there is nothing to aim at: long trials go along it too.
        trials: that search, of each method. Those along the front are shorter, and as many more.
        activity: spike counts, where a budget or the axis depends on how often neurons fire.
        narrows: True for an accuracy goal, which all trials narrow the cost for, uniform ones as well.
        stops: limits on the axis to which all trials go in turns, of a sweep.
        shortens: False where trials along the front take as long as others do, as those of the user's own training;
            there are no more of them then.

    Raises:
        InputError: there is a goal, and no cost to save: the cheapest plan has none.
    """
    space, search = task.space, task.space.search
    count, uniform_count = searched(space, trials), baselines(space)

    def at_budget(most: int) -> Sequence[UniformBits]:
        tolerance = space.allocation.weight_tolerance
        return uniform_plans(task.model, task.rules, budgets, most, weight_tolerance=tolerance, activity=activity)

    if narrows:
        axis = _axis(task, budgets, metric, activity, to_the_dearest=True)
        if axis is None:
            raise InputError(f"{metric} of the cheapest plan is 0, so nothing can be saved; minimize another cost")
        uniform_trials = min(uniform_count, tries(len(axis.uniform)))
        update = {"limit": None, "trials": count, "uniform_trials": uniform_trials, "narrows": True}
        return StudyPlan(count, (), (), axis.model_copy(update=update))
    if stops:
        return _sweep(task, budgets, metric, count, activity, stops)
    if search.methods:
        return StudyPlan(count, at_budget(uniform_count), search.methods)
    axis = None if search.front_share == 0 else _axis(task, budgets, metric, activity)
    # Where nothing varies at the budget, one trial shows all that there is to see.
    varies = bool(search.parameters) or space.allocation.method in COUNTS_ATTEMPTS
    if axis is None:
        return StudyPlan(count if varies else 1, at_budget(uniform_count))
    along = round(count * search.front_share)
    at_axis = count - along
    if not varies and axis.limit is not None:
        at_axis, along = 1, count - 1
    if shortens:
        # In the time of one trial, so many short ones.
        along *= space.training.epochs // space.front_epochs
    uniform_share = 1.0 if axis.limit is None else search.front_share
    uniform_along = min(len(axis.uniform), round(uniform_count * uniform_share))
    uniform = at_budget(uniform_count - uniform_along) if axis.limit is not None else ()
    # No uniform plan is trained twice.
    untried = sum(candidate.bits not in uniform for candidate in axis.uniform)
    front = axis.model_copy(update={"trials": along, "uniform_trials": min(untried, uniform_along)})
    return StudyPlan(at_axis + along, uniform, (), front)


def _sweep(
    task: Task,
    budgets: Sequence[Budget],
    metric: str,
    count: int,
    activity: SpikeStatistics | None,
    stops: Sequence[float],
) -> StudyPlan:
    """Trials that search go to the budgets in turns; each budget has its share of the best uniform plans within it."""
    axis = _axis(task, budgets, metric, activity, to_the_dearest=True)
    if axis is None:
        raise InputError(f"{metric} of the cheapest plan is 0, so budgets on it change nothing; sweep another cost")
    most = max(1, baselines(task.space) // len(stops))
    others = [budget for budget in budgets if budget.metric != metric or budget.of_target]
    tolerance = task.space.allocation.weight_tolerance
    grids = [
        uniform_plans(
            task.model,
            task.rules,
            [Budget(metric, f"{stop:.6g}", stop), *others],
            most,
            weight_tolerance=tolerance,
            activity=activity,
        )
        for stop in stops
    ]
    # The best of every budget come first.
    turns = [bits for turn in zip_longest(*grids) for bits in turn if bits is not None]
    update = {"limit": None, "stops": tuple(min(stop, axis.high) for stop in stops), "trials": count}
    return StudyPlan(count, tuple(dict.fromkeys(turns)), (), axis.model_copy(update=update))


def _axis(
    task: Task,
    budgets: Sequence[Budget],
    metric: str,
    activity: SpikeStatistics | None,
    *,
    to_the_dearest: bool = False,
) -> FrontAxis | None:
    """The front's axis; None where the cheapest plan costs nothing, as spikes do in a network that never fires.

    With ``to_the_dearest`` it ends at the limit or at the dearest plan, wherever the baseline is.
    """
    model, space = task.model, task.space
    fixed = [budget for budget in budgets if budget.metric != metric or budget.of_target]
    tolerance = space.allocation.weight_tolerance
    uniform = uniform_front(model, task.rules, fixed, metric, weight_tolerance=tolerance, activity=activity)
    limit = min((budget.limit for budget in budgets if budget.metric == metric), default=None)
    low = model.cost(metric, task.rules.smallest(model), activity)
    if low <= 0:
        return None
    widest = task.rules.nearest(model, task.rules.maximum, granularity="layer")
    dearest = model.cost(metric, widest, activity)
    baseline = model.cost(metric, model.uniform(space.baseline, None), activity)
    most = [budget.limit for budget in fixed if budget.metric == metric]
    if limit is not None:
        # More than the dearest plan costs is as much as it costs.
        limit = max(low, min(limit, dearest))
    end = (limit or dearest) if to_the_dearest else max(min(baseline, dearest), limit or low)
    high = min([end, *most])
    return FrontAxis(
        metric=metric,
        low=low,
        high=max(high, low),
        limit=limit,
        least=min(1.0, 1 / task.splits.classes),
        most=1.0,
        uniform=tuple(UniformCandidate(bits=bits, cost=cost) for bits, cost in uniform if low <= cost <= high),
        trials=0,
        uniform_trials=0,
    )
