"""What a user can mend."""


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line: what was given, what is allowed, what to do. The command line prints it and exits
    with code 2; a Python caller can catch it as a ``ValueError``.
    """


class StorageError(InputError):
    """Nothing can be written or read any more: a full disk, a read-only folder, a locked or lost database.

    What was saved before is whole; once the cause is gone, the same command goes on.
    """
