"""Ctrl-C: once finishes the epoch and saves it, twice stops at once. SIGTERM, as schedulers send it, counts as once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The run stops here, and can go on from here.

    Not a KeyboardInterrupt, which Optuna takes for the end of a trial.
    """


class Stop:
    """Whether the run is to stop at the next moment at which nothing is lost.

    Args:
        announce: called at the first signal.
    """

    def __init__(self, announce: Callable[[], None] = lambda: None) -> None:
        self.announce = announce
        self.requested = False

    def check(self) -> None:
        """Raise Interrupted if it was asked for."""
        if self.requested:
            raise Interrupted

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Inside, signals are heard; outside of the main thread they go to whoever has it.

        Raises:
            KeyboardInterrupt: in place of Interrupted, once inside is left.
        """
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._heard) for number in signals}
        try:
            yield
        except Interrupted as error:
            raise KeyboardInterrupt from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise Interrupted
        self.requested = True
        self.announce()
