"""The site as `make docs` builds it: whole, without a link that leads nowhere, and readable from a folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bitsearch
from bitsearch.cli import app
from bitsearch.cost import METRICS
from bitsearch.space import SearchSpace

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.processes, pytest.mark.browser]


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
