"""Adaptive allocation (Yao et al. 2025): bits and time steps learned by gradient while the network trains.

The bits move during the search phase; the result is projected onto the budget exactly, frozen, and fine-tuned.
"""

from collections.abc import Iterator

from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.methods.finish import project_and_fine_tune
from bitsearch.allocation.methods.search_phase import search
from bitsearch.allocation.methods.search_start import search_start
from bitsearch.layers.network import QuantizedNetwork


def allocate_adaptively(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """Search, project, freeze and fine-tune."""
    estimate = ActivityEstimate(problem)
    start = search_start(problem, estimate.from_start())
    settings = problem.settings.model_copy(update={"start": start})
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, settings)
    estimate.at_plan(quantized)
    epochs = problem.session.settings.epochs
    search_epochs = max(1, round(epochs * settings.search_share))
    aims, loss = search(quantized, problem, search_epochs)
    project_and_fine_tune(
        quantized,
        problem,
        epochs=epochs - search_epochs,
        seed=problem.seed + 1,
        limits=aims,
        loss=loss,
        prices=settings.prices,
    )
    yield quantized
