"""The site as `make docs` builds it: whole, without a link that leads nowhere, and readable from a folder."""

import html
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from markdown.extensions.toc import slugify

import bitsearch
from bitsearch.cli import app
from bitsearch.cost import METRICS
from bitsearch.report.definitions import GLOSSARY, TERMS
from bitsearch.space import SearchSpace

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
messages = import_module("messages")
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
pytestmark = [pytest.mark.training, pytest.mark.processes, pytest.mark.browser]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # ruff formats the signatures
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


def anchors(site, page):
    return set(re.findall(r' id="([^"]+)"', (site / page).read_text(encoding="utf-8")))


def test_the_reference_has_every_name_command_setting_and_metric(site):
    python = anchors(site, "reference/python.html")
    for name in set(bitsearch.__all__) - {"__version__"}:
        assert any(anchor.endswith(f".{name}") for anchor in python), name
    commands = anchors(site, "reference/command-line.html")
    assert {f"bitsearch-{command.name}" for command in app.registered_commands} <= commands
    spaces = anchors(site, "reference/spaces.html")
    assert {f"bitsearch.space.SearchSpace.{name}" for name in SearchSpace.model_fields} <= spaces
    assert {metric.name for metric in METRICS.values()} <= anchors(site, "reference/metrics.html")


def test_the_glossary_has_every_term_of_the_page(site):
    page = html.unescape(re.sub(r"<[^>]+>", "", (site / "glossary.html").read_text(encoding="utf-8")))
    assert TERMS.items() <= GLOSSARY.items()
    assert all(f"{term}\n{sentence}\n" in page for term, sentence in GLOSSARY.items())


def test_trouble_tells_of_messages_that_the_code_has_and_the_reference_has_them_all(site):
    known = [message.text for message in messages.messages()]
    quoted = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) >= 20
    for quote in quoted:
        assert any(quote in text for text in known), quote
    page = html.unescape((site / "reference" / "messages.html").read_text(encoding="utf-8"))
    assert all(text.strip("`") in page for text in known)


def test_the_page_is_read_from_top_to_bottom():
    text = (ROOT / "docs" / "reading-the-page.md").read_text(encoding="utf-8")
    page = (ROOT / "bitsearch" / "report" / "assets" / "page.html.jinja").read_text(encoding="utf-8")
    page = page.replace("{{ score.name[:1].upper() ~ score.name[1:] }}", "Accuracy")
    shown = re.findall(r"<h2[^>]*>(.+?)</h2>", page)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [title for title in shown if title != "What the words mean"]


def test_the_picture_of_the_packages_is_that_of_the_import_rules(site):
    assert (site / "architecture.svg").read_bytes() == (ROOT / "docs" / "architecture.svg").read_bytes()


def test_nothing_is_loaded_from_elsewhere_and_the_search_finds_words(site, browser):
    page = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True).new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.goto((site / "index.html").as_uri())
    page.locator("[data-md-component=search-query]").click()
    page.keyboard.type("membrane")
    link = page.locator(".md-search-result__link").first
    link.wait_for()
    assert link.get_attribute("href").startswith("file:")
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert not complaints


@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_lies_here_without_outputs_and_is_shown_with_them(notebook, site):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]
    page = (site / "tutorials" / notebook.stem).with_suffix(".html").read_text(encoding="utf-8")
    assert page.count('<div class="highlight">') >= len(code)
    assert "<svg" in page or "<img" in page
    assert "Warning:" not in page
    assert (site / "tutorials" / notebook.name).read_bytes() == notebook.read_bytes()


def test_every_tutorial_is_in_the_navigation():
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.SafeLoader)
    (tutorials,) = [part["Tutorials"] for part in settings["nav"] if "Tutorials" in part]
    assert {page for entry in tutorials for page in entry.values()} == {
        f"tutorials/{path.stem}.md" for path in TUTORIALS
    }


class Links(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.anchors = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.targets.add(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def test_every_link_of_the_site_leads_somewhere(site):
    # The page for what is not there knows no folder that it lies in; reports are tested where they are made.
    found = [path for path in site.rglob("*.html") if "reports" not in path.parts and path.name != "404.html"]
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in found}
    broken = defaultdict(list)
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if parts.scheme not in ("https", "data", "mailto"):
                    broken[path].append(target)
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            anchor = unquote(parts.fragment)
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].anchors | {"__search"}):
                broken[path].append(target)
    assert not broken


def test_every_anchor_that_the_readme_links_to_is_there():
    for file, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        text = (ROOT / (file or "README.md")).read_text(encoding="utf-8")
        assert anchor in {slugify(heading, "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}, (
            file,
            anchor,
        )
