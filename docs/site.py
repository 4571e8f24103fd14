"""What the site has beyond the pages of docs/: pages generated from commands, schemas and metrics, and the reports.

mkdocs.yml names this file twice: its functions are hooks of mkdocs, its class an extension of griffe, which reads the
docstrings.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import griffe
import messages
from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

import bitsearch
from bitsearch.cli import app
from bitsearch.cost import METRICS
from bitsearch.cost.target import Target
from bitsearch.plan import BitPlan
from bitsearch.report.definitions import GLOSSARY
from bitsearch.space import SearchSpace

ROOT = Path(__file__).parents[1]
ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`~?([\w.]+)`")
OUTSIDE = re.compile(r"(?<=\]\()(?:\.\./)+(?=(?:reports|bitsearch|docs)/|(?:README|CHANGELOG|CONTRIBUTING)\.md)")
"""How a page links to a file of the repository that is not in docs/."""
SCHEMAS = {
    "spaces": ("Search spaces", "A search space is a TOML file of these tables.", SearchSpace),
    "targets": ("Hardware targets", "A hardware target is a TOML file of these tables.", Target),
    "plans": ("Plans", "A plan is a JSON file of these fields.", BitPlan),
}
"""Page, title, first sentence, and the class that checks such a file."""


class Roles(griffe.Extension):
    """Docstrings name what they mean by Sphinx's roles; the site has links."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(lambda role: f"`{role[1].removeprefix('bitsearch.')}`", obj.docstring.value)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and what pages link to outside docs/."""
    for name, text in _pages():
        if name in files.src_uris:
            files.remove(files.src_uris[name])
        files.append(File.generated(config, name, content=text))
    for path in _repository():
        files.append(File.generated(config, path.as_posix(), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links to the repository's files are links within the site."""
    up = "../" * page.file.src_uri.count("/")
    return OUTSIDE.sub(up, markdown).replace(f"({up}docs/", f"({up}")


def _repository() -> Iterable[Path]:
    yield from (Path("CHANGELOG.md"), Path("CONTRIBUTING.md"), Path("bitsearch/report/assets/neuron.svg"))
    for path in sorted((ROOT / "reports").rglob("*")):
        if path.suffix in {".md", ".png", ".csv", ".html", ".svg"}:
            yield path.relative_to(ROOT)


def _pages() -> Iterable[tuple[str, str]]:
    yield "reference/command-line.md", _command_line()
    yield "reference/python.md", _python()
    yield "reference/metrics.md", _metrics()
    yield "reference/messages.md", messages.reference()
    yield "glossary.md", _glossary()
    yield "architecture.svg", _architecture()
    for name, (heading, sentence, model) in SCHEMAS.items():
        yield f"reference/{name}.md", "\n\n".join([f"# {heading}", sentence, *map(_fields, _models(model))])


def _models(model: type) -> dict[type, None]:
    """A file's class and those of its tables, each once, in the order of the file."""
    seen = {model: None}
    kinds = (
        get_type_hints(model)
        if is_dataclass(model)
        else {name: field.annotation for name, field in model.model_fields.items()}
    )
    for kind in kinds.values():
        for part in _parts(kind):
            if getattr(part, "__module__", "").startswith("bitsearch.") and isinstance(part, type):
                seen |= _models(part)
    return seen


def _parts(kind: Any) -> Iterable[Any]:
    """The types that a type is made of: of ``tuple[A | None, ...]`` A among others."""
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


def _fields(model: type) -> str:
    names = [field.name for field in fields(model)] if is_dataclass(model) else list(model.model_fields)
    options = f"    options:\n      members: [{', '.join(names)}]" if names else "    options:\n      members: false"
    return f"::: {model.__module__}.{model.__qualname__}\n{options}"


def _command_line() -> str:
    """What typer writes of the commands, each on its own level."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command, info_name="bitsearch"), name="bitsearch")
    return text.replace("# `bitsearch`", "# Command line", 1)


def _python() -> str:
    """Every public name: functions first, in the order in which the package lists them."""
    names = sorted(
        (name for name in bitsearch.__all__ if name != "__version__"), key=lambda name: (name[0].isupper(), name)
    )
    modules = ((name, getattr(getattr(bitsearch, name), "__module__", None)) for name in names)
    parts = [f"::: {module or bitsearch._MODULES[name]}.{name}" for name, module in modules]
    return "\n\n".join(["# Python", "Everything that `import bitsearch` offers.", *parts])


def _metrics() -> str:
    parts = [
        "# Metrics",
        "What a budget may limit, and what is on the front's axis. A target says which of them it has.",
    ]
    for metric in METRICS.values():
        unit = f" in {metric.unit}" if metric.unit else ""
        also = f", `{metric.alias}` for short" if metric.alias else ""
        parts += [f"## `{metric.name}`", f"{metric.title}{unit}{also}. {metric.definition}"]
    return "\n\n".join(parts)


def _glossary() -> str:
    """The symbols of notation.md, and every term; ``glossary.html#firing-rate`` leads to one."""
    text = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    rows = [
        f'| <span id="{slugify(term, "-")}">{term}</span> | {sentence} |'
        for term, sentence in sorted(GLOSSARY.items(), key=lambda item: item[0].lower())
    ]
    return "\n".join([text, "", "## Words", "", "| term | what it means |", "|---|---|", *rows, ""])


def _architecture() -> str:
    """The packages as the import contract orders them: each may import those below it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    levels = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rows = [[name.strip().removeprefix("bitsearch.") for name in re.split(r"[|:]", level)] for level in levels]
    single, width, height = [row for row in rows if all((ROOT / "bitsearch" / name).is_dir() for name in row)], 720, 34
    drawing = []
    for level, names in enumerate(single):
        size = (width - 10 * (len(names) - 1)) / len(names)
        for place, name in enumerate(names):
            x, y = place * (size + 10), level * (height + 12)
            drawing.append(
                f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" height="{height}" rx="6" '
                'fill="#607d8b22" stroke="#607d8b"/>'
                f'<text x="{x + size / 2:.1f}" y="{y + 22}" text-anchor="middle" fill="#607d8b">{name}/</text>'
            )
    bottom = len(single) * (height + 12)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width + 4} {bottom}" font-family="sans-serif" '
        f'font-size="15">{"".join(drawing)}</svg>'
    )
