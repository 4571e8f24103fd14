"""How fast the report page of a large study opens and answers.

    python -m benchmarks.page --out reports/benchmarks

A made-up study of many trials of a deep network (three methods, two seeds) becomes a page, which a headless Chromium
opens without network and without a graphics card, in a fresh context each time. First paint is the browser's own entry;
the page is ready once it shows the chosen plan. An answer is timed by the wall clock from the input event's own time
stamp to the frame after the one in which the page shows what was asked for, so that it has been painted; every round
asks for something else. Busy is the processor time of the page's main thread from the input to 200 ms after the answer.
What else the machine does slows the wall clock; its load is given. Trials are chosen by a seeded generator.
"""

import argparse
import os
import platform
import random
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.provenance import made_by
from bitsearch.files import write_whole
from bitsearch.report import write_report
from tests.report.large_run import make_large_run

SEED = 0
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
WATCH = """
() => {
  const frame = () => new Promise(requestAnimationFrame);
  window.asked = (type, answer) => {
    window.answered = new Promise((done) => {
      addEventListener(type, async ({ timeStamp }) => {
        const before = answer();
        while (!answer() || answer() === before) await frame();
        await frame();
        done(performance.now() - timeStamp);
      }, { capture: true, once: true });
    });
  };
}
"""
"""What the page is watched by: ``answer`` gives what changes once the input is answered."""
SHOWN = "() => document.body.dataset.shown"
AXIS = "() => document.querySelector('#front .xtitle')?.textContent + document.querySelector('#front .xtick').innerHTML"
BUDGET = """() => {
  const [text, plan] = ["#budget-text", "#selected-plan h3"].map((one) => document.querySelector(one).textContent);
  return text.includes(`best: ${plan},`) ? text : null;
}"""
"""The text of the budget, once the plan that it names is shown."""


class Watched:
    """A page whose answers are timed."""

    def __init__(self, page: Page, session: CDPSession) -> None:
        self.page, self.session = page, session
        page.evaluate(WATCH)

    def busy(self) -> float:
        """Seconds of processor time that the page's main thread has worked."""
        found = self.session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in found if one["name"] == "TaskDuration")

    def answer(self, event: str, answer: str, act: Callable[[], Any]) -> tuple[float, float]:
        """Milliseconds (to the painted answer, busy)."""
        self.page.wait_for_timeout(500)
        self.page.evaluate(f"window.asked('{event}', {answer})")
        before = self.busy()
        act()
        latency = self.page.evaluate("window.answered")
        self.page.wait_for_timeout(200)
        return latency, 1000 * (self.busy() - before)


def opened(browser: Browser, file: Path) -> tuple[Watched, float, float]:
    """(page, ms to first paint, ms until a plan is shown)."""
    page = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True).new_page()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(file.absolute().as_uri(), wait_until="commit")
    page.wait_for_function("() => document.body?.dataset.shown")
    usable = page.evaluate("performance.now()")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.locator("#front").scroll_into_view_if_needed()
    return Watched(page, session), paint, usable


def point(page: Page, trial: int) -> tuple[float, float]:
    """Where a trial's point is in the window."""
    x, y = page.evaluate(
        """(trial) => {
          const front = document.getElementById("front");
          const [box, { xaxis, yaxis }] = [front.getBoundingClientRect(), front._fullLayout];
          const [left, top] = [box.x + xaxis._offset, box.y + yaxis._offset];
          for (const trace of front.data) {
            const at = trace.customdata ? [...trace.customdata].indexOf(trial) : -1;
            if (at >= 0) return [left + xaxis.d2p(trace.x[at]), top + yaxis.d2p(trace.y[at])];
          }
        }""",
        trial,
    )
    return x, y


def answers(watched: Watched, rounds: int, trials: int) -> dict[str, list[tuple[float, float]]]:
    """By what is done, (ms, busy ms) of every round."""
    page, chance = watched.page, random.Random(SEED)
    found: dict[str, list[tuple[float, float]]] = {}

    def measure(name: str, event: str, answer: str, act: Callable[[], Any]) -> None:
        found.setdefault(name, []).append(watched.answer(event, answer, act))

    def click_point() -> Callable[[], None]:
        page.mouse.move(*point(page, chance.randrange(trials)))
        page.wait_for_timeout(200)
        return lambda: (page.mouse.down(), page.mouse.up())  # type: ignore[func-returns-value, return-value]

    def slide() -> None:
        page.evaluate(
            "(value) => { const own = document.getElementById('budget'); own.value = value;"
            " own.dispatchEvent(new Event('input', { bubbles: true })); }",
            chance.randrange(50, 950),
        )

    metrics = page.evaluate("[...document.querySelectorAll('button[data-metric]')].map((own) => own.dataset.metric)")
    for round_ in range(rounds):
        measure("click on a point", "mouseup", SHOWN, click_point())
        page.focus("#front-keys")
        measure("arrow key", "keydown", SHOWN, lambda: page.keyboard.press("ArrowRight"))
        measure("budget slider", "input", BUDGET, slide)
        if round_ == rounds // 2:
            page.focus("#front-keys")
            page.keyboard.press("Enter")
        name = metrics[(round_ + 1) % len(metrics)]
        measure("cost axis", "click", AXIS, lambda name=name: page.click(f"button[data-metric={name}]"))  # type: ignore[misc]
        scale = ("linear", "log")[round_ % 2]
        measure("scale", "click", AXIS, lambda scale=scale: page.click(f"button[data-axis={scale}]"))  # type: ignore[misc]
    return found


def spread(values: list[float], digits: int = 0) -> str:
    """``median (least–most)``."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        raise SystemExit(f"none of {', '.join(CHROMIUMS)} is installed")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as running:
        folder = make_large_run(Path(scratch) / "run", arguments.trials, arguments.layers, SEED)
        start = time.process_time()
        file = write_report(folder)
        writing = time.process_time() - start
        browser = running.chromium.launch(executable_path=executable, args=list(SWITCHES))
        loads = []
        for _ in range(arguments.rounds):
            watched, *load = opened(browser, file)
            loads.append(load)
            watched.page.context.close()
        found = answers(opened(browser, file)[0], arguments.rounds, arguments.trials)
        version, load = browser.version, os.getloadavg()[1]
        browser.close()
        text = file.read_text(encoding="utf-8")
        data = sum(
            len(island.encode()) for island in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)
        )
        whole = len(text.encode())
    rows = [
        f"| {name} | {spread([one for one, _ in own])} | {spread([busy for _, busy in own])} |"
        for name, own in found.items()
    ]
    text = "\n".join(
        [
            "# How fast the report page opens and answers\n",
            f"{arguments.trials} trials of {arguments.layers} layers; {arguments.rounds} rounds, medians (least–most). "
            f"Machine: {platform.machine()}, {os.cpu_count()} cores of which {load:.1f} were asked for on average, "
            f"Chromium {version}, headless, no graphics card.\n",
            f"The file has {whole / 1e6:.1f} MB: {(whole - data) / 1e6:.1f} MB without the data, and "
            f"{data / 1e6:.1f} MB of data. Writing it takes {writing:.1f} s of processor time.\n",
            "| opening | ms |",
            "|---|---|",
            f"| first paint | {spread([paint for paint, _ in loads])} |",
            f"| ready | {spread([usable for _, usable in loads])} |",
            "\n| asked for | ms to the painted answer | of these busy |",
            "|---|---|---|",
            *rows,
            f"\nMade by {made_by()}.\n",
        ]
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "page.md", text)
    print(text)


if __name__ == "__main__":
    main()
