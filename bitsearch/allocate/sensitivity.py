"""The method ``sensitivity``: predicted losses, scored once, an integer program for the bits, then fine-tuning.

Scores are a sensitivity times the squared quantization error: the true Fisher's diagonal of the quantized network
(:mod:`bitsearch.allocate.curvature`), or the mean diagonal of the float one's Hessian
(:mod:`bitsearch.allocate.hessian`).
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch

from bitsearch.allocate.budget_control import aim
from bitsearch.allocate.curvature import Curvature
from bitsearch.allocate.hessian import hessian_traces
from bitsearch.allocate.integer_program import SECONDS, solve
from bitsearch.allocate.method import Problem
from bitsearch.allocate.quantized_network import QuantizedNetwork, make_learnable
from bitsearch.allocate.settle import expected_activity, settle_plan
from bitsearch.data import batches

PROBES = 8
"""Batches of the training split that sensitivities are measured on."""


def score(problem: Problem) -> Curvature:
    """A loss model of every searched layer at any bits; it serves any number of budgets."""
    knobs, splits = problem.knobs, problem.splits
    quantized = make_learnable(
        problem.network,
        problem.model,
        rules=problem.rules,
        start=knobs.start,
        baseline=problem.space.baseline,
        granularity=knobs.granularity,
        decay=knobs.decay,
    )
    device = next(problem.network.parameters()).device
    curvature = Curvature(quantized, problem.seed, knobs.depth_preference)
    order = torch.Generator().manual_seed(problem.seed)
    signs = torch.Generator().manual_seed(problem.seed)
    names = list(quantized.searched_layers)
    traces = torch.zeros(len(names), 2)
    probes = list(islice(batches(splits.train, problem.space.training.batch_size, order), PROBES))
    quantized.train()
    for inputs, labels in probes:
        curvature.probe(inputs.to(device))
        if knobs.sensitivity == "hessian":
            found = hessian_traces(problem.network, names, inputs.to(device), labels.to(device), signs)
            traces += torch.tensor([found[name] for name in names]) / len(probes)
    if knobs.sensitivity == "hessian":
        # A negative curvature is noise, or a point that training had not finished with: no reason to want errors.
        for name, (by_weights, by_input) in zip(names, traces.clamp_min(0).tolist(), strict=True):
            curvature.replace_by_traces(name, by_weights, by_input)
    return curvature


def allocate_by_sensitivity(problem: Problem) -> Iterator[QuantizedNetwork]:
    """Score, solve, train.

    ``budget_share``, ``weight_price``, ``spike_price`` and ``depth_preference`` count as they do elsewhere; spike bits
    and time steps share a loss, so that ``time_price`` does not.
    """
    model, rules, knobs = problem.model, problem.rules, problem.knobs
    activity = expected_activity(problem)
    start = problem.plan(knobs.start)
    smallest = rules.smallest(model)
    aims = [
        replace(budget, limit=aim(budget, model, smallest, knobs.budget_share, activity)) for budget in problem.budgets
    ]
    found = solve(start, model, aims, rules, score(problem), prices=knobs.prices, activity=activity)
    if not found.proved:
        warnings.warn(
            f"sensitivity: the integer program was not solved to the end within {SECONDS:.0f} s; the best plan so far "
            "is trained",
            stacklevel=2,
        )
    yield settle_plan(problem, found.plan, "sensitivity")
