"""The method ``ramp``: one long training whose budget tightens step by step and leaves a tuned plan at each.

K steps lead in equal ratios from what the start of the search costs to the budgets. In each, bits move by gradient as
in :mod:`bitsearch.allocation.methods.adaptive`, are projected onto the step's budgets, and held there while the weights
are tuned; the next step goes on from these weights. All steps together take twice the epochs of a trial, so that a
front of K plans costs about what two single ones do.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from bitsearch.allocation.budget_control import tightened_limit
from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.methods.finish import project_and_fine_tune
from bitsearch.allocation.methods.search_phase import search
from bitsearch.allocation.solvers.projection import project
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.fine_tune import fine_tune

LENGTH = 2
"""Epochs of all steps together, in those of a trial."""
SEARCHED = 0.5
"""Share of a step's epochs in which bits move: they have further to go than in a trial that starts near its budget."""


def allocate_by_ramp(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """A network at each of ``ramp.steps`` budgets, the given ones last."""
    settings = problem.settings
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, settings)
    ActivityEstimate(problem).at_plan(quantized)
    epochs = max(2, math.ceil(LENGTH * problem.session.settings.epochs / settings.ramp.steps))
    search_epochs = min(epochs - 1, max(1, round(epochs * SEARCHED)))
    start = [problem.model.cost(budget.metric, quantized.layer_plans, quantized.activity) for budget in problem.budgets]
    for number in range(1, settings.ramp.steps + 1):
        budgets = [
            replace(budget, limit=tightened_limit(first, budget.limit, number / settings.ramp.steps))
            for budget, first in zip(problem.budgets, start, strict=True)
        ]
        step = replace(problem, budgets=budgets, seed=problem.seed + 100 * number)
        _search(quantized, step, search_epochs)
        real = _tune(quantized, step, epochs - search_epochs)
        snapshot = quantized.copy()
        snapshot.soft_accuracy = quantized.soft_accuracy
        project_and_fine_tune(snapshot, step, epochs=0, seed=step.seed, use_slack=False)
        yield snapshot
        with torch.no_grad():
            for name, weight in real.items():
                # Bits move with uniform steps, so that these are found anew.
                quantized.layers[name].weight.copy_(weight)
                quantized.layers[name].weight_step_bits.zero_()
                quantized.layers[name].refresh_cache()


def _search(quantized: QuantizedNetwork, step: AllocationProblem, epochs: int) -> None:
    """Let the bits move toward the step's budgets, and hold them at a plan within these."""
    aims, loss = search(quantized, step, epochs)
    # What neurons fire may have made the cheapest plan dearer than a limit.
    smallest = step.rules.smallest(step.model)
    limits = [
        replace(aim, limit=max(aim.limit, step.model.cost(aim.metric, smallest, quantized.activity))) for aim in aims
    ]
    plan = project(
        quantized.layer_plans,
        step.model,
        limits,
        step.rules,
        loss=loss,
        prices=step.settings.prices,
        activity=quantized.activity,
    )
    for name, layer in quantized.searched_layers.items():
        layer.set_bits(plan[name])
        layer.renew_weights = layer.renew_spikes = True


def _tune(quantized: QuantizedNetwork, step: AllocationProblem, epochs: int) -> dict[str, Tensor]:
    """Train the weights while the bits stay where they are; as :func:`bitsearch.train.fine_tune.fine_tune`."""
    for layer in quantized.searched_layers.values():
        layer.straight_through = False
    return fine_tune(
        quantized,
        step.session,
        step.settings,
        epochs=epochs,
        seed=step.seed + 1,
        phase="fine-tune",
        latent_rates={"bits_learning_rate": 0.0, "time_learning_rate": 0.0},
    )
