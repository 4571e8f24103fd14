"""The page as a browser shows it, with the network cut off."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from conftest import make_run
from large_run import make_large_run
from opened_page import opened_file

from bitsearch.report import write_comparison, write_report
from bitsearch.runs.select import select_plan
from bitsearch.study.compare import Comparison
from bitsearch.study.result import SearchResult
from bitsearch.text import short_names

pytestmark = pytest.mark.browser
HOSTILE = (
    "</script><script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=1>",
    "\"quotes\" & 'more' <!-- ",
    "émoji 🧠 {{ 7 * 7 }} ${x} %{y}",
    "<a href='javascript:window.__pwned=1'>x</a><br><b>\u202eright to left",
)


def opened(browser, folder, width=1200, **options):
    """The report of a run, once it shows a plan."""
    return opened_file(browser, write_report(folder), "#selected-plan tbody tr", width, **options)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A made-up run that tests only read."""
    return make_run(tmp_path_factory.mktemp("made-up") / "digits-run")


@pytest.fixture(scope="module")
def shared_page(browser, made_up):
    """(its report, the place of the slider); most of a test's time is the page's own start."""
    with opened(browser, made_up) as page:
        yield page, page.evaluate("budget.value")


@pytest.fixture
def page(shared_page):
    """The same, put back to what it showed first once a test has selected, pinned and filtered plans."""
    page, place = shared_page
    yield page
    page.mouse.move(0, 0)
    page.evaluate("document.querySelector('button[type=reset]').click()")
    press(page, "Escape")
    page.evaluate("place => { budget.value = place; budget.dispatchEvent(new Event('input')) }", place)
    shown(page, 9)
    wait_for_marks(page, 28)
    page.evaluate("scrollTo(0, 0)")


PLACES = """() => {
    const front = document.getElementById("front");
    const box = front.getBoundingClientRect();
    const { xaxis, yaxis } = front._fullLayout;
    const isPlan = ({ customdata, name }) => customdata && !name.startsWith("Cheapest within");
    return front.data.map(({ x, y, ...trace }) => isPlan(trace) ? x.map((value, at) => value === null ? null :
        [box.x + xaxis._offset + xaxis.d2p(value), box.y + yaxis._offset + yaxis.d2p(y[at])]) : []);
}"""
"""Of every trace of plans, where its points belong in the window; null for those left out."""
MARKS = f"""() => {{
    const canvas = document.getElementById("points");
    const [box, copy] = [canvas.getBoundingClientRect(), document.createElement("canvas")];
    Object.assign(copy, {{ width: canvas.width, height: canvas.height }});
    const brush = copy.getContext("2d", {{ willReadFrequently: true }});
    brush.drawImage(canvas, 0, 0);
    const [scale, steps] = [canvas.width / box.width, Array.from({{ length: 25 }}, (_, at) => (at - 12) / 2)];
    const pixels = brush.getImageData(0, 0, copy.width, copy.height).data;
    const seen = (x, y) => pixels[4 * (Math.round(scale * y) * copy.width + Math.round(scale * x)) + 3] > 0;
    const painted = ([x, y]) => steps.some((step) => seen(x - box.x + step, y - box.y));
    const stars = document.querySelectorAll("#front .scatterlayer .trace:last-child .points path").length;
    return stars + ({PLACES})().slice(0, -1).flat().filter((place) => place && painted(place)).length;
}}"""


def marks(page):
    """How many trials are seen on the front: painted where they belong, or the star."""
    return page.evaluate(MARKS)


def wait_for_marks(page, count):
    page.wait_for_function(f"count => ({MARKS})() === count", arg=count)


def shown(page, selected, pinned=None):
    """Waits until these trials' plans are shown."""
    page.wait_for_function(
        "ids => document.body.dataset.shown === ids", arg=f"{selected},{'' if pinned is None else pinned}"
    )


def layer_bits(page, card="#selected-plan"):
    return page.locator(f"{card} tbody tr td:nth-child(2)").all_text_contents()


