from bitsearch.allocation.solvers.solution import Solution, unfinished
from bitsearch.plan import LayerPlan

PLAN = {"only": LayerPlan(weight_bits=1, spike_bits=(1,), time_steps=1)}


def test_what_is_not_solved_to_the_end_is_told_with_what_is_left():
    assert unfinished(Solution(PLAN, 2.0, False, 1.5)) == (
        "was not solved to the end within 120 s; the best plan so far, which no plan is predicted to lose over 25 % "
        "less than,"
    )
    assert unfinished(Solution(PLAN, 2.0, False)) == ("was not solved to the end within 120 s; the best plan so far")
