from itertools import product

import numpy as np

from bitsearch.allocation.solvers.options import UNCHOSEN, Choice, Option, bits_of, choices_of
from bitsearch.choices import Choices, Span

CHOICES = Choices(weight_bits=[1, 2, 4], spike_bits=[1, 3], time_steps=[1, 2])
BITS = bits_of(CHOICES)
EVERYTHING = np.ones(BITS.shape[1:], dtype=bool)


def taken_together(choices):
    """Costs by (weight bits, (spike bits, time steps)) of every combination of the choices' options."""
    costs = {}
    for places in product(*(range(len(choice.options)) for choice in choices)):
        options = [choice.options[place] for choice, place in zip(choices, places, strict=True)]
        weight_bits = next(option.weight_bits for option in options if option.weight_bits is not None)
        spikes = next(option.spikes for option in options if option.spikes is not None)
        costs[weight_bits, spikes] = sum(choice.costs[:, place] for choice, place in zip(choices, places, strict=True))
    return costs


def test_weights_and_spikes_are_chosen_each_by_itself_where_costs_are_sums():
    costs = np.stack([BITS[0], BITS[1] * BITS[2], 4.0 ** -BITS[0] + (2 ** BITS[1] * BITS[2]) ** -2.0])
    choices = choices_of(0, BITS, costs, EVERYTHING)
    assert [len(choice.options) for choice in choices] == [3, 4]
    together = taken_together(choices)
    assert len(together) == 12
    for (weight_bits, (spike_bits, time_steps, _)), values in together.items():
        error = 4.0**-weight_bits + (2**spike_bits * time_steps) ** -2.0
        np.testing.assert_allclose(values, [weight_bits, spike_bits * time_steps, error], rtol=1e-12)


def test_a_product_binds_weights_to_spikes():
    costs = np.stack([BITS[:3].prod(0), 4.0 ** -BITS[0]])
    (choice,) = choices_of(0, BITS, costs, EVERYTHING)
    assert len(choice.options) == 12
    for option, cost in zip(choice.options, choice.costs.T, strict=True):
        spike_bits, time_steps, _ = option.spikes
        assert cost[0] == option.weight_bits * spike_bits * time_steps


def test_what_does_not_fit_is_no_option():
    costs = np.stack([BITS[0], 4.0 ** -BITS[0]])
    (few_spikes,) = (choice for choice in choices_of(0, BITS, costs, BITS[1] < 3) if choice.options[0].spikes)
    assert {spike_bits for spike_bits, *_ in (option.spikes for option in few_spikes.options)} == {1}
    # Two weight bits fit with few spikes alone.
    (choice,) = choices_of(0, BITS, costs, BITS[0] * BITS[1] < 6)
    assert (2, (3, 1, UNCHOSEN)) not in {(option.weight_bits, option.spikes) for option in choice.options}
    assert (2, (1, 1, UNCHOSEN)) in {(option.weight_bits, option.spikes) for option in choice.options}


def test_an_option_goes_where_another_is_as_cheap_and_loses_less():
    options = [Option(1, None), Option(2, None), Option(3, None)]
    choice = Choice(0, options, np.array([[1.0, 2.0, 2.0], [0.3, 0.2, 0.1]]))
    assert choice.undominated([]).options == [Option(1, None), Option(3, None)]
    # A layer that has its weight bits in common with others may need each of them.
    assert choice.undominated(["weight_bits"]).options == options


def test_a_single_time_step_has_the_narrowest_membranes_alone():
    bits = bits_of(CHOICES.model_copy(update={"membrane_bits": Span.model_validate([8, 12, 16])}))
    spikes = {tuple(map(int, each)) for each in bits[1:, 0].T}
    assert spikes == {(s, t, m) for s in (1, 3) for t, widths in ((1, [8]), (2, [8, 12, 16])) for m in widths}
    # One that is said already is no choice.
    pinned = CHOICES.model_copy(update={"membrane_bits": Span(low=12, high=12)})
    assert (bits_of(pinned) == BITS).all()
