"""The command that made a run, as its plans and reports show it."""

import shlex
from collections.abc import Iterable
from typing import Any

from bitsearch.launch import launched_world_size
from bitsearch.registry import OBJECT
from bitsearch.space import SearchSpace


def shell_command(arguments: Iterable[str]) -> str:
    """A command line as one would type it."""
    words, processes = list(arguments), launched_world_size()
    by_torchrun = processes > 1 and not any(word.partition("=")[0] == "--processes" for word in words)
    start = ["torchrun", f"--nproc-per-node={processes}", "-m", "bitsearch"] if by_torchrun else ["bitsearch"]
    return shlex.join([*start, *words])


def python_command(space: SearchSpace, function: str, **arguments: Any) -> str:
    """A call of ``bitsearch.search`` or ``bitsearch.Study`` as one would type it, without arguments that are None."""
    options = ", ".join(f"{name}={value!r}" for name, value in arguments.items() if value is not None)
    source = "network, data" if space.network.endswith(OBJECT) else repr(space.name)
    return f"bitsearch.{function}({source}, {options}, target={space.target!r})"
