"""The one exception that a user can mend."""


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line: what was given, what is allowed, what to do. The command line prints it and exits
    with code 2; a Python caller can catch it as a ``ValueError``.
    """
