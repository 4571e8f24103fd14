import itertools

import pytest

from bitsearch.allocation.loss_model import EVEN_PRICES, LevelCount, predicted_loss
from bitsearch.allocation.solvers.greedy import GreedySearch
from bitsearch.cost import Budget
from bitsearch.plan import UniformBits


@pytest.fixture
def searched(model, rules):
    """A greedy search from a plan that wastes weight bits, with so many times its cost as budget."""

    def make(room):
        bits = UniformBits(weight_bits=4, spike_bits=3, time_steps=2)
        plan = rules.nearest(model, bits, granularity="layer")
        plan |= {"3": plan["3"].with_bits(2, (3, 3)), "10": plan["10"].with_bits(7, (3, 3))}
        budget = Budget("bit_budget", "given", room * model.cost("bit_budget", plan))
        return GreedySearch(plan, model, [budget], rules, LevelCount(), EVEN_PRICES, None)

    return make


@pytest.mark.parametrize("single", [False, True])
def test_exchanges_move_single_numbers_between_layers_the_lowest_loss_first(searched, model, rules, single):
    search = searched(1.05)
    plan = search.plan()
    exchanges = list(itertools.islice(search.exchanges(single=single), 40))
    plans = [search.plan_after(exchange) for exchange in exchanges]
    start = predicted_loss(LevelCount(), plan, rules, EVEN_PRICES)
    losses = [predicted_loss(LevelCount(), other, rules, EVEN_PRICES) for other in plans]
    assert losses == pytest.approx(sorted(losses))
    assert [exchange.change for exchange in exchanges] == pytest.approx([loss - start for loss in losses])
    changed = {sum(plan[name] != other[name] for name in plan) for other in plans}
    assert changed == ({1, 2} if single else {2})
    for other in plans:
        assert search.budgets[0].met_by(model, other)
        assert rules.contains(other)


def test_a_swap_is_the_first_exchange(searched):
    search = searched(1.0)
    first = search.plan_after(next(search.exchanges()))
    assert search.swap()
    assert search.plan() == first


def test_nothing_is_exchanged_where_nothing_lowers_the_loss(searched):
    search = searched(1.0)
    while search.swap():
        pass
    best = next(search.exchanges(), None)
    assert best is None or best.change > -1e-6
    assert search.log_violation() <= 0
