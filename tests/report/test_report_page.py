import base64
import json
import re
import zlib
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.report import write_report
from bitsearch.report.page import SCRIPTS, data_island, page_part

HOSTILE = (
    "</script><script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=1>",
    "\"quotes\" & 'more' <!-- ",
    "émoji 🧠 {{ 7 * 7 }} ${x} %{y}",
    "<a href='javascript:window.__pwned=1'>\u2028</a><br><b>\u202eright to left",
)
HOSTILE_COMMAND = "bitsearch run </code><script>window.__pwned=1</script> --budget '4x'"


class Outline(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.islands, self.current = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.current = (tag, dict(attrs).get("id"))

    def handle_data(self, data):
        if self.current and self.current[0] == "script":
            self.islands[self.current[1]] = self.islands.get(self.current[1], "") + data
        elif self.current and self.current[0] != "style":
            self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(folder):
    return Outline(write_report(folder).read_text(encoding="utf-8"))


def test_writes_pareto_html_whole(run_folder):
    path = write_report(run_folder)
    assert path == run_folder.report_file
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [entry.name for entry in run_folder.path.glob(".*")] == []


def test_page_is_accessible_and_complete(run_folder):
    page = read(run_folder)
    assert page.named("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    figures = [attributes for attributes in page.named("div") if attributes.get("role") == "img"]
    assert len(figures) == 7
    assert all(attributes["aria-label"] for attributes in figures)
    assert len(page.named("caption")) == len(page.named("table")) == 5
    assert all(attributes["aria-description"] for attributes in page.named("span") if "data-tip" in attributes)


def test_page_loads_nothing(run_folder):
    page = read(run_folder)
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:").startswith("data:"), tag


def test_the_neuron_is_drawn_once_for_page_and_documentation(run_folder):
    docs = Path(__file__).parents[2] / "docs"
    (link,) = re.findall(r"!\[A neuron: [^\]]*\]\(([^)]*)\)", (docs / "spikes.md").read_text(encoding="utf-8"))
    drawing = (docs / link).read_text(encoding="utf-8")
    assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert drawing.strip() in write_report(run_folder).read_text(encoding="utf-8")


def test_page_says_what_was_asked_and_found(run_folder):
    words = " ".join(" ".join(read(run_folder).text).replace("\xa0", " ").split())
    for expected in (
        "digits within budget 4x",
        "An adaptive plan is ahead on validation:",
        "98.61 %",
        "97.50 %",
        "94.66 % of the limit, 16 bits",
        "bitsearch run --budget 4x --seed 0",
        "that divided by 4: at most 16 bits",
        "bitsearch 0.1.0, torch 2.11.0",
        "digits (split seed 0)",
        "Share of a layer's incoming spikes that are not zero",
        "Test accuracy was read once",
    ):
        assert expected in words


def test_page_shows_every_budget_and_the_targets_limits(make_run_folder, two_budgets):
    folder = make_run_folder(target="power_of_two", budgets=two_budgets, metric="weight_memory")
    words = " ".join(" ".join(read(folder).text).replace("\xa0", " ").split())
    for expected in (
        "digits within budget weight_memory=24KiB, s_ace=2x",
        "28 plans trained for the target power_of_two",
        "target power_of_two Weight memory 64 KiB",
        "The hardware has Working memory, peak of at most 48 KiB.",
        "The budget on Weight memory was given as 24KiB: at most 24 KiB.",
        "a budget of 2x is that divided by 2",
        "Energy, estimated",
        "Latency, estimated",
    ):
        assert expected in words
    for outcome in folder.chosen().budget:
        assert f"{100 * outcome.achieved / outcome.limit:.4g} %" in words
    assert "Cores" not in words


def test_an_axis_that_has_no_budget_is_shown_with_the_budget_beside_it(make_run_folder):
    page = read(make_run_folder(metric="s_ace"))
    words = " ".join(" ".join(page.text).replace("\xa0", " ").split())
    assert "digits within budget bit_budget=4x" in words
    assert "94.66 % of the limit, 16 bits" in words
    assert next(iter(json.loads(page.islands["data"])["metrics"])) == "s_ace"
    pressed = [attributes for attributes in page.named("button") if attributes.get("aria-pressed") == "true"]
    assert [attributes.get("data-metric") for attributes in pressed] == ["s_ace", None, None, None]


def test_page_of_a_real_run_on_a_target(run_on_a_target, copied):
    page = read(copied(run_on_a_target).folder)
    words = " ".join(" ".join(page.text).replace("\xa0", " ").split())
    assert "tiny within budget weight_memory=2KiB, s_ace=4x" in words
    assert "The hardware has Weight memory of at most 1.367 KiB." in words
    for outcome in run_on_a_target.best.budget:
        assert f"{100 * outcome.achieved / outcome.limit:.4g} %" in words
    assert {"correlations-data", "importances-data"}.isdisjoint(page.islands), "two trials say nothing"


def unpacked(page, trial):
    return json.loads(zlib.decompress(base64.b64decode(json.loads(page.islands["details"])[trial])))


def test_every_plan_file_is_in_the_page(run_folder):
    page = read(run_folder)
    for index, plan in enumerate(run_folder.plans()):
        file = run_folder.plan_file(plan.provenance.trial)
        assert unpacked(page, index)["plan"].encode() == file.read_bytes()
    assert len(unpacked(page, 9)["curves"]["x"]) == 20


def test_without_a_log_there_are_no_curves(run_folder):
    (run_folder.path / "log.jsonl").unlink()
    assert unpacked(read(run_folder), 9)["curves"]["words"] == "the run logged none of its epochs."


def test_every_part_of_the_script_stays_small():
    for part in SCRIPTS:
        assert page_part(part).count("\n") < 120


def test_a_uniform_winner_is_named(run_folder, make_plan):
    run_folder.write_plan(make_plan(run_folder.settings, 40, [(3, [4])] * 4, 0.999, "uniform"))
    words = " ".join(" ".join(read(run_folder).text).split())
    assert "A uniform plan is ahead on validation:" in words
    assert "not measured" in words


def test_names_are_data(make_run_folder):
    page = read(make_run_folder(names=HOSTILE, command=HOSTILE_COMMAND))
    assert page.named("img") == []
    assert page.named("a") == []
    # The script that runs has no id; plotly is a packed text.
    assert len(page.named("script")) == len(page.islands)
    words = "".join(page.text)
    assert HOSTILE_COMMAND in words
    for name in HOSTILE:
        assert name in words
    data = json.loads(page.islands["data"])
    assert data["layers"] == list(HOSTILE)
    assert data["hover_layers"][1] == "&lt;img src=x onerror=window.__pwned=1&gt;"
    assert "<" not in "".join(data["hover_layers"]).replace("<br>", "")


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\rb"])
def test_a_metric_is_the_same_in_the_tables_and_in_the_data(name, run_folder):
    for plan in run_folder.plans():
        run_folder.write_plan(plan.model_copy(update={"costs": {**plan.costs, name: 1.0}}))
    page = read(run_folder)
    metrics = set(json.loads(page.islands["data"])["metrics"])
    assert name in metrics
    assert {attributes["data-selected"] for attributes in page.named("td") if "data-selected" in attributes} == metrics
    assert {attributes["data-metric"] for attributes in page.named("button") if "data-metric" in attributes} == metrics


def test_methods_are_data(run_folder, make_plan):
    name = "<img src=x onerror=window.__pwned=1>%{x}"
    run_folder.write_plan(make_plan(run_folder.settings, 40, [(3, [4])] * 4, 0.9, name))
    page = read(run_folder)
    assert page.named("img") == []
    front = json.loads(page.islands["front-data"])["data"]
    assert "<" not in front[3]["name"] + "".join(front[3]["text"])


def test_data_island_cannot_end_its_script():
    island = data_island({"</script>": ["<!--", "&amp;\u2028"]})
    assert not set("<>&\u2028") & set(island)
    assert json.loads(island) == {"</script>": ["<!--", "&amp;\u2028"]}


def test_no_plan_within_the_budget_yet(make_run_folder):
    folder = make_run_folder(budgets=(Budget(metric="bit_budget", requested="64x", limit=1.0),))
    with pytest.raises(InputError, match=r"the nearest plan has 1\.24267 bits; allow more"):
        write_report(folder)
    assert not folder.report_file.exists()
