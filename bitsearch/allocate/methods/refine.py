"""The method ``refine``: from the best uniform plan, single bits move between layers as short trainings confirm.

A try takes a bit (or a time step) from one layer and gives one to another, the pair that promises the lowest loss by
the sensitivities of :mod:`bitsearch.allocate.methods.sensitivity` first, and trains the result shortly. It is kept if
it is more accurate on validation than the plan before it after as short a training on the same batches: a candidate
that was trained shortly would always lose to a plan that has had its whole training. What was kept last is trained like
any other plan, and stands if it is then more accurate on validation than the uniform one.
"""

import copy
from collections.abc import Iterator

from bitsearch.allocate.loss_model import LossModel, layer_loss
from bitsearch.allocate.methods.base import AllocationProblem
from bitsearch.allocate.methods.finish import expected_activity, train_at_plan
from bitsearch.allocate.methods.sensitivity import score
from bitsearch.allocate.methods.uniform import best_uniform
from bitsearch.allocate.moves import Move, moves
from bitsearch.cost import SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan
from bitsearch.train.evaluate import evaluate_with_activity
from bitsearch.train.fine_tune import fine_tune

WIDTH = 24
"""Of each direction, this many of the most promising single moves are paired."""

Plan = dict[str, LayerPlan]


def allocate_by_refinement(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """At most ``refine.tries`` tries of ``refine.epochs`` epochs each, between two whole trainings."""
    uniform = train_at_plan(problem, problem.plan(best_uniform(problem, expected_activity(problem))), "uniform")
    accuracy, activity = _measured(problem, uniform)
    loss = score(problem)
    best, (_, to_beat, _) = uniform, _shortly_trained(problem, uniform, uniform.layer_plans)
    tried = {_key(best.layer_plans)}
    for _ in range(problem.settings.refine.tries):
        near = exchanges(best.layer_plans, problem, loss, activity)
        plan = next((plan for plan in near if _key(plan) not in tried), None)
        if plan is None:
            break
        tried.add(_key(plan))
        candidate, reached, spikes = _shortly_trained(problem, best, plan)
        if reached > to_beat and _met(problem, candidate, spikes):
            best, activity = candidate, spikes
            _, to_beat, _ = _shortly_trained(problem, best, plan)
    if best is not uniform:
        refined = train_at_plan(problem, best.layer_plans, "fine-tune")
        reached, spikes = _measured(problem, refined)
        if reached > accuracy and _met(problem, refined, spikes):
            yield refined
            return
    yield uniform


def _measured(problem: AllocationProblem, network: QuantizedNetwork) -> tuple[float, SpikeStatistics]:
    return evaluate_with_activity(network, problem.splits.validation, problem.space.training.at_once, shared=True)


def _met(problem: AllocationProblem, network: QuantizedNetwork, spikes: SpikeStatistics) -> bool:
    return all(budget.met_by(problem.model, network.layer_plans, spikes) for budget in problem.budgets)


def _shortly_trained(
    problem: AllocationProblem, start: QuantizedNetwork, plan: Plan
) -> tuple[QuantizedNetwork, float, SpikeStatistics]:
    """A copy of the start trained shortly at a plan, on the same batches as any other; what validation says of it."""
    network = QuantizedNetwork(copy.deepcopy(start.network), problem.model, problem.rules, problem.space.baseline)
    network.fix(plan)
    fine_tune(
        network,
        problem.splits,
        problem.space.training,
        problem.settings,
        epochs=problem.settings.refine.epochs,
        seed=problem.seed + 1,
        phase="refine",
        on_epoch=problem.on_epoch,
        fabric=problem.fabric,
        checkpoints=problem.checkpoints,
    )
    return network, *_measured(problem, network)


def exchanges(
    plan: Plan, problem: AllocationProblem, loss: LossModel, activity: SpikeStatistics | None
) -> Iterator[Plan]:
    """Plans within the budgets one exchange away, the least predicted loss first: a number up, one elsewhere down.

    Where a budget has room, a number goes up alone.
    """
    ups, downs = (_promising(plan, problem, loss, direction) for direction in (1, -1))
    found = [(change, _moved(plan, name, move)) for change, name, move in ups]
    found += [
        (up + down, _moved(_moved(plan, up_name, up_move), down_name, down_move))
        for up, up_name, up_move in ups
        for down, down_name, down_move in downs
        if up_name != down_name
    ]
    for _, moved in sorted(found, key=lambda entry: entry[0]):
        if all(budget.met_by(problem.model, moved, activity) for budget in problem.budgets):
            yield moved


def _promising(
    plan: Plan, problem: AllocationProblem, loss: LossModel, direction: int
) -> list[tuple[float, str, Move]]:
    prices = problem.settings.prices
    found: list[tuple[float, str, Move]] = []
    for name in problem.rules.searched:
        weight_bits, spike_bits = plan[name].weight_bits, plan[name].spike_bits
        before = layer_loss(loss, name, weight_bits, spike_bits, prices)
        found += [
            (layer_loss(loss, name, move.weight_bits, move.spike_bits, prices) - before, name, move)
            for move in moves(weight_bits, spike_bits, problem.rules.choices[name], direction)
        ]
    return sorted(found, key=lambda entry: entry[0])[:WIDTH]


def _moved(plan: Plan, name: str, move: Move) -> Plan:
    return plan | {name: plan[name].with_bits(move.weight_bits, move.spike_bits)}


def _key(plan: Plan) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return tuple((layer.weight_bits, layer.spike_bits) for layer in plan.values())
