import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tolerances import FLOAT64

from bitsearch.allocation.solvers.boxes import Box

above_zero = st.floats(0.1, 10)


@st.composite
def boxes(draw):
    """A box and the two points of its corners, and a point within."""
    low = np.array([draw(above_zero) for _ in range(3)])
    high = low + np.array([draw(st.just(0.0) | st.floats(0.01, 10)) for _ in range(3)])
    point = low + (high - low) * np.array([draw(st.floats(0, 1)) for _ in range(3)])
    return Box(low, high, draw(st.floats(0.5, 100))), np.minimum(point, high)


def on_chords(box, point):
    slopes, offsets = box.secants()
    return slopes * point + offsets


@given(boxes())
def test_no_logarithm_is_below_its_chord_and_the_ends_are_on_it(drawn):
    box, point = drawn
    assert (on_chords(box, point) <= np.log(point) + FLOAT64).all()
    for end in (box.low, box.high):
        assert on_chords(box, end) == pytest.approx(np.log(end), abs=FLOAT64)


@given(boxes())
def test_tightening_leaves_out_nothing_within_the_limit(drawn):
    box, point = drawn
    tight = box.tightened_limit()
    if tight is None:
        assert box.low.prod() > box.limit
        assert point.prod() > box.limit
        return
    assert (tight.low <= tight.high).all()
    if point.prod() <= box.limit * (1 - FLOAT64):
        assert (point >= tight.low).all()
        assert (point <= tight.high).all()


@given(boxes(), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_halves_hold_every_point_of_the_box(drawn, shares):
    box, point = drawn
    other = np.minimum(box.low + (box.high - box.low) * np.array(shares), box.high)
    halves = list(box.split(point))
    assert len(halves) == 2
    assert any(((other >= half.low) & (other <= half.high)).all() for half in halves)


@given(boxes())
def test_a_point_that_breaks_the_limit_is_out_of_the_chords_after_three_splits(drawn):
    box, point = drawn
    assume(point.prod() > box.limit * (1 + FLOAT64))
    left = [box]
    for _ in range(3):
        left = [half for one in left for half in one.split(point)]
    holding = [one for one in left if ((point >= one.low) & (point <= one.high)).all()]
    assert holding
    assert all(on_chords(one, point).sum() > math.log(box.limit) for one in holding)
