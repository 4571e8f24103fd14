from bitsearch.report.plans_table import plans_table
from bitsearch.report.verdict import headline, reason
from bitsearch.runs.pareto import best_plan
from bitsearch.text import SPACE

BIG = [(4, [4, 3]), (3, [3]), (2, [3, 2]), (6, [4, 3])]
SMALL = [(3, [2]), (2, [2]), (2, [2]), (5, [3])]
ALIKE = [(3, [4])] * 4
OVER = [(8, [4, 4])] * 4


def said(plans, metric="bit_budget"):
    chosen = best_plan(plans, metric)
    return f"{headline(chosen)}: {reason(plans, chosen, metric)}".replace(SPACE, " ")


def test_adaptive_won(make_plan, make_settings):
    plans = [
        make_plan(make_settings(), 3, BIG, 0.98),
        make_plan(make_settings(), 5, ALIKE, 0.97, "uniform"),
        make_plan(make_settings(), 6, OVER, 0.99, "uniform"),
    ]
    assert said(plans) == (
        "An adaptive plan won: trial 3 has 98.00 % validation accuracy, 1.00 points above the best uniform plan within "
        "the budget, trial 5 (w3 s4 T1) with 97.00 %."
    )


def test_uniform_won_is_said_plainly(make_plan, make_settings):
    plans = [make_plan(make_settings(), 3, BIG, 0.96), make_plan(make_settings(), 5, ALIKE, 0.97, "uniform")]
    assert said(plans) == (
        "A uniform plan won: trial 5 (w3 s4 T1) has 97.00 % validation accuracy, 1.00 points above the best adaptive "
        "plan within the budget, trial 3 with 96.00 %."
    )


def test_equal_accuracy_names_the_costs(make_plan, make_settings):
    plans = [make_plan(make_settings(), 3, SMALL, 0.97), make_plan(make_settings(), 5, ALIKE, 0.97, "uniform")]
    assert said(plans) == (
        "An adaptive plan won: trial 3 has 97.00 % validation accuracy, just as the best uniform plan within the "
        "budget, trial 5 (w3 s4 T1), but costs less: 4.905 bits against 12.44 bits."
    )


def test_equal_in_both(make_plan, make_settings):
    plans = [make_plan(make_settings(), 3, ALIKE, 0.97), make_plan(make_settings(), 5, ALIKE, 0.97, "uniform")]
    assert "trial 5 (w3 s4 T1), equals it in both" in said(plans)


def test_no_rival(make_plan, make_settings):
    plans = [make_plan(make_settings(), 3, SMALL, 0.97)]
    assert said(plans).endswith("This run has no uniform plan.")
    plans.append(make_plan(make_settings(), 5, OVER, 0.99, "uniform"))
    assert said(plans).endswith("No uniform plan met the budget.")


def test_table_marks_the_best_plan_within_the_budget(run_folder):
    plans, settings = run_folder.plans(), run_folder.settings
    table = plans_table(plans, run_folder.chosen(), settings, ["bit_budget", "s_ace"])
    full, chosen, *rest = table.rows
    assert [cell.text.replace(SPACE, " ") for cell in full.cells] == ["98.89 %", "98.06 %", "—", "—"]
    assert not any(cell.best for cell in full.cells)
    assert chosen.chosen
    assert [cell.best for cell in chosen.cells] == [True, True, False, False]
    assert len(rest) == 14
    costs = [float(row.cells[2].text) for row in rest]
    assert costs == sorted(costs)
    assert [cell.best for cell in rest[0].cells] == [False, False, True, True]
    for row in rest:
        if "over the budget" in row.note:
            assert not any(cell.best for cell in row.cells)


def test_table_shows_the_best_adaptive_plan_where_a_uniform_one_won(make_plan, make_settings):
    plans = [make_plan(make_settings(), 3, BIG, 0.96), make_plan(make_settings(), 5, ALIKE, 0.97, "uniform")]
    table = plans_table(plans, plans[1], make_settings(), ["bit_budget"])
    assert [row.label for row in table.rows] == ["Full precision", "Uniform w3 s4 T1", "Adaptive"]
    # Not measured, and said so.
    assert table.rows[2].cells[1].text == "—"
