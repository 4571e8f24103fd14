"""The picture in the README: the page of a finished run, as a browser shows it.

    bitsearch run --space digits_events --budget 4x --out FOLDER
    python -m benchmarks.picture FOLDER --out docs/pareto.png

One window of it, so that the front and the chosen plan are seen.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.page import CHROMIUMS, SHOWN, SWITCHES
from bitsearch.report import write_report
from bitsearch.runs.folder import RunFolder

WINDOW = {"width": 1400, "height": 1660}


def main() -> None:
    """Write the run's page anew, and what of it one window shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        raise SystemExit(f"none of {', '.join(CHROMIUMS)} is installed")
    file = write_report(RunFolder.open(arguments.run))
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=list(SWITCHES))
        page = browser.new_context(viewport=WINDOW, offline=True).new_page()
        page.goto(file.absolute().as_uri())
        page.wait_for_function(SHOWN)
        page.screenshot(path=arguments.out)
        browser.close()


if __name__ == "__main__":
    main()
