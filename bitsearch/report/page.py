"""The page: the content of a run folder in one HTML file, which needs no other file and no connection."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from bitsearch import text as text
from bitsearch.files import write_whole
from bitsearch.plan import BitPlan
from bitsearch.report.definitions import definitions
from bitsearch.report.front_figure import front_figure
from bitsearch.report.history import TrialHistory, class_counts, histories, sample_counts
from bitsearch.report.origin import baseline_words, facts, first_layer_words, unquantized_facts
from bitsearch.report.page_data import page_data, parallel_data
from bitsearch.report.plans_table import plans_table, table_metrics
from bitsearch.report.savings import savings_words
from bitsearch.report.sensitivity import sensitivity_figures, sensitivity_of, sensitivity_panel
from bitsearch.report.study_figures import (
    FEW_TRIALS,
    correlation_figure,
    curves_figure,
    front_heat_figure,
    hypervolume_figure,
    importance_figure,
    parallel_figure,
    shares_figure,
)
from bitsearch.report.trial_details import packed_details
from bitsearch.runs.confirmed import confirmed
from bitsearch.runs.drop import drop_text
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import cheapest_within_one_standard_error
from bitsearch.runs.pareto import best_plan
from bitsearch.runs.plan_names import hover_name, is_uniform, name
from bitsearch.runs.test_split import verdict_of
from bitsearch.study.analysis import hypervolumes, importances, layer_correlations
from bitsearch.study.study import finished_trials

SCRIPTS = (
    "plotly_loader.js",
    "elements.js",
    "trials.js",
    "paper.js",
    "figures.js",
    "front.js",
    "budget_slider.js",
    "plan_cards.js",
    "layer_figures.js",
    "trials_table.js",
    "parallel_lines.js",
    "page.js",
)
"""The parts of the page's script: each defines what those behind it call, and the last calls them."""
PLAIN_SCRIPTS = ("plotly_loader.js", "paper.js", "plain_figures.js")
"""Likewise of a page whose figures answer to nothing else on it."""


def write_report(folder: RunFolder) -> Path:
    """Write ``pareto.html`` of a run and return its path.

    The file contains its styles, scripts, figures and all plans. Opening it makes no request.

    Raises:
        InputError: no finished trial meets the budget yet, a file of the run cannot be read, or the page not written.

    >>> bitsearch.write_report(bitsearch.RunFolder.open("run")).name
    'pareto.html'
    """
    write_whole(folder.report_file, render(folder))
    return folder.report_file


def render(folder: RunFolder) -> str:
    """The page's HTML."""
    settings, plans = folder.settings, folder.plans()
    # Without such a plan, the folder raises the InputError that says why.
    chosen_plan = best_plan(plans, settings.metric) or folder.chosen()
    within = cheapest_within_one_standard_error(folder)
    log = folder.log()
    classes, drop = class_counts(log), drop_text(folder)
    score = settings.score.name
    goal = {} if drop is None else {f"{score[:1].upper()}{score[1:]} goal": drop}
    front, views = front_figure(plans, chosen_plan, settings, within, confirmed(folder))
    names = list(views)
    finished = finished_trials(folder)
    data = page_data(folder, plans, chosen_plan, views) | parallel_data(plans, finished)
    histories_by_trial = histories(log)
    islands: dict[str, Any] = {
        "data": data,
        "details": [
            packed_details(folder, plan, histories_by_trial.get(plan.provenance.trial, TrialHistory()))
            for plan in plans
        ],
        "heat-data": front_heat_figure(data["layers"]),
        "curves-data": curves_figure(data["layers"], settings.score),
        "parallel-data": parallel_figure(),
        "shares-data": shares_figure(data["layers"]),
        "front-data": front,
    }
    figures = _study_figures(folder, plans, finished)
    sensitivities = sensitivity_of(folder)
    if sensitivities is not None:
        figures |= sensitivity_figures(sensitivities)
    islands |= {f"{key}-data": figure for key, figure in figures.items()}
    source = script("".join(map(page_part, SCRIPTS)))
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            settings=settings,
            plans=plans,
            chosen=chosen_plan,
            score=chosen_plan.measured.score,
            chosen_name=name(chosen_plan),
            uniform_count=sum(is_uniform(plan) for plan in plans),
            verdict=verdict_of(folder),
            savings=savings_words(chosen_plan, settings),
            baseline=baseline_words(settings),
            first_layer=first_layer_words(settings, chosen_plan),
            facts=facts(settings, sample_counts(log), classes, [plan.provenance.seed for plan in plans])
            | unquantized_facts(chosen_plan)
            | goal,
            table=plans_table(plans, chosen_plan, settings, table_metrics(settings, names), within),
            definitions=definitions(names, settings.score),
            data=data,
            figures=figures,
            sensitivity=None if sensitivities is None else sensitivity_panel(sensitivities),
            few=FEW_TRIALS,
            correlated=sum(not is_uniform(plan) and plan.measured.validation is not None for plan in plans),
            varied=sum(bool(trial.params) for trial in finished),
            most_steps=sorted({max(layer.time_steps for layer in plan.layers.values()) for plan in plans}),
            largest_class=text.largest_class(classes) if classes else None,
            text=text,
            style=Markup(page_part("page.css")),  # nosec B704
            plotly=packed_plotly(),
            script=source,
            policy=policy(source),
            heights={key.removesuffix("-data"): _height(content) for key, content in islands.items()},
            islands={key: data_island(content) for key, content in islands.items()},
        )
    )


