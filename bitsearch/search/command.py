"""The command that made a run, as its plans and reports show it."""

import shlex
from collections.abc import Iterable, Sequence

from bitsearch.allocate.device import launched_processes
from bitsearch.space import SearchSpace


def shell_command(arguments: Iterable[str]) -> str:
    """A command line as one would type it."""
    processes = launched_processes()
    start = ["bitsearch"] if processes == 1 else ["torchrun", f"--nproc-per-node={processes}", "-m", "bitsearch"]
    return shlex.join([*start, *arguments])


def python_command(
    space: SearchSpace,
    budget: str | Sequence[str],
    metric: str | None,
    objective: str | None,
    trials: int | None,
    seed: int,
) -> str:
    """A call of :func:`bitsearch.search.run.search` as one would type it."""
    given = {"budget": budget, "metric": metric, "objective": objective, "trials": trials, "seed": seed}
    options = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
    return f"bitsearch.search({space.name!r}, {options}, target={space.target!r})"
