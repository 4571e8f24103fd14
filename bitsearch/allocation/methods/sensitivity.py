"""The method ``sensitivity``: predicted losses, scored once, an integer program for the bits, then fine-tuning.

Scores are a sensitivity times the squared quantization error: the true Fisher's diagonal of the quantized network
(:mod:`bitsearch.allocation.signals.fisher_loss`), or the mean diagonal of the float one's Hessian
(:mod:`bitsearch.allocation.signals.hessian`).
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch

from bitsearch.allocation.budget_control import target_limit
from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.methods.binning import binning_loss
from bitsearch.allocation.methods.finish import train_within_budgets
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.hessian import hessian_traces
from bitsearch.allocation.solvers.integer_program import solve
from bitsearch.allocation.solvers.solution import unfinished
from bitsearch.data import batches
from bitsearch.distributed import all_reduce_sum, rank, world_size
from bitsearch.layers.batch_norm import shared_batch_norm
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.network_inputs import moved
from bitsearch.train.micro_batch import MicroBatches
from bitsearch.train.state import seed_epoch

PROBES = 8
"""Batches of the training split that sensitivities are measured on."""


def score(problem: AllocationProblem) -> FisherLossModel:
    """A loss model of every searched layer at any bits; it serves any number of budgets."""
    settings, splits, training = problem.settings, problem.session.splits, problem.session.settings
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, settings)
    device = next(problem.network.parameters()).device
    curvature = FisherLossModel(
        quantized,
        problem.seed,
        settings.depth_preference,
        splits.batch_axis,
        weight_tolerance=settings.weight_tolerance,
        time_tolerance=settings.time_tolerance,
        binning=binning_loss(problem),
        task=problem.session.task,
    )
    order = torch.Generator().manual_seed(problem.seed)
    signs = torch.Generator().manual_seed(problem.seed)
    names = list(quantized.searched_layers)
    # By the weights and by the input of every layer, summed over samples; the last row counts these.
    traces = torch.zeros(len(names) + 1, 2, device=device)
    micro = MicroBatches(training.micro_batch, splits.batch_axis, world_size())
    remaining = len(splits.train)
    probes = batches(splits.train, training.batch_size, order, share=(rank(), world_size()))
    seed_epoch(problem.seed, 0, rank())
    quantized.train()
    with shared_batch_norm(quantized):
        for inputs, labels in islice(probes, PROBES):
            batch = len(labels) if world_size() == 1 else min(remaining, training.batch_size)
            parts = micro.parts(moved(inputs, device), labels.to(device), batch)
            remaining -= training.batch_size
            curvature.probe(*(part for part, _ in parts), targets=[targets for _, targets in parts])
            for part, part_labels in parts if settings.sensitivity.metric == "hessian" else ():
                layer_traces = hessian_traces(problem.network, names, part, part_labels, signs, problem.session.task)
                traces += len(part_labels) * torch.tensor([*layer_traces.values(), (1.0, 1.0)], device=device)
    if settings.sensitivity.metric == "hessian":
        traces = all_reduce_sum(traces)
        # A negative curvature is noise, or a point that training had not finished with: no reason to want errors.
        means = (traces[:-1] / traces[-1]).clamp_min(0).tolist()
        for name, (by_weights, by_input) in zip(names, means, strict=True):
            curvature.use_hessian_traces(name, by_weights, by_input)
    return curvature


def allocate_by_sensitivity(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """Score, solve, train.

    ``budget_share``, the prices and ``depth_preference`` count as they do elsewhere.
    """
    model, rules, settings = problem.model, problem.rules, problem.settings
    activity = ActivityEstimate(problem).from_start()
    start = problem.plan(settings.start)
    smallest = rules.smallest(model)
    aims = [
        replace(budget, limit=target_limit(budget, model, smallest, settings.budget_share, activity))
        for budget in problem.budgets
    ]
    solution = solve(start, model, aims, rules, score(problem), prices=settings.prices, activity=activity)
    if problem.session.fabric is not None:
        # Where time runs out, each process has come to another plan.
        solution = problem.session.fabric.broadcast(solution)
    if not solution.optimal and rank() == 0:
        warnings.warn(
            f"sensitivity: the integer program {unfinished(solution)} is trained",
            stacklevel=2,
        )
    yield train_within_budgets(problem, solution.plan, "sensitivity")
