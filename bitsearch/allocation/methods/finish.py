"""The end of every method: bits within the budgets, frozen, and the weights tuned to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bitsearch.allocation.loss_model import LossModel
from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.moves import Kind
from bitsearch.allocation.solvers.projection import project
from bitsearch.cost import Budget
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan
from bitsearch.train.fine_tune import train_at_plan
from bitsearch.train.loop import Callback

MAX_CORRECTIONS = 3
"""Most attempts to meet a budget that depends on how often neurons fire, after the first."""
CORRECTION_FACTOR = 0.93
"""Each aims at this share of what the one before aimed at."""


def project_and_fine_tune(
    quantized: QuantizedNetwork,
    problem: AllocationProblem,
    *,
    epochs: int,
    seed: int,
    limits: Sequence[Budget] | None = None,
    loss: LossModel | None = None,
    prices: Mapping[Kind, float] | None = None,
    use_slack: bool = True,
    phase: str = "fine-tune",
    callbacks: Callable[[], Sequence[Callback]] = tuple,
    corrections: int = MAX_CORRECTIONS,
) -> None:
    """Project the allocation onto the budgets exactly, freeze it and fine-tune, in place.

    A budget that depends on how often neurons fire is met by what was counted on the validation split after
    fine-tuning; where it is not, bits are taken away and the network is tuned again, at most ``corrections`` times.
    Such a budget alone may end up not met: nobody can know before how often neurons will fire.

    Args:
        quantized: what its layers have is where the projection starts; bits that meet the budgets stay as they are
            without ``use_slack``.
        problem: the budgets that count.
        epochs: of fine-tuning; half as many, but one, after each correction.
        seed: of the batches' order.
        limits: what to aim at, one for each budget; the budgets themselves by default.
        loss: of the projection, as ``prices`` and ``use_slack``.
        prices: regularizer weights.
        use_slack: spend what is left.
        phase: name for the epochs' records.
        callbacks: makes the method's own parts of a fine-tuning, once the bits are frozen.
        corrections: most attempts to meet such a budget after the first.
    """
    model, rules, activity_budgets = problem.model, problem.rules, problem.activity_budgets
    aims = list(limits or problem.budgets)
    estimate = ActivityEstimate(problem)
    if quantized.activity is None:
        estimate.at_plan(quantized)

    def tune(epochs: int, seed: int) -> None:
        # Nothing can be asked for below the cheapest plan; where firing makes that too dear, the budget is not met.
        smallest = rules.smallest(model)
        for index, aim in enumerate(aims):
            if problem.budgets[index] in activity_budgets:
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
            use_slack=use_slack,
        )
        train_at_plan(
            quantized,
            plan,
            problem.session,
            problem.settings,
            epochs=epochs,
            seed=seed,
            phase=phase,
            callbacks=callbacks,
        )

    tune(epochs, seed)
    for correction in range(corrections if activity_budgets else 0):
        estimate.at_plan(quantized)
        if all(budget.met_by(model, quantized.layer_plans, quantized.activity) for budget in activity_budgets):
            break
        for index, aim in enumerate(aims):
            if problem.budgets[index] in activity_budgets:
                aims[index] = replace(aim, limit=aim.limit * CORRECTION_FACTOR)
        tune(max(1, epochs // 2), seed + 1 + correction)


def train_within_budgets(problem: AllocationProblem, plan: Mapping[str, LayerPlan], phase: str) -> QuantizedNetwork:
    """A copy of the problem's network with the bits of a plan that meets the budgets, trained all epochs at them."""
    quantized, epochs = problem.quantized(plan), problem.session.settings.epochs
    project_and_fine_tune(quantized, problem, epochs=epochs, seed=problem.seed, use_slack=False, phase=phase)
    return quantized
