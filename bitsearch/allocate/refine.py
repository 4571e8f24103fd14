"""The method ``refine``: from the best uniform plan, single bits move between layers as short trainings confirm.

A try takes a bit (or a time step) from one layer and gives one to another, the pair that promises the lowest loss by
the sensitivities of :mod:`bitsearch.allocate.sensitivity` first, and trains the result shortly. It is kept if it is
more accurate on validation than everything before, so that the end is never worse there than the uniform plan, which
got all epochs of a trial.
"""

import copy
from collections.abc import Iterator

from bitsearch.allocate.evaluation import evaluate_with_activity
from bitsearch.allocate.fine_tune import fine_tune
from bitsearch.allocate.method import Problem
from bitsearch.allocate.projection import LossModel, Move, loss_change, moves
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.sensitivity import score
from bitsearch.allocate.settle import expected_activity, settle_plan
from bitsearch.allocate.uniform import best_uniform
from bitsearch.cost import Activity
from bitsearch.plan import LayerPlan

WIDTH = 24
"""Of each direction, this many of the most promising single moves are paired."""

Plan = dict[str, LayerPlan]


def allocate_by_refinement(problem: Problem) -> Iterator[QuantizedNetwork]:
    """At most ``refine_tries`` tries of ``refine_epochs`` epochs each, after a whole training of the start."""
    training, validation = problem.space.training, problem.splits.validation
    bits = best_uniform(problem, expected_activity(problem))
    best = settle_plan(problem, problem.plan(bits), "uniform")
    accuracy, activity = evaluate_with_activity(best, validation, training.at_once, shared=True)
    loss = score(problem)
    tried = {_key(best.layer_plans)}
    for number in range(1, problem.knobs.refine_tries + 1):
        near = exchanges(best.layer_plans, problem, loss, activity)
        plan = next((plan for plan in near if _key(plan) not in tried), None)
        if plan is None:
            break
        tried.add(_key(plan))
        candidate = QuantizedNetwork(copy.deepcopy(best.network), problem.model, problem.rules, problem.space.baseline)
        candidate.fix(plan)
        fine_tune(
            candidate,
            problem.splits,
            training,
            problem.knobs,
            epochs=problem.knobs.refine_epochs,
            seed=problem.seed + number,
            phase="refine",
            on_epoch=problem.on_epoch,
            fabric=problem.fabric,
            checkpoints=problem.checkpoints,
        )
        reached, spikes = evaluate_with_activity(candidate, validation, training.at_once, shared=True)
        met = all(budget.met_by(problem.model, plan, spikes) for budget in problem.budgets)
        if met and reached > accuracy:
            best, accuracy, activity = candidate, reached, spikes
    yield best


def exchanges(plan: Plan, problem: Problem, loss: LossModel, activity: Activity | None) -> Iterator[Plan]:
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


def _promising(plan: Plan, problem: Problem, loss: LossModel, direction: int) -> list[tuple[float, str, Move]]:
    found = [
        (loss_change(loss, name, plan[name].weight_bits, plan[name].spike_bits, move), name, move)
        for name in problem.rules.searched
        for move in moves(plan[name].weight_bits, plan[name].spike_bits, problem.rules.choices[name], direction)
    ]
    return sorted(found, key=lambda entry: entry[0])[:WIDTH]


def _moved(plan: Plan, name: str, move: Move) -> Plan:
    update = {"weight_bits": move.weight_bits, "spike_bits": move.spike_bits, "time_steps": len(move.spike_bits)}
    return plan | {name: plan[name].model_copy(update=update)}


def _key(plan: Plan) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return tuple((layer.weight_bits, layer.spike_bits) for layer in plan.values())
