"""What a command prints, and the processes of a training in several processes.

Names and texts of other people's files are printed by :class:`Console`, :func:`print_line` and :func:`print_json` only,
which escape what a terminal would act on.
"""

import logging
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import rich.console
import typer
from rich.console import ConsoleOptions, RenderableType
from rich.logging import RichHandler
from rich.segment import Segment
from rich.text import Text

from bitsearch.errors import InputError, printable
from bitsearch.launch import launched_world_size


class Console(rich.console.Console):
    """A console on stdout that shows text as it is: neither markup, nor emoji codes, nor escape sequences in it count.

    What a name in a file holds must not reach the terminal as a command. Styles are given by
    :class:`rich.text.Text` and by the arguments ``style``.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's, with the characters escaped that only rich itself may send."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(printable(line) for line in lines), segment.style)


def print_line(text: str | Path) -> None:
    """Print one line on stdout, such as a path, without the console's folding."""
    print(printable(str(text)))


def print_entry(name: str, lines: Sequence[str]) -> None:
    """Print an entry of a list on stdout: its name, and what there is to say of it, not folded."""
    Console().print(Text.assemble((name, "bold"), "  ", "\n".join(lines)), soft_wrap=True)


def print_json(text: str) -> None:
    """Print JSON on stdout; what a terminal would act on is escaped as JSON has it, so that the content is the same."""
    print("".join(character if character == "\n" else _json_character(character) for character in text.rstrip("\n")))


def _json_character(character: str) -> str:
    if printable(character) == character:
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[index : index + 2].hex()}" for index in range(0, len(units), 2))


def make_console(*, quiet: bool, verbose: bool) -> Console:
    """The console on stderr; ``quiet`` silences it and warnings, ``verbose`` adds the libraries' logs."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose were both given; give one of them")
    console = Console(stderr=True, quiet=quiet)
    if quiet:
        warnings.simplefilter("ignore")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[RichHandler(console=console)])
    return console


def train_together(processes: int | None) -> None:
    """Run the command in ``processes`` new processes and exit with their code; return in these, or without several.

    Raises:
        InputError: a launcher has started another number of processes.
    """
    process_count = launched_world_size()
    if process_count > 1 and processes not in (None, process_count):
        raise InputError(
            f"--processes is {processes}, but a launcher started {process_count} of them; leave the option out"
        )
    if process_count > 1 or processes in (None, 1):
        return
    from bitsearch.train.launcher import run_processes

    sys.exit(run_processes(processes, ["-m", "bitsearch", *sys.argv[1:]]))
