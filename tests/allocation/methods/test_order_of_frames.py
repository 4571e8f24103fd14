"""Allocations of recordings that only the order of their frames tells apart."""

from dataclasses import replace

import order_of_pulses
import pytest
import torch

from bitsearch.allocation.methods import METHODS
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.binning import binning_loss
from bitsearch.allocation.methods.search_start import search_start
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, trace
from bitsearch.data import batches
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.evaluate import evaluate
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

FRAMES = order_of_pulses.FRAMES
FORMS = (order_of_pulses.MultiStep, order_of_pulses.StepByStep, order_of_pulses.Recurrent)


def allocation(form):
    """An allocation without budgets, from a trained network."""
    space = SearchSpace(
        name="pulses",
        network=form.__name__,
        data="pulses",
        baseline=UniformBits(weight_bits=8, spike_bits=4, time_steps=FRAMES),
        choices=Choices(time_steps=Span(low=1, high=FRAMES)),
        first_layer=FirstLayer(weight_bits=8, spike_bits=8, time_steps=FRAMES),
        training=Training(batch_size=64, learning_rate=4e-3, full_precision_epochs=20, epochs=12),
        allocation=Allocation(start=UniformBits(weight_bits=4, spike_bits=4, time_steps=FRAMES)),
    )
    session = TrainingSession(order_of_pulses.splits(), space.training)
    torch.manual_seed(0)
    network = form()
    train(network, session, epochs=space.training.full_precision_epochs, seed=0, phase="full precision")
    inputs, _ = next(iter(batches(session.splits.train, 32)))
    model = CostModel(trace(network, inputs, time_axis=True), first_layer_counted=True)
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    return AllocationProblem(network, model, rules, session, space, space.allocation, (), seed=0)


def at(problem, ratio):
    """At a share of what the baseline costs."""
    budget = Budget.parse(ratio, "bit_budget", problem.model, problem.space.baseline)
    return replace(problem, budgets=[budget])


@pytest.fixture(scope="module", params=FORMS)
def of_form(request):
    """An allocation of each form."""
    return allocation(request.param)


def test_a_search_starts_where_the_order_survives():
    problem = at(allocation(order_of_pulses.MultiStep), "4x")
    (by_levels,) = uniform_plans(problem.model, problem.rules, problem.budgets, 1, weight_tolerance=0.25)
    assert by_levels.time_steps == 1
    assert search_start(problem, None).time_steps == FRAMES
    # The hidden layer's input is what knows the order; the readout's is summed over the frames anyway.
    loss = binning_loss(problem)
    hidden, readout = problem.rules.searched
    assert loss(hidden, 1) > 4 * loss(readout, 1)


@pytest.mark.training
@pytest.mark.parametrize("ratio", ["1x", "4x"])
def test_the_order_survives_an_allocation(of_form, ratio):
    problem = at(of_form, ratio)
    (quantized,) = METHODS["adaptive"](problem)
    assert problem.budgets[0].met_by(problem.model, quantized.layer_plans)
    # All forms keep all but one of 150 recordings, so that none loses anything to another.
    assert evaluate(quantized, problem.session.splits.validation, 64) >= 0.99
