from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from bitsearch import text
from bitsearch.cli.terminal.tables import print_comparison, print_result
from bitsearch.study.compare import FULL_PRECISION, Comparison


@pytest.mark.training
def test_eighty_columns_hold_the_table_of_plans(finished_run):
    printed = StringIO()
    print_result(finished_run, finished_run.folder.report_file, Console(file=printed, width=80))
    table = printed.getvalue().split("└")[0].splitlines()
    assert max(map(cell_len, table)) <= 80
    assert "…" not in printed.getvalue()
    for plan in finished_run.uniform:
        (row,) = (line for line in table if f"{text.shared_widths(plan)}, trial {plan.provenance.trial} " in line)
        assert text.amount("bit_budget", plan.costs["bit_budget"]) in row
    assert "full precision" in table[-2]
    assert str(finished_run.folder.settings.reference) in table[-1]


def changed(run, **provenance):
    """With other words for the chosen plan's method or trial, and all plans a little worse and cheaper."""
    chosen = run.folder.chosen().provenance.trial
    for plan in run.folder.plans():
        scores = {split: value - 0.0123 for split, value in plan.accuracy.model_dump().items() if value is not None}
        costs = {metric: value * 0.98765 for metric, value in plan.costs.items()}
        parts = {"accuracy": plan.accuracy.model_copy(update=scores), "costs": costs}
        if plan.provenance.trial == chosen:
            parts["provenance"] = plan.provenance.model_copy(update=provenance)
        run.folder.write_plan(plan.model_copy(update=parts))
    return run


@pytest.mark.training
def test_eighty_columns_hold_the_longest_name_of_a_method(finished_run, copied):
    run, printed = changed(copied(finished_run), method="local_binary"), StringIO()
    run.folder.plan(run.folder.chosen().provenance.trial).save(run.folder.chosen_file)
    print_result(run, run.folder.report_file, Console(file=printed, width=80))
    table = printed.getvalue().split("└")[0].splitlines()
    assert max(map(cell_len, table)) <= 80
    assert all(line.rstrip().endswith(("┓", "┃", "┩", "│")) for line in table[1:])
    assert run.best.provenance.method == "local_binary"
    assert any(line.startswith("│ local binary, ") for line in table)


@pytest.mark.training
def test_eighty_columns_hold_a_comparison(finished_run, copied, tmp_path):
    runs, printed = (finished_run, changed(copied(finished_run))), StringIO()
    comparison = Comparison(tmp_path, ("adaptive", "uniform", FULL_PRECISION), runs)
    print_comparison(comparison, tmp_path / "page.html", Console(file=printed, width=80))
    table = printed.getvalue().split("└")[0].splitlines()
    assert max(map(cell_len, table)) <= 80
    assert all(line.rstrip().endswith(("┓", "┃", "┩", "│")) for line in table[1:])
    assert "…" not in printed.getvalue()
    # Mean and deviation stand in one line, and the heads are whole.
    assert sum(line.count("±") for line in table) >= 6
    assert all(word in printed.getvalue() for word in ("validation", "seconds", "budget"))
    heads = printed.getvalue().partition("┡")[0].replace("\N{NO-BREAK SPACE}", " ")
    assert heads.count("in %") == 2
    assert "in bits" in heads