def _study_figures(folder: RunFolder, plans: list[BitPlan], finished: Sequence[Any]) -> dict[str, go.Figure]:
    """The figures over all trials for which there are enough trials."""
    metric = folder.settings.metric
    measured = [plan for plan in plans if plan.measured.validation is not None]
    names = [hover_name(plan, several_seeds=False) for plan in measured]
    # A single trial is no growth.
    figures = {"hypervolume": hypervolume_figure(hypervolumes(plans, metric), names)} if len(measured) > 1 else {}
    correlations = layer_correlations(plans)
    if len(correlations):
        searched = [plan for plan in measured if not is_uniform(plan)]
        figures["correlations"] = correlation_figure(correlations, len(searched))
    shares = importances(finished)
    if shares:
        varied = sum(bool(trial.params) for trial in finished)
        figures["importances"] = importance_figure(shares, varied, folder.settings.score)
    return figures


def _height(content: Any) -> int:
    """The height of a figure in pixels, which the page reserves before it is drawn; 0 for other data."""
    return int(content.layout.height) if isinstance(content, go.Figure) else 0


def data_island(content: Any) -> Markup:
    """JSON for a ``<script type="application/json">``, escaped so that it can neither end the script nor open a tag."""
    if isinstance(content, go.Figure):
        json_text: str = plotly.io.to_json(content, validate=False) or "null"
    else:
        json_text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        json_text = json_text.replace(character, f"\\u{ord(character):04x}")
    return Markup(json_text)  # nosec B704


@cache
def packed_plotly() -> str:
    """Base64 of plotly's deflated script, which the page unpacks; the package has only the whole of it."""
    return base64.b64encode(zlib.compress(_plotly().encode(), 9)).decode()


@cache
def _plotly() -> str:
    source: str = get_plotlyjs()
    return source


def policy(source: str) -> str:
    """The scripts that the page's content security policy allows: plotly, and its own."""
    return f"'{digest(_plotly())}' '{digest(source)}'"


def script(source: str) -> Markup:
    """The text of a script for the page; AssertionError if the text would end its script element."""
    if "</script" in source.lower():
        raise AssertionError("a script of the report would end early")
    return Markup(source.replace("\r\n", "\n"))  # nosec B704


def digest(source: str) -> str:
    """The hash of a script for the page's content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def page_part(name: str) -> str:
    """The text of a style sheet or script in this package's ``assets``."""
    return resources.files("bitsearch.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """The templates' environment, which escapes all values; one for all pages, since a template is compiled once."""
    return Environment(
        loader=PackageLoader("bitsearch.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_with_carriage_returns,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _with_carriage_returns(value: Any) -> Any:
    """A text in which they are references: a browser reads a literal one as a line feed, so that names differ."""
    if isinstance(value, Markup) or not (isinstance(value, str) and "\r" in value):
        return value
    return Markup(str(escape(value)).replace("\r", "&#13;"))  # nosec B704
