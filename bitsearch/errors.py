"""What a user can mend: the exception for it, and what is told in one line, without passwords."""

import re
import sysconfig
import traceback
from pathlib import Path

_LONGEST = 600
"""Characters of a foreign message that are shown; torch lists every key of two state dicts in one."""


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line: what was given, what is allowed, what to do. The command line prints it and exits
    with code 2; a Python caller can catch it as a ``ValueError``.
    """


class StorageError(InputError):
    """Nothing can be written or read any more: a full disk, a read-only folder, a locked or lost database.

    What was saved before is whole; once the cause is gone, the same command goes on.
    """


class DivergedError(InputError):
    """A training's loss is no finite number any more; of processes that train together, in all at once."""


def located(error: BaseException) -> str:
    """An exception in one line, with the place in the user's own code: ``nets.py:12: KeyError: 'width'``.

    That is the innermost place outside of Python, installed packages and bitsearch; where there is none, the innermost.
    """
    message = str(error)
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places = [place for place in places if _is_own(place[0])] or places
    if isinstance(error, SyntaxError) and error.filename is not None:
        # The faulty file has not run, so it is not among the frames.
        places, message = [(error.filename, error.lineno)], error.msg
    where = [f"{_shown(filename)}:{line}" for filename, line in places[-1:]]
    words = " ".join(message.split())
    said = words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
    return ": ".join([*where, type(error).__name__, *([said] if said else [])])


def _is_own(filename: str) -> bool:
    path = Path(filename)
    libraries = (Path(sysconfig.get_path("stdlib")), Path(__file__).parent)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not (filename.startswith("<") or installed or any(path.is_relative_to(folder) for folder in libraries))


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


# The user part ends at the first colon, the password at the last @ before a space or a quote.
_IN_URL = re.compile(r"(?P<start>\w[\w+.-]*://[^\s:/@'\"]*):[^\s'\"]*@")
_IN_QUERY = re.compile(
    r"(?P<start>\b(?:password|passwd|pwd|secret|token|secret_access_key|sslpassword)=)[^\s&'\"]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """``text`` with ``***`` for every password of a URL or a connection string."""
    return _IN_QUERY.sub(r"\g<start>***", _IN_URL.sub(r"\g<start>:***@", text))
