from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from bitsearch import text
from bitsearch.cli.terminal.tables import print_result


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
