import sys
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace

import pytest

from bitsearch.runs.notebook_progress import NotebookProgress, progress_of_session
from bitsearch.runs.progress import Progress
from bitsearch.train.epoch_record import EpochRecord


class Cell:
    """What a notebook's cell has been sent: outputs, and what replaces them."""

    def __init__(self):
        self.outputs, self.updates = [], []

    def display(self, shown, raw, display_id):
        assert raw
        assert display_id
        self.outputs.append(shown)
        return self

    def update(self, shown, raw):
        assert raw
        self.updates.append(shown)


@pytest.fixture
def cell():
    return Cell()


def told(progress, path, trials=3, epochs=5):
    progress.started(path, trials, 0)
    for trial in range(trials):
        progress.trial(f"trial {trial}, adaptive", epochs)
        for epoch in range(1, epochs + 1):
            progress.epoch(EpochRecord("search", epoch, epochs, 0.25, 0.875))
        progress.trial_done(f"trial {trial}, adaptive", 0.875, 12.0)


def test_a_run_is_one_output_of_the_cell(cell, tmp_path):
    told(NotebookProgress(cell.display), tmp_path)
    assert len(cell.outputs) == 1
    assert len(cell.updates) == 3 * (1 + 5 + 1)
    assert cell.updates[-1]["text/plain"].replace("\xa0", " ").splitlines() == [
        "trials: 3 of 3",
        "trial 2, adaptive: 5 of 5, validation 87.50 %, loss 0.250, search",
        "last finished: trial 2, adaptive: validation 87.50 %",
    ]
    assert cell.updates[-1]["text/html"].count('<progress value="3" max="3">') == 1


def test_full_precision_is_no_trial_and_notes_stay_as_text(cell, tmp_path):
    progress = NotebookProgress(cell.display)
    progress.started(tmp_path, 2, 1)
    progress.trial_done("full precision", 0.9, None)
    progress.note("<script>window.__pwned=1</script>")
    progress.trial("trial 1", 1)
    assert cell.updates[-1]["text/plain"].splitlines()[0] == "trials: 1 of 2"
    assert "<script>window.__pwned=1</script>" in cell.updates[-1]["text/plain"]
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.feed(cell.updates[-1]["text/html"])
    assert set(tags) == {"div", "progress"}


@pytest.mark.parametrize(("shell", "kind"), [(None, Progress), ({}, Progress), ({"kernel": 1}, NotebookProgress)])
def test_only_a_notebook_is_shown_how_a_run_goes(shell, kind, cell, monkeypatch):
    """A terminal's IPython has no kernel."""
    package, display = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: None if shell is None else SimpleNamespace(**shell)
    display.display = cell.display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert type(progress_of_session()) is kind


def test_a_program_prints_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert type(progress_of_session()) is Progress
