"""The page of sensitivities, and the panel on a run's page, as a browser shows them."""

import pytest
from large_run import make_large_run
from opened_page import opened_file
from test_sensitivity_page import SEARCHED, sensitivities

from bitsearch.report import write_report
from bitsearch.report.sensitivity_page import write_sensitivity

pytestmark = pytest.mark.browser
PLOTS = ("sensitivity-heat", "sensitivity-curves")
DRAWN = f"() => {list(PLOTS)}.every(name => document.getElementById(name).layout)"


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_shows_what_was_measured(browser, run_folder, tmp_path, width):
    page_file, *_ = write_sensitivity(sensitivities(run_folder), tmp_path / "alone")
    with opened_file(browser, page_file, "#sensitivity-curves .main-svg", width) as page:
        page.wait_for_function(DRAWN)
        heat, curves = (page.evaluate(f"document.getElementById('{name}').data.length") for name in PLOTS)
        assert heat == 1
        # A line of every layer and number, and dotted ones of what is predicted.
        assert curves >= 3 * len(SEARCHED)
        labels = page.locator("#sensitivity-heat .ytick text").all_text_contents()
        assert sorted(labels) == sorted(SEARCHED)
        rows = page.locator("#sensitivities tbody tr")
        # Of weight bits and time steps; a gain below two standard errors has no row.
        assert rows.count() == 2 * len(SEARCHED)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # On a phone figures scroll, rather than that labels turn and lie over each other; captions stay whole.
        ticks = page.locator("#sensitivity-heat .xtick text").evaluate_all("all => all.map(one => one.outerHTML)")
        assert ticks
        assert not any("rotate(" in tick and "rotate(0" not in tick for tick in ticks)
        narrow = "({ width }, box) => width <= box.clientWidth + 1"
        assert page.locator(".scroll caption").evaluate_all(
            f"all => all.every(one => ({narrow})(one.getBoundingClientRect(), one.closest('.scroll')))"
        )
        summary = page.locator("summary", has_text="What was measured")
        summary.click()
        assert page.locator("details[open] dt", has_text="Time binning").is_visible()


def test_the_panel_stands_on_the_page_of_its_run(browser, run_folder):
    write_report(run_folder)
    *_, page_file = write_sensitivity(sensitivities(run_folder), run_folder.path)
    with opened_file(browser, page_file, "#selected-plan tbody tr") as page:
        page.locator("#sensitivity-title").scroll_into_view_if_needed()
        page.wait_for_function(DRAWN)
        assert page.locator("#sensitivities tbody tr").count() == 2 * len(SEARCHED)


def test_figures_of_many_layers_fit_a_sheet_and_come_back_as_they_were(browser, tmp_path):
    run = make_large_run(tmp_path / "deep", trials=1, layers=60)
    names = tuple(run.plans()[0].layers)
    page_file, *_ = write_sensitivity(sensitivities(run, names), tmp_path / "alone")
    sizes = (
        "[...document.querySelectorAll('.plot .main-svg:first-child')].map(svg => [svg.clientWidth, svg.clientHeight])"
    )
    with opened_file(browser, page_file, "#sensitivity-curves .main-svg") as page:
        page.wait_for_function(DRAWN)
        before = page.evaluate(sizes)
        assert max(height for _, height in before) > 1000
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function(f"() => {sizes}.every(([width, height]) => width === 660 && height <= 900)")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.wait_for_function(f"before => JSON.stringify({sizes}) === JSON.stringify(before)", arg=before)
