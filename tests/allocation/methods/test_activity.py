import pytest

from bitsearch.allocation.methods.activity import ActivityEstimate, SpikeCounter
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.plan import UniformBits
from bitsearch.train.session import TrainingSession


@pytest.fixture
def problem(network, model, rules, splits, space):
    """With one budget, on a metric."""

    def make(metric):
        settings = Allocation(start=UniformBits(weight_bits=3, spike_bits=2, time_steps=2), probe_every=3)
        session = TrainingSession(splits, space.training)
        return AllocationProblem(network, model, rules, session, space, settings, [Budget(metric, "", 1e9)], seed=0)

    return make


def learnable(problem):
    return make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, problem.settings)


def test_nothing_is_counted_where_no_budget_asks(problem):
    estimate = ActivityEstimate(problem("bit_budget"))
    quantized = learnable(estimate.problem)
    assert estimate.from_start() is None
    assert estimate.while_bits_move(quantized) == []
    estimate.at_plan(quantized)
    assert quantized.activity is None


def test_the_start_is_counted_as_a_network_that_starts_there(problem):
    estimate = ActivityEstimate(problem("ns_ace"))
    quantized = learnable(estimate.problem)
    estimate.at_plan(quantized)
    assert estimate.from_start() == quantized.activity
    assert quantized.activity == estimate.problem.session.measure(quantized)[1]


def test_a_plan_is_counted_with_the_bits_of_now(problem):
    estimate = ActivityEstimate(problem("ns_ace"))
    quantized = learnable(estimate.problem)
    estimate.at_plan(quantized)
    before = quantized.activity
    quantized.fix(quantized.rules.smallest(quantized.model))
    estimate.at_plan(quantized)
    assert quantized.activity != before


def test_spikes_are_counted_every_few_batches_while_bits_move(problem, batch):
    estimate = ActivityEstimate(problem("ns_ace"))
    quantized = learnable(estimate.problem)
    (counter,) = estimate.while_bits_move(quantized)
    assert isinstance(counter, SpikeCounter)
    counted = []
    for number in range(4):
        quantized.activity = None
        counter.before_batch(batch[0][32 * number : 32 * number + 32])
        counted.append(quantized.activity is not None)
    assert counted == [True, False, False, True]
