"""The method ``refine``: from the best uniform plan, single bits move between layers as short trainings confirm.

A try takes a bit (or a time step) from one layer and gives one to another, the pair that promises the lowest loss by
the sensitivities of :mod:`bitsearch.allocation.methods.sensitivity` first, and trains the result shortly. It is kept if
it is more accurate on validation than the plan before it after as short a training on the same batches: a candidate
that was trained shortly would always lose to a plan that has had its whole training. What was kept last is trained like
any other plan, and stands if it is then more accurate on validation than the uniform one.
"""

from collections.abc import Iterator

from bitsearch.allocation.loss_model import LossModel
from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.finish import train_within_budgets
from bitsearch.allocation.methods.sensitivity import score
from bitsearch.allocation.methods.uniform import best_uniform
from bitsearch.allocation.solvers.greedy import GreedySearch
from bitsearch.cost import SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan
from bitsearch.train.fine_tune import train_at_plan

Plan = dict[str, LayerPlan]


def allocate_by_refinement(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """At most ``refine.tries`` tries of ``refine.epochs`` epochs each, between two whole trainings."""
    bits = best_uniform(problem, ActivityEstimate(problem).from_start())
    uniform = train_within_budgets(problem, problem.plan(bits), "uniform")
    uniform_score, activity = problem.session.measure(uniform)
    rank = problem.session.task.score.rank
    loss = score(problem)
    best, (_, to_beat, _) = uniform, _shortly_trained(problem, uniform, uniform.layer_plans)
    tried = {_key(best.layer_plans)}
    for _ in range(problem.settings.refine.tries):
        near = _exchanged(best.layer_plans, problem, loss, activity)
        plan = next((plan for plan in near if _key(plan) not in tried), None)
        if plan is None:
            break
        tried.add(_key(plan))
        candidate, reached, spikes = _shortly_trained(problem, best, plan)
        if rank(reached) > rank(to_beat) and _met(problem, candidate, spikes):
            best, activity = candidate, spikes
            _, to_beat, _ = _shortly_trained(problem, best, plan)
    if best is not uniform:
        refined = train_within_budgets(problem, best.layer_plans, "fine-tune")
        reached, spikes = problem.session.measure(refined)
        if rank(reached) > rank(uniform_score) and _met(problem, refined, spikes):
            yield refined
            return
    yield uniform


def _met(problem: AllocationProblem, network: QuantizedNetwork, spikes: SpikeStatistics) -> bool:
    return all(budget.met_by(problem.model, network.layer_plans, spikes) for budget in problem.budgets)


def _shortly_trained(
    problem: AllocationProblem, start: QuantizedNetwork, plan: Plan
) -> tuple[QuantizedNetwork, float, SpikeStatistics]:
    """A copy of the start trained shortly at a plan, on the same batches as any other; what validation says of it."""
    network = start.copy()
    network.fix(plan)
    network.release_spikes()
    train_at_plan(
        network,
        plan,
        problem.session,
        problem.settings,
        epochs=problem.settings.refine.epochs,
        seed=problem.seed + 1,
        phase="refine",
    )
    return network, *problem.session.measure(network)


def _exchanged(
    plan: Plan, problem: AllocationProblem, loss: LossModel, activity: SpikeStatistics | None
) -> Iterator[Plan]:
    """Plans within the budgets one exchange away, the least predicted loss first; where there is room, one move up."""
    start = GreedySearch(plan, problem.model, problem.budgets, problem.rules, loss, problem.settings.prices, activity)
    start.drop_idle_bits()
    return map(start.plan_after, start.exchanges(single=True))


def _key(plan: Plan) -> tuple[tuple[int, tuple[int, ...], int | None], ...]:
    return tuple((layer.weight_bits, layer.spike_bits, layer.membrane_bits) for layer in plan.values())
