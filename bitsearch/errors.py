"""Exceptions that a user can act on, and their messages in one line, without passwords."""

import re
import sysconfig
import traceback
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

MAX_MESSAGE_CHARACTERS = 600
"""Longer messages of other libraries are cut; torch lists every key of two state dicts in one message."""


class InputError(ValueError):
    """The user's input is wrong.

    The message is one line: the input, the values that are allowed, the remedy. The command line prints it and exits
    with code 2; a Python caller can catch it as a ``ValueError``.

    >>> bitsearch.RunFolder.open("x")
    Traceback (most recent call last):
        ...
    bitsearch.errors.InputError: x is not a run folder (it has no run.toml); give the folder that `bitsearch run` wrote
    """


class StorageError(InputError):
    """Files or the database cannot be written or read: a full disk, a read-only folder, a locked or lost database.

    Files saved earlier are complete; once the cause is removed, the same command continues the run.

    >>> bitsearch.BitPlan.load("run/plan.json").save("missing/plan.json")
    Traceback (most recent call last):
        ...
    bitsearch.errors.StorageError: cannot write missing/plan.json: No such file or directory
    """


class DivergedError(InputError):
    """The training loss, or an output, is no number to go by; all processes of one training raise it together."""


def located(error: BaseException) -> str:
    """An exception in one line, with the place in the user's own code: ``nets.py:12: KeyError: 'width'``.

    The place is the innermost frame outside of Python, installed packages and bitsearch, or else the innermost frame.
    """
    # Behind it, torch names its own source and the frames of its C++.
    message = _text(error).partition("Exception raised from")[0]
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places = [place for place in places if _is_user_code(place[0])] or places
    if isinstance(error, SyntaxError) and error.filename is not None:
        # The faulty file has not run, so it is not among the frames.
        places, message = [(error.filename, error.lineno)], error.msg
    location = [f"{_relative_path(filename)}:{line}" for filename, line in places[-1:]]
    line_text = " ".join(message.split())
    excerpt = line_text if len(line_text) <= MAX_MESSAGE_CHARACTERS else line_text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    return ": ".join([*location, type(error).__name__, *([excerpt] if excerpt else [])])


def _text(error: BaseException) -> str:
    """An exception's message; none where a class of the user's own fails to make it."""
    try:
        return str(error)
    except Exception:
        return ""


def user_fault(error: BaseException) -> str | None:
    """:func:`located` for an exception that came out of the user's code or network; None for one of bitsearch's own.

    A network of torch's modules alone runs no line of the user's: it is known by the call of a module, or by that of
    its gradient. The end of a loader's worker interrupts whatever is being done.
    """
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
        # A generator that it passed through has put itself in its place.
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    is_theirs = any(
        frame.name in _CALLS_OF_TORCH or Path(frame.filename).name == _ENDS_OF_WORKERS or _is_user_code(frame.filename)
        for frame in frames
    )
    return located(error) if is_theirs else None


_CALLS_OF_TORCH = ("_call_impl", "_engine_run_backward", "default_collate")
"""Functions in which torch runs a module, computes a gradient, and makes samples a batch."""
_ENDS_OF_WORKERS = "signal_handling.py"
"""File in which torch is told by the system that a loader's worker has died."""


def _is_user_code(filename: str) -> bool:
    path = Path(filename)
    libraries = (Path(sysconfig.get_path("stdlib")), Path(__file__).parent)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not (filename.startswith("<") or installed or any(path.is_relative_to(folder) for folder in libraries))


def _relative_path(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'digits'?`` for a name that is close to an allowed one, for the end of a message; else empty."""
    names = {candidate.lower(): candidate for candidate in allowed}
    close = get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def printable(text: str) -> str:
    r"""``text`` with an escape such as ``\x1b`` for every character that a terminal would act on instead of showing it.

    Names and texts of files that somebody else wrote may hold such characters: they would colour, clear or rewrite what
    a terminal shows. Spaces of any width stay; line breaks and tabs are escaped too.
    """
    return "".join(character if _is_shown(character) else repr(character)[1:-1] for character in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


# The user part ends at the first colon, the password at the last @ before a space or a quote.
_IN_URL = re.compile(r"(?P<start>\w[\w+.-]*://[^\s:/@'\"]*):[^\s'\"]*@")
_IN_QUERY = re.compile(
    r"(?P<start>\b(?:password|passwd|pwd|secret|token|secret_access_key|sslpassword)=)[^\s&'\"]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """``text`` with ``***`` for every password of a URL or a connection string."""
    return _IN_QUERY.sub(r"\g<start>***", _IN_URL.sub(r"\g<start>:***@", text))


def one_line(text: str) -> str:
    """``text`` as the terminal shows it: on one line, :func:`printable`, and :func:`redact`-ed."""
    return printable(redact(" ".join(text.splitlines())))
