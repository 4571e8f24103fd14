"""The end of every method: bits within the budgets, frozen, and the weights tuned to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bitsearch.allocate.loss_model import LossModel
from bitsearch.allocate.methods.base import Problem
from bitsearch.allocate.moves import Kind
from bitsearch.allocate.solvers.projection import project
from bitsearch.cost import Activity, Budget
from bitsearch.layers import convert
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan
from bitsearch.train.evaluate import evaluate_with_activity
from bitsearch.train.fine_tune import fine_tune
from bitsearch.train.loop import Callback

CORRECTIONS = 3
"""Most attempts to meet a budget that depends on how often neurons fire, after the first."""
CORRECTION = 0.93
"""Each aims at this share of what the one before aimed at."""


def settle(
    quantized: QuantizedNetwork,
    problem: Problem,
    *,
    epochs: int,
    seed: int,
    limits: Sequence[Budget] | None = None,
    loss: LossModel | None = None,
    prices: Mapping[Kind, float] | None = None,
    refill: bool = True,
    phase: str = "fine-tune",
    callbacks: Callable[[], Sequence[Callback]] = tuple,
) -> None:
    """Project the allocation onto the budgets exactly, freeze it and fine-tune, in place.

    A budget that depends on how often neurons fire is met by what was counted on the validation split after
    fine-tuning; where it is not, bits are taken away and the network is tuned again, at most :data:`CORRECTIONS` times.
    Such a budget alone may end up not met: nobody can know before how often neurons will fire.

    Args:
        quantized: what its layers have is where the projection starts; bits that meet the budgets stay as they are
            without ``refill``.
        problem: the budgets that count.
        epochs: of fine-tuning; half as many, but one, after each correction.
        seed: of the batches' order.
        limits: what to aim at, one for each budget; the budgets themselves by default.
        loss: of the projection, as ``prices`` and ``refill``.
        prices: regularizer weights.
        refill: spend what is left.
        phase: name for the epochs' records.
        callbacks: makes the method's own parts of a fine-tuning, once the bits are frozen.
    """
    model, rules, by_firing = problem.model, problem.rules, problem.by_firing
    splits, training = problem.splits, problem.space.training
    aims = list(limits or problem.budgets)
    if by_firing and quantized.activity is None:
        _, quantized.activity = evaluate_with_activity(quantized, splits.validation, training.at_once, shared=True)

    def tune(epochs: int, seed: int) -> None:
        # Nothing can be asked for below the cheapest plan; where firing makes that too dear, the budget is not met.
        smallest = rules.smallest(model)
        for index, aim in enumerate(aims):
            if problem.budgets[index] in by_firing:
                least = model.cost(aim.metric, smallest, quantized.activity)
                aims[index] = replace(aim, limit=max(aim.limit, least))
        plan = project(
            quantized.layer_plans,
            model,
            aims,
            rules,
            loss=loss,
            prices=prices,
            activity=quantized.activity,
            refill=refill,
        )
        quantized.fix(plan)
        if epochs > 0:
            fine_tune(
                quantized,
                splits,
                training,
                problem.knobs,
                epochs=epochs,
                seed=seed,
                phase=phase,
                callbacks=callbacks(),
                on_epoch=problem.on_epoch,
                fabric=problem.fabric,
                checkpoints=problem.checkpoints,
            )

    tune(epochs, seed)
    for correction in range(CORRECTIONS if by_firing else 0):
        _, quantized.activity = evaluate_with_activity(quantized, splits.validation, training.at_once, shared=True)
        if all(budget.met_by(model, quantized.layer_plans, quantized.activity) for budget in by_firing):
            break
        for index, aim in enumerate(aims):
            if problem.budgets[index] in by_firing:
                aims[index] = replace(aim, limit=aim.limit * CORRECTION)
        tune(max(1, epochs // 2), seed + 1 + correction)


def settle_plan(problem: Problem, plan: Mapping[str, LayerPlan], phase: str) -> QuantizedNetwork:
    """A copy of the problem's network with the bits of a plan that meets the budgets, trained all epochs at them."""
    network = convert(problem.network, plan)
    quantized = QuantizedNetwork(network, problem.model, problem.rules, problem.space.baseline)
    epochs = problem.space.training.epochs
    settle(quantized, problem, epochs=epochs, seed=problem.seed, refill=False, phase=phase)
    return quantized


def expected_activity(problem: Problem) -> Activity | None:
    """How often neurons fire before anything is trained at few bits, where every search starts; None if no budget asks.

    It is what a plan that is made in one go is made by.
    """
    if not problem.by_firing:
        return None
    network = convert(problem.network, problem.plan(problem.knobs.start))
    quantized = QuantizedNetwork(network, problem.model, problem.rules, problem.space.baseline)
    at_once = problem.space.training.at_once
    return evaluate_with_activity(quantized, problem.splits.validation, at_once, shared=True)[1]
