"""The page as a browser shows it, with the network cut off."""

import shutil
from contextlib import contextmanager

import pytest

from bitsearch.report import write_report

pytestmark = pytest.mark.browser
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = (
    "</script><script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=1>",
    "\"quotes\" & 'more' <!-- ",
    "émoji 🧠 {{ 7 * 7 }} ${x} %{y}",
    "<a href='javascript:window.__pwned=1'>x</a><br><b>",
)


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        pytest.skip(f"NOT TESTED: the report in a browser; none of {', '.join(CHROMIUMS)} is installed")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: the report; playwright is not installed"
    )
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=executable, args=list(SWITCHES))
        yield started
        started.close()


@contextmanager
def opened(browser, folder, width=1200, **options):
    """The report in a page without network; fails on any complaint in the console and any request but for files."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(write_report(folder).absolute().as_uri())
    page.wait_for_selector("#front .points path")
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def points(page):
    return page.evaluate("document.getElementById('front').data.map(trace => trace.x.length)")


def marks(page):
    return page.locator("#front .scatterlayer .points path").count()


def test_every_trial_is_drawn(browser, run_folder):
    with opened(browser, run_folder) as page:
        assert page.title() == "digits within budget 4x · bitsearch report"
        assert points(page)[1:] == [13, 14, 1]
        assert marks(page) == 28
        assert page.locator("#layers .points path").count() == 15
        assert page.locator("#search .scatterlayer .js-line").count() == 4


def test_limit_stands_where_its_cost_is(browser, run_folder):
    with opened(browser, run_folder) as page:
        at_limit, tick = page.evaluate(
            """() => {
                const lines = [...document.querySelectorAll('#front .shapelayer path')];
                const line = lines.find(path => path.style.stroke === 'rgb(204, 121, 167)').getBoundingClientRect();
                const ticks = [...document.querySelectorAll('#front .xtick text')];
                const tick = ticks.find(text => text.textContent === '16').getBoundingClientRect();
                return [line.x + line.width / 2, tick.x + tick.width / 2];
            }"""
        )
        assert at_limit == pytest.approx(tick, abs=1.5)


def test_hover_shows_bits(browser, run_folder):
    with opened(browser, run_folder) as page:
        star = page.locator("#front .scatterlayer .trace").nth(3).locator(".points path")
        star.scroll_into_view_if_needed()
        box = star.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("#front .hovertext")
        words = page.locator("#front .hovertext").text_content()
        assert "trial 9, adaptive" in words
        assert "conv4  w2  s3,2  T2" in words.replace("\xa0", " ")


def test_metric_switches(browser, run_folder):
    with opened(browser, run_folder) as page:
        for metric in run_folder.chosen().costs:
            page.click(f"button[data-metric={metric}]")
            page.wait_for_function(
                "cost => document.getElementById('front').data[3].x[0] === cost", arg=run_folder.chosen().costs[metric]
            )
            assert page.get_attribute(f"button[data-metric={metric}]", "aria-pressed") == "true"
            assert page.locator("button[data-metric][aria-pressed=true]").count() == 1
            assert marks(page) == 28
            expected = {"bit_budget": 3, "ns_ace": 1, "synops": 1}.get(metric, 2)
            assert page.locator("#front .shapelayer path").count() == expected
        page.click("button[data-metric=weight_memory]")
        page.wait_for_function("document.querySelector('#front .xtitle').textContent.startsWith('Weight')")
        title = page.locator("#front .xtitle").text_content()
        assert title.startswith("Weight memory")


PURPLE = "rgb(204, 121, 167)"


def limits(page):
    """How many lines of budgets and of the target's limits there are."""
    return page.evaluate(
        "purple => [...document.querySelectorAll('#front .shapelayer path')]"
        ".filter(path => path.style.stroke === purple).length",
        PURPLE,
    )


