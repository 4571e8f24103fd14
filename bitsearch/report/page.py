"""The page: everything a run folder holds, in one HTML file that needs nothing else, network included."""

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import plotly.io
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bitsearch.plan import write_whole
from bitsearch.report import format as text
from bitsearch.report.definitions import definitions
from bitsearch.report.front_figure import accuracy_ranges, front_figure, metrics
from bitsearch.report.layers_figure import layers_figure
from bitsearch.report.origin import baseline_words, facts, first_layer_words
from bitsearch.report.plans_table import plans_table
from bitsearch.report.search_figure import search_figure, search_records
from bitsearch.report.verdict import headline, is_uniform, name, reason
from bitsearch.search.run_folder import RunFolder


def write_report(folder: RunFolder) -> Path:
    """Write ``pareto.html`` of a run and return its path.

    The file holds all it shows: styles, scripts, figures. Opening it makes no request.

    Raises:
        InputError: no finished trial meets the budget yet, a file of the run cannot be read, or the page not written.
    """
    write_whole(folder.report_file, render(folder))
    return folder.report_file


def render(folder: RunFolder) -> str:
    """The page's HTML."""
    settings, plans, chosen = folder.settings, folder.plans(), folder.chosen()
    names = metrics(plans, settings.metric)
    front = front_figure(plans, chosen, settings)
    records = search_records(folder.log(), chosen.provenance.trial)
    figures: dict[str, Any] = {"front": front.figure, "layers": layers_figure(chosen)}
    if records:
        figures["search"] = search_figure(records, settings)
    scripts = {"plotly": _script(get_plotlyjs()), "page": _script(_part("page.js"))}
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            settings=settings,
            plans=plans,
            chosen=chosen,
            chosen_name=name(chosen),
            uniform_won=is_uniform(chosen),
            uniform_count=sum(is_uniform(plan) for plan in plans),
            headline=headline(chosen),
            reason=reason(plans, chosen, settings.metric),
            baseline=baseline_words(settings),
            first_layer=first_layer_words(settings),
            facts=facts(settings),
            table=plans_table(plans, chosen, settings, names),
            definitions=definitions(names),
            metrics=names,
            searched=bool(records),
            text=text,
            style=Markup(_part("page.css")),  # nosec B704
            scripts=scripts,
            policy=" ".join(f"'{_digest(script)}'" for script in scripts.values()),
            figures={key: data_island(figure) for key, figure in figures.items()},
            views=data_island({"metrics": front.views, "accuracy": accuracy_ranges(plans, settings)}),
        )
    )


def data_island(content: Any) -> Markup:
    """JSON for a ``<script type="application/json">``; none of its text can end that script or open a tag."""
    written: str = plotly.io.to_json(content, validate=False) or "null"
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)  # nosec B704


def _script(source: str) -> Markup:
    if "</script" in source.lower():
        raise AssertionError("a script of the report would end early")
    return Markup(source.replace("\r\n", "\n"))  # nosec B704


def _digest(script: str) -> str:
    """What the page's content security policy knows a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _part(name: str) -> str:
    return resources.files("bitsearch.report").joinpath(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    loader = PackageLoader("bitsearch.report", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
