from rich.console import Console

from bitsearch.cli.terminal.progress import FRONT_ROWS, Bars


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
