"""Tables for the terminal."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitsearch import text as formats
from bitsearch.report.comparison import comparison_table
from bitsearch.report.history import class_counts, sample_counts
from bitsearch.report.plans_table import table_metrics
from bitsearch.report.savings import savings_words
from bitsearch.runs.drop import drop_text
from bitsearch.runs.plan_names import full_name, is_uniform, kind
from bitsearch.runs.sweep import sweep_plans

if TYPE_CHECKING:
    from bitsearch.plan import BitPlan
    from bitsearch.study.compare import Comparison
    from bitsearch.study.result import SearchResult

MAX_BASELINE_ROWS = 8
"""Number of uniform baselines that the table has at most."""
LABEL_WIDTH = 19
"""Of a plan's label in the table; with more, eighty columns would not hold it."""


def print_result(result: "SearchResult", page: Path, console: Console) -> None:
    """Print the chosen plan, uniform baselines and full precision, the plan's layers, and the paths of the results."""
    best, settings, within = result.best, result.folder.settings, result.within_one_standard_error
    console.print(_plans(result))
    if within is not None and within != best:
        console.print(
            "Within 1 SE: the cheapest plan within one standard error of the best; export --one-se writes it."
        )
    if len(result.uniform) > MAX_BASELINE_ROWS:
        console.print(f"({len(result.uniform) - MAX_BASELINE_ROWS} more uniform baselines in the report.)")
    _print_samples(result.folder.log(), console)
    console.print(_layers(best))
    for budget, outcome in zip(settings.budgets, best.budget, strict=False):
        achieved, limit = (formats.cost(outcome.metric, value, 6) for value in (outcome.achieved, outcome.limit))
        budget_text = outcome.requested if budget.of_target else f"budget {outcome.requested}"
        console.print(f"{budget_text}: {formats.title(outcome.metric)} {achieved} of at most {limit}", highlight=False)
    if settings.sweep:
        console.print(_sweep(result))
    drop = drop_text(result.folder)
    if drop is not None:
        console.print(Text(drop), highlight=False)
    for sentence in savings_words(best, settings):
        console.print(Text(sentence), highlight=False)
    if result.confirmed:
        console.print(_confirmed(result))
    console.print(Text(result.verdict.text), highlight=False)
    for label, path in (("plan", result.folder.chosen_file), ("report", page), ("run", result.folder.path)):
        console.print(f"{label:<7}{path}", highlight=False, soft_wrap=True)


def _plans(result: "SearchResult") -> Table:
    """The chosen plan, uniform baselines and full precision, with scores and costs."""
    best, settings, within = result.best, result.folder.settings, result.within_one_standard_error
    metrics = table_metrics(settings, list(best.costs))
    marked = [("chosen", best, "bold green")]
    marked += [("within 1 SE", within, "")] if within is not None and within != best else []
    uniform = [("", plan, "") for plan in result.uniform[:MAX_BASELINE_ROWS] if plan != best]
    rows = [(_label(plan, mark), plan.measured, plan.costs, style) for mark, plan, style in (*marked, *uniform)]
    reference = settings.reference
    label = "full precision" if reference is None else f"full precision\n({reference})"
    rows.append((label, settings.full_precision, {} if reference is None else reference.costs, ""))
    table = Table(title=f"{settings.space.name} at {settings.request}", title_justify="left")
    table.add_column("plan", min_width=_widest(line for label, *_ in rows for line in label.split("\n")))
    score = best.measured.score
    bare = score.model_copy(update={"unit": ""})
    scores = [
        [formats.score_text(value, bare) for value in (measured.validation, measured.test)]
        for _, measured, _, _ in rows
    ]
    for split, column_scores in zip(("validation", "test"), zip(*scores, strict=True), strict=True):
        named = [] if best.score is None else [*score.name.split(), *(f"in {score.unit}".split() if score.unit else ())]
        head = "\n".join([split, *named])
        table.add_column(head, justify="right", min_width=_widest((*column_scores, *head.split("\n"))))
    amounts = [[formats.amount(name, costs.get(name)) for name in metrics] for _, _, costs, _ in rows]
    for metric, column_amounts in zip(metrics, zip(*amounts, strict=True), strict=True):
        # A word a line, and no amount broken, so that eighty columns hold the table.
        lines = _head(metric)
        table.add_column(lines, justify="right", min_width=_widest((*column_amounts, *lines.split("\n"))))
    for (label, _, _, style), row_scores, row_amounts in zip(rows, scores, amounts, strict=True):
        table.add_row(Text(label), *row_scores, *row_amounts, style=style)
    return table


