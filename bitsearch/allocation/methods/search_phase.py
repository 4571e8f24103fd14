"""The search phase: bits move by gradient, pulled down by the budgets and held up by the task, while weights train."""

from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.binning import binning_loss
from bitsearch.allocation.methods.budget_penalty import BudgetPenaltyCallback, Renewal
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.latent_gradient import LatentGradientCallback
from bitsearch.cost import Budget
from bitsearch.data.splits import batch_count
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.loop import Callback, train


def search(
    quantized: QuantizedNetwork, problem: AllocationProblem, epochs: int
) -> tuple[list[Budget], FisherLossModel]:
    """Run the search phase in place. Returns the limits to project onto, and the loss model.

    ``quantized`` has learnable bits and, where a budget depends on how often neurons fire, spike counts.
    """
    settings, session = problem.settings, problem.session
    splits = session.splits
    steps = epochs * batch_count(splits.train, session.settings.batch_size)
    in_float32 = session.settings.precision == "float32"
    meters, pull, signal = search_parts(quantized, problem, steps, shares_activations=in_float32)
    train(
        quantized,
        session,
        epochs=epochs,
        seed=problem.seed,
        phase="search",
        anneal=False,
        callbacks=[*meters, pull, Renewal(quantized, pull.budget_penalty.targets, settings), signal],
        latent_rates={
            "bits_learning_rate": settings.bits_learning_rate,
            "time_learning_rate": settings.time_learning_rate,
        },
    )
    return pull.aims, signal.curvature


def search_parts(
    quantized: QuantizedNetwork, problem: AllocationProblem, steps: int, *, shares_activations: bool = True
) -> tuple[list[Callback], BudgetPenaltyCallback, LatentGradientCallback]:
    """What moves the bits in so many training steps, whoever trains: spike counters, the budgets' pull, the signal.

    ``shares_activations`` is :class:`LatentGradientCallback`'s.
    """
    settings = problem.settings
    pull = BudgetPenaltyCallback(quantized, problem.budgets, settings, steps)
    axis = problem.session.splits.batch_axis
    signal = LatentGradientCallback(
        quantized,
        settings,
        problem.seed,
        axis,
        binning_loss(problem),
        problem.session.task,
        shares_activations=shares_activations,
    )
    return ActivityEstimate(problem).while_bits_move(quantized), pull, signal