def press(page, *keys):
    page.focus("#front-keys")
    for key in keys:
        page.keyboard.press(key)


def switch(page, key, value):
    page.click(f'button[data-{key}="{value}"]')
    page.wait_for_selector(f'button[data-{key}="{value}"][aria-pressed=true]')


def axis_title(page, text):
    page.wait_for_function("text => document.querySelector('#front .xtitle').textContent.startsWith(text)", arg=text)


def test_every_trial_is_drawn_and_the_chosen_plan_shown(page):
    assert page.title() == "digits within budget 4x · bitsearch report"
    assert marks(page) == 28
    shown(page, 9)
    assert layer_bits(page) == ["8", "4", "3", "2", "6"]
    assert page.locator("#selected-plan h3").text_content() == "Trial 9, adaptive"
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves .scatterlayer .js-line", state="attached")
    assert page.locator("#curves .scatterlayer .js-line").count() == 5
    page.locator("#hypervolume").scroll_into_view_if_needed()
    page.wait_for_selector("#hypervolume .js-line", state="attached")
    # No whole layer costs were logged in this run.
    assert page.locator("#selected-plan tbody td:nth-child(5)").first.text_content() == "—"


def middle(page, trace, point):
    """Where a point of the front is in the window, scrolled to, once the figure has come to rest."""
    page.locator("#front").scroll_into_view_if_needed()
    before, places = None, page.evaluate(PLACES)
    while before != places:
        page.evaluate("() => new Promise(done => setTimeout(() => requestAnimationFrame(done), 200))")
        before, places = places, page.evaluate(PLACES)
    return places[trace][point]


def test_a_click_shows_the_plan_and_a_pin_keeps_it_beside_the_next(page, made_up):
    page.mouse.click(*middle(page, 1, 0))
    shown(page, 0)
    assert layer_bits(page) == ["8", "1", "2", "1", "4"]
    assert page.get_attribute("#mark-selected", "hidden") is None
    page.click("#selected-plan [data-part=pin]")
    shown(page, 0, 0)
    page.mouse.click(*middle(page, 2, 13))
    shown(page, 27, 0)
    assert layer_bits(page, "#pinned-plan") == ["8", "1", "2", "1", "4"]
    assert layer_bits(page) == ["8"] * 5
    assert page.locator("#selected-plan td.differs").count() == 12
    cost = page.locator("#costs tbody tr").first.locator("td").nth(1).text_content()
    assert cost.startswith(f"{made_up.plan(0).costs['bit_budget']:.4g}\xa0bits")
    page.click("#pinned-plan [data-part=pin]")
    shown(page, 27)
    assert not page.locator("#pinned-plan").is_visible()


IN_VIEW = """selector => {
    const { top, bottom, left, right, width } = document.querySelector(selector).getBoundingClientRect();
    return width > 0 && top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth;
}"""


def test_plot_and_plan_stand_side_by_side(browser, made_up):
    with opened(browser, made_up, width=1400) as page:
        page.evaluate("document.querySelector('.beside').scrollIntoView()")
        page.mouse.click(*page.evaluate(PLACES)[1][0])
        shown(page, 0)
        for part in ("#front", "#budget", "#selected-plan h3", "#selected-plan tbody tr:last-child"):
            assert page.evaluate(IN_VIEW, part), part
        press(page, "Enter", "End")
        shown(page, 13, 0)
        page.wait_for_function(
            "() => Math.abs(front.clientWidth - front._fullLayout.width) <= 1 && front.clientWidth < 520"
        )
        for part in ("#front", "#selected-plan h3", "#pinned-plan tbody tr:last-child"):
            assert page.evaluate(IN_VIEW, part), part
        table, frame = (
            page.evaluate(f"document.querySelector('#selected-plan {part}').getBoundingClientRect().width")
            for part in ("table", ".scroll")
        )
        assert table <= frame