def _head(metric: str) -> str:
    """Of a column of costs: a word of the metric's title a line, and the unit that the amounts leave out."""
    words = formats.title(metric).split() + [f"in {word}" for word in [formats.column_unit(metric)] if word]
    return "\n".join(words).replace("in bit ", "in bit\n")


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts))


def _label(plan: "BitPlan", mark: str) -> str:
    """``w2 s4 T1, trial 15`` or ``adaptive, trial 3``, below what marks it; in two lines where one would be long."""
    widths = formats.shared_widths(plan) if is_uniform(plan) else None
    parts = [f"{widths or kind(plan)},", f"trial {plan.provenance.trial}"]
    return f"{mark}:\n" * bool(mark) + (" " if cell_len(" ".join(parts)) <= LABEL_WIDTH else "\n").join(parts)


def _print_samples(log: "list[dict[str, Any]]", console: Console) -> None:
    """What the scores are of, and of classes what is got right by always answering the largest class."""
    samples, classes = sample_counts(log), class_counts(log)
    if samples:
        parts = ", ".join(f"{count:,} {name}" for name, count in samples.items() if name != "train")
        largest = f"; largest class of validation: {formats.largest_class(classes)}" if classes else ""
        console.print(Text(f"samples: {parts}{largest}"), highlight=False)


def print_comparison(comparison: "Comparison", page: Path, console: Console) -> None:
    """Print one line a method, and the paths of the results."""
    forms = [_comparison(comparison, *breaks) for breaks in ((" ", " ± "), ("\n", " ± "), ("\n", "\n± "))]
    wide = console.options.update(width=10**6)
    table = next((form for form in forms if console.measure(form, options=wide).maximum <= console.width), forms[-1])
    console.print(table)
    for seed, verdict in comparison.verdicts.items():
        console.print(Text(f"seed {seed}: {verdict.text}"), highlight=False)
    for label, path in (("table", comparison.path / "comparison.csv"), ("page", page), ("runs", comparison.path)):
        console.print(f"{label:<7}{path}", highlight=False, soft_wrap=True)


def _comparison(comparison: "Comparison", in_name: str, between: str) -> Table:
    """One row a method; what stands between words of its name, and between mean and deviation, may break the line."""
    settings = comparison.runs[0].folder.settings
    titles, rows = comparison_table(comparison)
    table = Table(title=f"{settings.space.name} at {settings.request}", title_justify="left")
    table.add_column("method", min_width=_widest(word for row in rows for word in row.method.split()))
    for title in titles:
        # A word a line, and no amount broken, so that eighty columns hold the table.
        words = title.replace(" in ", " in\N{NO-BREAK SPACE}").split(" ")
        table.add_column("\n".join(words), justify="right", no_wrap=True)
    for row in rows:
        cells = (Text(cell.text.replace(" ± ", between), "bold green" if cell.best else "") for cell in row.cells)
        table.add_row(in_name.join(row.method.split()), *cells)
    return table


def _sweep(result: "SearchResult") -> Table:
    table, metric = Table(title="The plan within each budget", title_justify="left"), result.folder.settings.metric
    for column in ("budget", "plan", "validation", "test", _head(metric)):
        table.add_column(column, justify="left" if column in ("budget", "plan") else "right")
    for stop, plan in sweep_plans(result.folder):
        if plan is None:
            table.add_row(Text(stop.requested), formats.MISSING)
            continue
        measured = [formats.measured_text(plan, split) for split in ("validation", "test")]
        amount = formats.amount(metric, plan.costs[metric])
        table.add_row(Text(stop.requested), Text(full_name(plan)), *measured, amount)
    return table


def _confirmed(result: "SearchResult") -> Table:
    """The finalists trained anew, mean ± standard deviation over further seeds."""
    table = Table(title="The finalists, trained with further seeds", title_justify="left")
    table.add_column("plan", no_wrap=True)
    for column in ("seeds", "validation", "test"):
        table.add_column(column, justify="right", no_wrap=True)
    score = result.best.measured.score
    for plan in result.confirmed:
        spreads = (formats.score_spread(plan.validation, score), formats.score_spread(plan.test, score))
        table.add_row(Text(full_name(result.folder.plan(plan.trial))), str(len(plan.seeds)), *spreads)
    return table


def _layers(plan: "BitPlan") -> Table:
    table = Table(title="The chosen plan", title_justify="left")
    widths = any(layer.membrane_bits for layer in plan.layers.values())
    for column in ("layer", "weight bits", "spike bits per step", "time steps", *(["membrane bits"] if widths else [])):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for name, layer in plan.layers.items():
        spikes = " ".join(str(bits) for bits in layer.spike_bits)
        membrane = [str(layer.membrane_bits or "")] if widths else []
        table.add_row(Text(name), str(layer.weight_bits), spikes, str(layer.time_steps), *membrane)
    return table