def test_several_budgets_are_lines_on_their_own_axes(browser, make_run_folder, two_budgets):
    folder = make_run_folder(target="power_of_two", budgets=two_budgets, metric="weight_memory")
    with opened(browser, folder) as page:
        assert page.title().startswith("digits within budget weight_memory=24KiB, s_ace=2x")
        assert page.locator("button[data-metric][aria-pressed=true]").get_attribute("data-metric") == "weight_memory"
        tiles = page.locator(".tiles dt").all_text_contents()
        assert tiles.count("S-ACE") == tiles.count("Working memory, peak on target power_of_two") == 1
        # What the chip has of working memory lies far beyond every plan.
        expected = {"weight_memory": 2, "s_ace": 1}
        for metric, cost in folder.chosen().costs.items():
            page.click(f"button[data-metric={metric}]")
            page.wait_for_function("cost => document.getElementById('front').data[3].x[0] === cost", arg=cost)
            assert limits(page) == expected.get(metric, 0)
            assert marks(page) == 28
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_a_real_run_on_a_target_is_shown_without_a_complaint(browser, run_on_a_target):
    folder = run_on_a_target.folder
    with opened(browser, folder, width=400) as page:
        assert marks(page) == len(folder.plans())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        labels = " ".join(page.locator("#front .annotation").all_text_contents()).replace("\xa0", " ")
        assert "budget 2KiB: 2 KiB" in labels
        assert "target mine: 1.367 KiB" in labels
        for metric in folder.chosen().costs:
            page.click(f"button[data-metric={metric}]")
        assert limits(page) == 0


def test_an_axis_without_a_budget_has_no_limit(browser, make_run_folder):
    with opened(browser, make_run_folder(metric="s_ace")) as page:
        assert limits(page) == 0
        assert page.locator("#search .shapelayer path").count() == 0
        page.click("button[data-metric=bit_budget]")
        page.wait_for_function("document.getElementById('front').data[3].x[0] < 100")
        assert limits(page) == 1


def test_accuracy_axis_switches_and_stays(browser, run_folder):
    with opened(browser, run_folder) as page:
        low = "document.getElementById('front').layout.yaxis.range[0]"
        assert page.evaluate(low) < 74.17
        page.click("button[data-accuracy=better]")
        page.wait_for_function(f"{low} > 90")
        page.click("button[data-metric=s_ace]")
        page.wait_for_function("document.getElementById('front').data[3].x[0] > 1e6")
        assert page.evaluate(low) > 90


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser, run_folder, scheme):
    with opened(browser, run_folder, color_scheme=scheme) as page:
        luminances = page.evaluate(
            """() => {
                const light = colour => {
                    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map(part => part / 255);
                    const linear = parts.map(p => p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4);
                    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
                };
                const of = (selector, property) => light(getComputedStyle(document.querySelector(selector))[property]);
                return {
                    card: of('section', 'backgroundColor'),
                    texts: [
                        of('h2', 'color'), of('.soft', 'color'), of('td strong', 'color'), of('summary', 'color'),
                        of('#front .xtick text', 'fill'), of('#front .legendtext', 'fill'),
                    ],
                };
            }"""
        )
        for text in luminances["texts"]:
            bright, dim = max(text, luminances["card"]), min(text, luminances["card"])
            assert (bright + 0.05) / (dim + 0.05) >= 4.5


@pytest.mark.parametrize("width", [400, 768])
def test_fits_narrow_windows(browser, run_folder, width):
    with opened(browser, run_folder, width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#front .main-svg").first.bounding_box()["width"] <= width


def test_hostile_names_run_nothing(browser, make_run_folder):
    folder = make_run_folder(names=HOSTILE, command="run </code><script>window.__pwned=1</script>")
    with opened(browser, folder, width=400) as page:
        for selector in ("#front .scatterlayer .trace:nth-child(4) .points path", "#layers .points path >> nth=1"):
            box = page.locator(selector).bounding_box()
            page.evaluate("y => scrollTo(0, y - 400)", box["y"] + page.evaluate("scrollY"))
            box = page.locator(selector).bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_selector(".hovertext")
        page.click("button[data-metric=s_ace]")
        assert marks(page) == 28
        assert page.evaluate("window.__pwned") is None
        assert page.locator("img, main a, svg image").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator("tbody th").first.text_content() == HOSTILE[0]
        ticks = page.locator("#layers .ytick text").all_text_contents()
        assert ticks[0].startswith("</script")


def test_prints_within_the_paper(browser, run_folder):
    with opened(browser, run_folder) as page:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function("document.querySelector('#front .main-svg').getBoundingClientRect().width === 660")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.wait_for_function("document.querySelector('#front .main-svg').getBoundingClientRect().width > 700")
