import io
from pathlib import Path

import pytest
from rich.console import Console

from bitsearch.cli.terminal.progress import FRONT_ROWS, Bars
from bitsearch.train.epoch_record import EpochRecord


def shown(bars):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(bars._renderable())
    return capture.get()


def test_the_front_so_far_is_shown():
    bars = Bars(Console(quiet=True))
    with bars:
        bars.trial_done("full precision", 0.99, None)
        assert "front" not in shown(bars)
        for label, accuracy, cost in (
            ("a 0", 0.9, 12.0),
            ("a 1", 0.95, 14.0),
            ("a 2", 0.94, 15.0),
            ("a 3", 0.97, 14.0),
        ):
            bars.trial_done(label, accuracy, cost)
        words = shown(bars)
        assert "The front so far" in words
        assert [label for label in ("a 0", "a 1", "a 2", "a 3") if label in words] == ["a 0", "a 3"]
        for number in range(20):
            bars.trial_done(f"b {number}", 0.97 + number / 1000, 20.0 + number)
        assert shown(bars).count("b ") == FRONT_ROWS


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_numbers_of_a_trial_are_whole_at_any_width(width):
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    bars = Bars(console)
    bars.started(Path("run"), trials=28, done=0)
    bars.trial("adaptive 12", 20)
    bars.epoch(EpochRecord("fine-tune", 11, 20, 0.1234, 0.975, {}, None, []))
    screen = Console(width=width, file=io.StringIO(), color_system=None)
    screen.print(bars._renderable())
    lines = screen.file.getvalue().splitlines()
    assert all(text in lines[-1] for text in ("adaptive 12", "1/20", "validation 97.5%", "loss 0.123", "fine-tune"))
    assert len(lines) == 2