def test_the_page_keeps_its_height_and_draws_all_without_being_scrolled(browser, tmp_path):
    folder = make_large_run(tmp_path / "deep", trials=21, layers=50)
    with opened(browser, folder, width=1400) as page:
        height = page.evaluate("document.documentElement.scrollHeight")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.plot:not([hidden])')].every(plot => plot.querySelector('.main-svg'))"
        )
        assert page.evaluate("scrollY") == 0
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_timeout(0)
        assert page.evaluate("document.documentElement.scrollHeight") == height
        assert page.locator("#selected-plan tbody tr").count() == 50
        scrolled = "[...document.querySelectorAll('.scroll')].map(part => part.scrollHeight - part.clientHeight)"
        assert max(page.evaluate(scrolled)) <= 0


def test_hover_names_the_trial(page):
    page.mouse.move(*middle(page, 3, 0))
    page.wait_for_selector("#front .hovertext")
    words = page.locator("#front .hovertext").text_content()
    assert "trial 9, adaptive" in words
    assert "15.15 bits" in words.replace("\xa0", " ")


def test_limit_stands_where_its_cost_is(page):
    at_limit, tick = page.evaluate(
        """() => {
            const lines = [...document.querySelectorAll('#front .shapelayer path')];
            const line = lines.find(path => path.style.stroke === 'rgb(192, 98, 153)').getBoundingClientRect();
            const front = document.getElementById('front');
            const { xaxis } = front._fullLayout;
            const axis = front.getBoundingClientRect().x + xaxis._offset + xaxis.d2p(16);
            return [line.x + line.width / 2, axis];
        }"""
    )
    # Browsers lay out in sixty-fourths of a pixel.
    assert at_limit == pytest.approx(tick, rel=0, abs=1 / 64)


def test_keys_walk_over_the_front(page, made_up):
    front = [plan.provenance.trial for plan in made_up.front()]
    by_cost = sorted(made_up.plans(), key=lambda plan: (plan.costs["bit_budget"], plan.provenance.trial))
    order = [plan.provenance.trial for plan in by_cost]
    press(page, "Home")
    shown(page, front[0])
    for trial in front[1:]:
        press(page, "ArrowUp")
        shown(page, trial)
    press(page, "ArrowDown")
    shown(page, front[-2])
    press(page, "ArrowRight")
    shown(page, order[order.index(front[-2]) + 1])
    press(page, "Enter", "End")
    shown(page, front[-1], order[order.index(front[-2]) + 1])
    assert page.locator("#status").text_content().startswith(f"Trial {front[-1]}, adaptive: validation 98.89")
    press(page, "Escape")
    shown(page, front[-1])


def test_slider_chooses_the_best_plan_within_the_budget(page, made_up):
    assert "at most 16\xa0bits, 4x below the baseline" in page.locator("#budget-text").text_content()
    assert "Trial 9" in page.locator("#budget-text").text_content()
    page.evaluate("budget.value = 0; budget.dispatchEvent(new Event('input'))")
    cheapest = min(made_up.plans(), key=lambda plan: plan.costs["bit_budget"])
    shown(page, cheapest.provenance.trial)
    page.evaluate("budget.value = 1000; budget.dispatchEvent(new Event('input'))")
    shown(page, 13)
    assert "Trial 13" in page.get_attribute("#budget", "aria-valuetext")
    page.focus("#budget")
    page.keyboard.press("Home")
    shown(page, cheapest.provenance.trial)


def test_filters_leave_plans_out(page, made_up):
    page.evaluate("document.querySelector('.filters').open = true")
    page.uncheck("input[value=adaptive]")
    wait_for_marks(page, 14)
    assert page.locator("#filter-count").text_content() == "14 of 28 plans"
    page.select_option("#filter-steps", "1")
    page.select_option("#filter-layer", label="conv3")
    page.fill("#filter-low", "3")
    page.fill("#filter-high", "3")
    expected = [
        plan.provenance.trial
        for plan in made_up.plans()
        if plan.provenance.method == "uniform"
        and plan.layers["conv3"].weight_bits == 3
        and all(layer.time_steps == 1 for layer in plan.layers.values())
    ]
    wait_for_marks(page, len(expected))
    press(page, "Home")
    shown(page, expected[0])
    page.click("button[type=reset]")
    wait_for_marks(page, 28)


