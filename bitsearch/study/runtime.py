"""How every process of a run computes: with how many threads, and with which code."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bitsearch.errors import InputError
from bitsearch.quant.compilation import can_compile, compiled_quantizers
from bitsearch.quant.recomputation import recomputed_operands
from bitsearch.study.trial_roles import baselines, searched
from bitsearch.train.task import Task
from bitsearch.train.threads import limited_threads

COMPILE_FROM = 5e9
"""Spikes per time step of a whole run from which compiling its quantizers pays: a minute's compilation saves some tens
of nanoseconds a spike."""


@contextmanager
def runtime_context(task: Task, *, compiled: bool) -> Iterator[None]:
    """How every process of a run computes."""
    with (
        # Compiled code has its number of threads built in, so that is settled first.
        limited_threads(task.activations),
        compiled_quantizers() if compiled else nullcontext(),
        recomputed_operands() if task.space.training.recompute else nullcontext(),
    ):
        yield


def should_compile(task: Task, trials: int) -> bool:
    """Whether this run trains with compiled quantizers, as its space says; InputError if it must and cannot."""
    choice = task.space.training.compile
    if choice == "always" and not can_compile(task.device):
        raise InputError(
            'training.compile is "always", but there is no compiler; install g++, or set "auto" or "never"'
        )
    if choice != "auto":
        return choice == "always"
    space = task.space
    epochs = (searched(space, trials) + baselines(space)) * space.training.epochs
    spikes = sum(layer.inputs for layer in task.model.layers) * len(task.splits.train) * epochs
    return spikes >= COMPILE_FROM and can_compile(task.device)
