"""Where a report's figures come from."""

import platform
import re
import shlex
import sys

import torch


def machine() -> str:
    """What the figures were measured on."""
    return (
        f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def made_by() -> str:
    """The command that is running, ``python -m benchmarks.…``; where data lie is left to who runs it again."""
    specification = sys.modules["__main__"].__spec__
    module = "benchmarks" if specification is None else specification.name
    arguments = [re.sub(r"^(data_options\.root=).*", r"\1ROOT", argument) for argument in sys.argv[1:]]
    if "--recordings" in arguments:
        arguments[arguments.index("--recordings") + 1] = "FOLDER"
    return f"`{shlex.join(['python', '-m', module, *arguments])}`"