def test_an_empty_filter_says_so(page):
    page.evaluate("document.querySelector('.filters').open = true")
    page.uncheck("input[value=adaptive]")
    page.uncheck("input[value=uniform]")
    wait_for_marks(page, 0)
    assert page.locator("#budget-text").text_content().startswith("No plan passes the filters: show all again")
    assert page.is_disabled("#budget")
    assert page.locator("#trials-count").text_content() == "No trial passes."
    assert "NaN" not in page.locator("main").inner_text()
    assert "Infinity" not in page.locator("main").inner_text()
    page.click("button[type=reset]")
    wait_for_marks(page, 28)


def test_the_knob_of_the_slider_is_under_its_value(page):
    for place in (0, 300, 750, 1000):
        page.evaluate("place => { budget.value = place; budget.dispatchEvent(new Event('input')) }", place)
        knob, mark = page.evaluate(
            """() => {
                const { left, width } = budget.getBoundingClientRect();
                const mark = document.getElementById("mark-budget").getBoundingClientRect();
                return [left + 8 + (width - 16) * budget.valueAsNumber / 1000, mark.left];
            }"""
        )
        # The mark is two pixels wide.
        assert knob == pytest.approx(mark, rel=0, abs=2)


def test_no_name_of_a_line_or_trial_lies_over_the_points(page):
    inside = """() => {
        const plot = document.querySelector("#front .nsewdrag").getBoundingClientRect();
        const texts = [...document.querySelectorAll("#front text")].map(text => [text.textContent,
            text.getBoundingClientRect()]);
        return texts.filter(([words, { left, right, top, bottom, width }]) => width && left < plot.right - 1
            && right > plot.left + 1 && top < plot.bottom - 1 && bottom > plot.top + 1).map(([words]) => words);
    }"""
    page.mouse.move(0, 0)
    page.wait_for_function("() => !document.querySelector('#front .hovertext')")
    assert page.evaluate(inside) == []
    words = page.locator("#front .legend").text_content().replace("\xa0", " ")
    for name in ("full precision 98.89 %", "budget 4x: 16 bits", "baseline w8 s4 T2: 64 bits"):
        assert name in words


def trial_cells(page, column):
    return page.locator(f"#trials-rows tr > :nth-child({column})").all_text_contents()


def test_all_trials_are_sorted_searched_and_shown(page, made_up):
    plans = made_up.plans()
    assert trial_cells(page, 1) == [str(trial) for trial in range(20)]
    page.click("#trials-after")
    assert trial_cells(page, 1) == [str(trial) for trial in range(20, 28)]
    page.click("#trials-head th:nth-child(5) button")
    page.click("#trials-head th:nth-child(5) button")
    dearest = sorted(plans, key=lambda plan: -plan.costs["bit_budget"])
    assert trial_cells(page, 1)[:3] == [str(plan.provenance.trial) for plan in dearest[:3]]
    assert page.get_attribute("#trials-head th:nth-child(5)", "aria-sort") == "descending"
    page.fill("#trials-words", "uniform")
    assert page.locator("#trials-count").text_content() == "1 to 14 of 14 trials"
    page.click("#trials-rows tr:first-child button")
    shown(page, next(plan.provenance.trial for plan in dearest if plan.provenance.method == "uniform"))
    page.fill("#trials-words", "")
    page.click("#trials-head th:nth-child(1) button")
    drawn = page.evaluate("() => parallel.data.flatMap(({ customdata }) => customdata)")
    assert sorted({trial for trial in drawn if trial is not None}) == list(range(28))
    # However often they are drawn anew, one click is one choice.
    assert page.evaluate("parallel._ev.listeners('plotly_click').length") == 1


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_the_figure_is_downloaded_with_every_point(page, tmp_path, kind, start):
    with page.expect_download() as download:
        page.click(f"button[data-save={kind}]")
    assert download.value.suggested_filename == f"front.{kind}"
    download.value.save_as(tmp_path / "front")
    content = (tmp_path / "front").read_bytes()
    assert content.startswith(start)
    if kind == "svg":
        (tmp_path / "front.svg").write_bytes(content)
        points = [path for path in ElementTree.parse(tmp_path / "front.svg").iter() if "point" in path.get("class", "")]
        assert len([path for path in points if path.get("class").split()[0] == "point"]) == 28
        assert b"Pareto front" in content


