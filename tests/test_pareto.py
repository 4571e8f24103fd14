from hypothesis import given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.pareto import ParetoFront, hypervolume

POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10)), max_size=14)
"""(cost, accuracy) of few values, so that many are equal in one or both."""


def dominated(point, others):
    return any(cost <= point[0] and accuracy >= point[1] for cost, accuracy in others)


@examples(300)
@given(POINTS)
def test_the_front_is_what_no_other_point_dominates(points):
    front = ParetoFront()
    added = [front.add(cost, accuracy, index) for index, (cost, accuracy) in enumerate(points)]
    for index, point in enumerate(points):
        assert added[index] == (not dominated(point, points[:index]))
    expected = {
        (*point, index)
        for index, point in enumerate(points)
        # Of equal points the first stays.
        if not dominated(point, [other for other in points if other != point]) and points.index(point) == index
    }
    assert set(front.points) == expected
    assert front.points == sorted(front.points)


@examples(300)
@given(POINTS, st.integers(1, 10), st.integers(0, 10))
def test_a_hypervolume_counts_the_cells_that_are_dominated(points, largest, least):
    cells = sum(dominated((cost, accuracy), points) for cost in range(1, largest) for accuracy in range(least + 1, 11))
    assert hypervolume(points, (largest, least)) == cells
