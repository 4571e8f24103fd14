"""The method ``random``: a random plan within the budgets, which a method that knows where bits matter beats."""

from collections.abc import Iterator

import numpy as np

from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.finish import train_within_budgets
from bitsearch.allocation.solvers.random_plan import random_plan
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits


def allocate_randomly(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """The method ``random``: train one :func:`random_plan`, another one at every attempt."""
    smallest = problem.plan(UniformBits(weight_bits=1, spike_bits=1, time_steps=1))
    generator = np.random.default_rng((problem.seed, problem.attempt))
    activity = ActivityEstimate(problem).from_start()
    plan = random_plan(smallest, problem.model, problem.rules, problem.budgets, generator, activity)
    yield train_within_budgets(problem, plan, "random")