@pytest.mark.parametrize("trial", [9, 20])
def test_the_downloaded_plan_is_what_export_writes(page, made_up, tmp_path, trial):
    exported = tmp_path / "exported.json"
    select_plan(made_up, trial=trial).save(exported)
    front = page.evaluate("document.getElementById('front').data.map(trace => trace.customdata ?? [])")
    trace = next(number for number, own in enumerate(front) if trial in own)
    page.mouse.click(*middle(page, trace, front[trace].index(trial)))
    shown(page, trial)
    with page.expect_download() as download:
        page.click("#selected-plan [data-part=save]")
    assert download.value.suggested_filename == "plan.json"
    download.value.save_as(tmp_path / "downloaded.json")
    assert (tmp_path / "downloaded.json").read_bytes() == exported.read_bytes()


def test_metric_and_scale_switch(browser, run_folder):
    with opened(browser, run_folder) as page:
        switch(page, "metric", "weight_memory")
        axis_title(page, "Weight memory (KiB)")
        assert marks(page) == 28
        assert page.locator("#front .shapelayer path").count() == 2
        expected = run_folder.chosen().costs["weight_memory"] / 1024
        assert page.evaluate("document.getElementById('front').data[3].x[0]") == pytest.approx(expected)
        switch(page, "axis", "linear")
        page.wait_for_function("() => document.getElementById('front').layout.xaxis.type === 'linear'")
        assert page.evaluate("document.getElementById('front').layout.xaxis.range[0]") == 0
        switch(page, "range", "better")
        page.wait_for_function("() => document.getElementById('front').layout.yaxis.range[0] > 90")
        switch(page, "metric", "bit_budget")
        axis_title(page, "Bit Budget")
        assert page.locator("#front .shapelayer path").count() == 3
        assert page.evaluate("document.getElementById('front').layout.yaxis.range[0]") > 90


def test_heat_map_shows_the_front_of_the_metric(page, made_up):
    page.locator("#heat").scroll_into_view_if_needed()
    page.wait_for_selector("#heat .heatmaplayer image")
    front = made_up.front()
    drawn = page.evaluate("document.getElementById('heat').data[0].z")
    assert drawn[1] == [plan.layers["conv2"].weight_bits for plan in front]
    switch(page, "kind", 2)
    page.wait_for_function("() => document.getElementById('heat').data[0].zmax === 2")
    assert page.evaluate("document.getElementById('heat').data[0].z[3]") == [
        p.layers["conv4"].time_steps for p in front
    ]
    assert "conv1" in page.locator("#keepers").text_content()


def test_words_are_explained_on_focus(browser, run_folder):
    with opened(browser, run_folder, width=400) as page:
        page.focus(".tiles .term")
        content = page.evaluate("getComputedStyle(document.querySelector('.tiles .term'), '::after').content")
        assert "classified correctly" in content
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


PURPLE, VERMILION = "rgb(192, 98, 153)", "rgb(213, 94, 0)"


def lines(page, colour):
    return page.evaluate(
        "colour => [...document.querySelectorAll('#front .shapelayer path')]"
        ".filter(path => path.style.stroke === colour).length",
        colour,
    )


