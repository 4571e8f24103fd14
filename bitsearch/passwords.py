"""Passwords in URLs, kept out of everything that is written or shown."""

import re

# The user part ends at the first colon, the password at the last @ before a space or a quote.
_IN_URL = re.compile(r"(?P<start>\w[\w+.-]*://[^\s:/@'\"]*):[^\s'\"]*@")
_IN_QUERY = re.compile(
    r"(?P<start>\b(?:password|passwd|pwd|secret|token|secret_access_key|sslpassword)=)[^\s&'\"]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """``text`` with ``***`` for every password of a URL or a connection string."""
    return _IN_QUERY.sub(r"\g<start>***", _IN_URL.sub(r"\g<start>:***@", text))
