"""One notation everywhere: ``w3 s5 T1`` of bits, the trial number that ``export --trial`` takes, costs with units."""

import io
import re
import shutil

import pandas as pd
import pytest
from rich.console import Console

from bitsearch.cli.terminal.tables import print_result
from bitsearch.cost.metrics import METRICS
from bitsearch.report import write_report
from bitsearch.runs.folder import RunFolder
from bitsearch.study.result import SearchResult
from bitsearch.text import SPACE, shared_widths

pytestmark = pytest.mark.training

BITS = re.compile(r"\bw\d+ s\d+ T\d+\b")
OTHER_NOTATIONS = (
    re.compile(r"(?<![\w./-])\d/\d/\d(?![\w/])"),
    re.compile(r"\b\d weight bits, \d spike bits"),
    re.compile(r"\b[wW]=?\d+[,/] ?[sS]=?\d+"),
)
"""``4/8/4``, words, ``w4,s8``."""
COST = re.compile(r"(?<![\w.])\d[\d.,]*( [kMG])? (bits|bit operations|synaptic operations|B|KiB|nJ|pJ)(?!\w)")


@pytest.fixture(scope="module")
def result(finished_run, tmp_path_factory):
    """A copy of a run, with its page."""
    result = SearchResult(
        RunFolder(shutil.copytree(finished_run.folder.path, tmp_path_factory.mktemp("notation") / "run"))
    )
    write_report(result.folder)
    return result


@pytest.fixture(scope="module")
def texts(result, call):
    """What people read of the run, by where they read it."""
    folder, terminal = result.folder.path.parent, io.StringIO()
    print_result(result, folder / "page", Console(file=terminal, width=1000))
    finished = call("deploy", "run/plan.json", "--format", "hub-folder", "-o", "hub", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    differences = call("diff", "run", "run/plan.json", cwd=folder)
    assert differences.returncode == 0, differences.stderr
    card = re.sub(r"\\(.)", r"\1", (folder / "hub" / "README.md").read_text())
    # The data of the page, without its code.
    page = "\n".join(
        line for line in (folder / "run" / "pareto.html").read_text().splitlines() if "hover_names" in line
    )
    texts = {"terminal": terminal.getvalue(), "model card": card, "diff": differences.stdout, "page": page}
    return {place: text.replace(SPACE, " ") for place, text in texts.items()}


@pytest.mark.parametrize("place", ["terminal", "model card", "page"])
def test_bits_are_written_alike_wherever_they_are_read(texts, place):
    assert BITS.search(texts[place]), texts[place][:2000]


@pytest.mark.parametrize("place", ["terminal", "model card", "diff"])
def test_bits_are_written_in_no_other_notation(texts, place):
    for notation in OTHER_NOTATIONS:
        assert not notation.search(texts[place]), notation.search(texts[place])


def test_trials_are_numbered_as_export_takes_them(result, texts, call):
    table = pd.read_csv(result.folder.path / "trials.csv")
    plans = {plan.provenance.trial: plan for plan in result.folder.plans()}
    assert sorted(table["trial"]) == sorted(plans)
    for trial, plan in plans.items():
        finished = call("export", "run", "--trial", trial, "-o", f"{trial}.json", cwd=result.folder.path.parent)
        assert finished.returncode == 0, finished.stderr
        assert f"trial {trial}" in texts["page"]
        if plan.provenance.method == "uniform":
            assert f"{shared_widths(plan)}, trial {trial}" in texts["terminal"]
    chosen = result.best.provenance.trial
    for place in ("terminal", "model card"):
        assert f"trial {chosen}" in texts[place]
    # No other numbers than these.
    for text in texts.values():
        assert {int(number) for number in re.findall(r"\btrial (\d+)\b", text)} <= set(plans)


def test_every_cost_that_is_read_has_its_unit(result, texts):
    # A table names the unit in the head of a column, or in each of its cells.
    lines = [line for line in texts["terminal"].splitlines() if "budget 8x" in line or "They cost" in line]
    assert len(lines) == 2
    for line in lines:
        assert len(COST.findall(line)) == 2, line
    rows = [line for line in texts["model card"].splitlines() if line.startswith("| ")]
    titles = {METRICS[metric].title: metric for metric in result.best.costs}
    costs = [row.split(" | ") for row in rows if row.split(" | ")[0].removeprefix("| ") in titles]
    assert len(costs) == len(titles)
    for _, *amounts in costs:
        for amount in amounts:
            assert COST.fullmatch(amount.removesuffix(" |")) or amount.removesuffix(" |") == "—", amount
