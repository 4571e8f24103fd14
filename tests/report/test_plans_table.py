from bitsearch.report.plans_table import plans_table
from bitsearch.text import SPACE

BIG = [(4, [4, 3]), (3, [3]), (2, [3, 2]), (6, [4, 3])]
ALIKE = [(3, [4])] * 4


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


def test_the_cheapest_plan_within_one_standard_error_is_marked(run_folder):
    plans, chosen, settings = run_folder.plans(), run_folder.chosen(), run_folder.settings
    within = next(plan for plan in plans if plan.provenance.method == "adaptive" and plan != chosen)
    table = plans_table(plans, chosen, settings, ["bit_budget"], within)
    notes = [row.note for row in table.rows if "cheapest within one standard error" in row.note]
    assert [note.split(", ")[0] for note in notes] == [f"trial {within.provenance.trial}"]
    assert table.rows[1].chosen