def test_several_budgets_are_lines_on_their_own_axes(browser, make_run_folder, two_budgets):
    folder = make_run_folder(target="power_of_two", budgets=two_budgets, metric="weight_memory")
    with opened(browser, folder) as page:
        assert page.title().startswith("digits within budget weight_memory=24KiB, s_ace=2x")
        assert page.locator("button[data-metric][aria-pressed=true]").get_attribute("data-metric") == "weight_memory"
        assert (lines(page, PURPLE), lines(page, VERMILION)) == (1, 1)
        switch(page, "metric", "s_ace")
        axis_title(page, "S-ACE")
        assert (lines(page, PURPLE), lines(page, VERMILION)) == (1, 0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_a_real_run_on_a_target_is_shown_without_a_complaint(browser, run_on_a_target, copied):
    folder = copied(run_on_a_target).folder
    with opened(browser, folder, width=400) as page:
        assert marks(page) == len(folder.plans())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        shares = page.locator("#selected-plan tbody td:nth-child(5)").all_text_contents()
        # Each is rounded to its last decimal.
        decimals = {len(share.removesuffix("\xa0%").partition(".")[2]) for share in shares}
        off = len(shares) * 0.5 / 10 ** min(decimals)
        assert sum(float(share.removesuffix("\xa0%")) for share in shares) == pytest.approx(100, abs=off)
        rates = page.locator("#selected-plan tbody td:nth-child(6)").all_text_contents()
        assert "—" not in rates
        for metric in folder.chosen().costs:
            switch(page, "metric", metric)
        page.locator("#curves").scroll_into_view_if_needed()
        page.wait_for_selector("#curves .heatmaplayer image")


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
        press(page, "Enter", "Home")
        page.wait_for_selector("#pinned-plan tbody tr")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#front .main-svg").first.bounding_box()["width"] <= width
        # At 400 pixels, the table of five numbers a plan scrolls within its frame.
        if width > 400:
            assert page.evaluate("baselines.scrollWidth <= baselines.parentElement.clientWidth")


def test_hostile_names_run_nothing(browser, make_run_folder):
    folder = make_run_folder(names=HOSTILE, command="run </code><script>window.__pwned=1</script>")
    with opened(browser, folder, width=400) as page:
        for plot in ("heat", "correlations", "curves"):
            page.locator(f"#{plot}").scroll_into_view_if_needed()
            page.wait_for_selector(f"#{plot} .main-svg")
            box = page.locator(f"#{plot} .nsewdrag").last.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_selector(f"#{plot} .hovertext")
        press(page, "ArrowUp", "Enter", "ArrowUp")
        page.wait_for_selector("#pinned-plan tbody tr")
        assert page.evaluate("window.__pwned") is None
        assert page.locator("img, main a, svg image[href^=http]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator("#selected-plan tbody th").all_text_contents() == short_names(HOSTILE, 26)
        titles = "[...document.querySelectorAll('#selected-plan tbody th')].map(cell => cell.title)"
        assert page.evaluate(titles) == list(HOSTILE)


def test_long_names_stand_whole_in_hovers_and_the_filter(browser, make_run_folder):
    names = tuple(f"backbone.stages.{stage}.residual_blocks.3.convolutions.1.depthwise.weight" for stage in range(5))
    with opened(browser, make_run_folder(names=names)) as page:
        options = page.locator("#filter-layer option").all_text_contents()
        assert options[1:] == list(names)
        clipped = "cells => cells.some(cell => cell.scrollWidth > cell.clientWidth + 1)"
        for width in (1200, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert not page.locator("#selected-plan tbody th").evaluate_all(clipped)
        page.set_viewport_size({"width": 1200, "height": 900})
        for plot in ("heat", "curves", "correlations"):
            page.locator(f"#{plot}").scroll_into_view_if_needed()
            page.wait_for_selector(f"#{plot} .heatmaplayer image")
            box = page.locator(f"#{plot} .nsewdrag").last.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_selector(f"#{plot} .hovertext")
            lines = page.locator(f"#{plot} .hovertext .nums tspan").all_text_contents()
            assert any("".join(lines).startswith(name) for name in names)


def test_names_of_ten_thousand_characters_stay_in_their_place(browser, run_folder):
    plan = run_folder.chosen()
    name = "\U0001f9e0" * 1000
    long = plan.model_copy(
        update={"provenance": plan.provenance.model_copy(update={"method": "<b>" * 3334, "trial": 40})}
    )
    layers = {(name if layer == "conv2" else layer): own for layer, own in plan.layers.items()}
    run_folder.write_plan(long.model_copy(update={"layers": layers}))
    with opened(browser, run_folder, width=400) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.click("summary")
        page.wait_for_timeout(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator("#front b").count() == 0


def test_spike_bits_of_many_steps_stay_in_their_column(browser, run_folder):
    plan = run_folder.chosen()
    bits = (8, 7, 6, 5, 4, 3, 2, 1)
    run_folder.write_plan(
        plan.model_copy(update={"layers": plan.layers | {"conv2": plan.layers["conv2"].with_bits(4, bits)}})
    )
    for width in (400, 1200, 1400):
        with opened(browser, run_folder, width=width) as page:
            cells = page.locator("#selected-plan [data-part=layers] td")
            assert "8, 7, 6, 5, 4, 3, 2, 1" in cells.all_text_contents()
            wide = cells.evaluate_all("cells => cells.map((cell) => [cell.scrollWidth, cell.clientWidth])")
            assert [cell for cell in wide if cell[0] > cell[1]] == []


def test_prints_within_the_paper(browser, run_folder):
    log = run_folder.path / "log.jsonl"
    # As an older bitsearch logged, which knew no bits of single layers.
    log.write_text(log.read_text(encoding="utf-8").replace('"bits"', '"other"'), encoding="utf-8")
    with opened(browser, run_folder) as page:
        wide = page.evaluate("front.clientWidth")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function("() => document.querySelector('#front .main-svg').getBoundingClientRect().width === 660")
        assert page.locator(".plot .main-svg").count() >= 5
        heights = "plots => plots.map(plot => plot.getBoundingClientRect().height)"
        assert max(page.locator(".plot").evaluate_all(heights)) <= 900
        wait_for_marks(page, 28)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.wait_for_function(
            "wide => Math.abs(document.querySelector('#front .main-svg').getBoundingClientRect().width - wide) <= 1",
            arg=wide,
        )


def test_names_of_parallel_lines_do_not_cover_each_other(browser, run_folder):
    boxes = """() => [...document.querySelectorAll('#parallel .xtick text')].map(text => text.getBoundingClientRect())
        .map(({left, right}) => [left, right]).sort((a, b) => a[0] - b[0])"""
    with opened(browser, run_folder) as page:
        # Six lines as close as a dozen on paper.
        page.wait_for_function("() => document.querySelector('#parallel').layout")
        page.evaluate("Plotly.relayout(document.querySelector('#parallel'), { width: 400 })")
        page.wait_for_function(
            "() => document.querySelector('#parallel .main-svg').getBoundingClientRect().width === 400"
        )
        found = page.evaluate(boxes)
        assert len(found) == 6
        assert all(right <= left for (_, right), (left, _) in pairwise(found)), found


def test_figures_of_many_layers_fit_a_sheet_and_come_back_as_they_were(browser, tmp_path):
    heights = "plots => plots.map(plot => plot.getBoundingClientRect().height)"
    with opened(browser, make_large_run(tmp_path / "deep", trials=8, layers=60)) as page:
        page.wait_for_function("() => [...document.querySelectorAll('.plot:not([hidden])')].every(plot => plot.layout)")
        before = page.locator(".plot").evaluate_all(heights)
        assert max(before) > 1000
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function(f"() => Math.max(...({heights})([...document.querySelectorAll('.plot')])) <= 900")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.wait_for_function(
            f"before => ({heights})([...document.querySelectorAll('.plot')]).join() === before.join()", arg=before
        )


def test_the_page_of_a_single_trial(browser, tmp_path):
    with opened(browser, make_large_run(tmp_path / "lone", trials=1, layers=4)) as page:
        assert "1 plan trained" in page.locator(".lead").text_content()
        assert page.locator("#hypervolume").count() == 0
        page.wait_for_function("() => [...document.querySelectorAll('.plot')].every(plot => plot.layout)")
        # The text of the bars of renewals is for the box beside the pointer.
        assert page.locator("#curves .bartext").count() == 0


@pytest.fixture
def comparison(tmp_path):
    """Of two methods on two seeds, the plans of one of which are shifted in accuracy."""
    first, second = (make_run(tmp_path / f"seed-{seed}", seed=seed) for seed in range(2))
    for plan in second.plans():
        lower = plan.accuracy.model_copy(update={"validation": plan.accuracy.validation - 0.02})
        second.write_plan(plan.model_copy(update={"accuracy": lower}))
    runs = (SearchResult(first), SearchResult(second))
    return Comparison(tmp_path, ("adaptive", "uniform"), runs)


@pytest.mark.parametrize("width", [1200, 400])
def test_a_comparison_draws_methods_by_shape_and_seeds_as_error_bars(browser, comparison, width):
    with opened_file(browser, write_comparison(comparison), "#front .main-svg", width) as page:
        page.wait_for_selector("#front .scatterlayer .points path", state="attached")
        traces = page.evaluate("document.getElementById('front').data")
        plans = [trace for trace in traces if trace.get("selectedpoints")]
        assert [trace["name"] for trace in plans] == ["Adaptive", "Uniform"]
        assert len({trace["marker"]["symbol"] for trace in plans}) == 2
        assert len({trace["marker"]["color"] for trace in plans}) == 2
        # 28 plans of each seed, and of each method a mean with a bar in accuracy (both seeds cost the same).
        assert page.locator("#front .scatterlayer .points path").count() == 56 + 2
        assert page.locator("#front .errorbar .yerror").count() == 2
        adaptive = next(trace for trace in traces if "error_y" in trace)
        low, high = page.evaluate("document.getElementById('front').layout.yaxis.range")
        for trace in (trace for trace in traces if "error_y" in trace):
            assert low < trace["y"][0] - trace["error_y"]["array"][0]
            assert trace["y"][0] + trace["error_y"]["array"][0] < high
        assert page.locator("tbody tr th").last.text_content() == "full precision"
        assert "98.89 ± 0.00" in page.locator("tbody tr").last.text_content()
        assert adaptive["y"] == [pytest.approx(100 * (0.9861 - 0.01))]
        assert adaptive["error_y"]["array"] == [pytest.approx(2 / 2**0.5)]
        page.locator("#front").scroll_into_view_if_needed()
        box = page.locator("#front .scatterlayer .trace").nth(1).locator(".points path").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("#front .hovertext")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_two_thousand_trials_of_a_hundred_layers(browser, tmp_path):
    folder = make_large_run(tmp_path / "large")
    with opened(browser, folder) as page:
        assert marks(page) == 2000
        assert page.locator("#baselines tbody tr").count() < 30
        before = page.get_attribute("body", "data-shown")
        press(page, "ArrowDown")
        page.wait_for_function("before => document.body.dataset.shown !== before", arg=before)
        plan = folder.plan(int(page.get_attribute("body", "data-shown").split(",")[0]))
        page.wait_for_function(
            """bits => [...document.querySelectorAll('#selected-plan tbody td:nth-child(2)')]
                .map(cell => cell.textContent).join() === bits""",
            arg=",".join(str(layer.weight_bits) for layer in plan.layers.values()),
        )
        switch(page, "metric", "energy")
        axis_title(page, "Energy")
        page.locator("#heat").scroll_into_view_if_needed()
        page.wait_for_selector("#heat .heatmaplayer image")
    assert folder.report_file.stat().st_size < 16e6
