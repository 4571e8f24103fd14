"""The processes of one run: the leader decides, writes and prints; all of them train and measure.

What they do together is a job. The leader sends it to the others before it does its own part; they only execute jobs,
and never touch the run folder or the study.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lightning_fabric import Fabric
from torch import distributed, nn

from bitsearch.cost import Budget
from bitsearch.errors import DivergedError, InputError
from bitsearch.runs.interruption import Interrupted, Stop
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.epoch_record import EpochRecord, OnEpoch
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import Task

EXIT_SECONDS = 1.0
"""A process that has lost another one leaves after it, so that whoever started both sees the other's exit code."""

_Result = TypeVar("_Result", covariant=True)


@dataclass(frozen=True)
class Farewell:
    """The leader's last message to the others."""

    folder: str
    """Of the run; empty where it has come to no result."""
    exit_code: int = 0


_NOTHING: Any = None
"""What followers put into a broadcast, which is the leader's alone."""


class Job(Protocol[_Result]):
    """Something that all processes of a run do together; the same in each."""

    def __call__(self, processes: "ProcessGroup", session: TrainingSession) -> _Result:
        """This process's part."""


@dataclass
class ProcessGroup:
    """This process's hold on all of a run, made in each by the same arguments."""

    task: Task
    budgets: Sequence[Budget]
    seed: int
    fabric: Fabric
    stop: Stop
    network: nn.Module = field(init=False)
    """The float network that every trial starts from, once a job has made it."""
    _others_busy: bool = field(default=False, init=False)
    """Whether the others listen to no message: they are doing a job, or have left."""

    def do(
        self,
        job: Job[_Result],
        on_epoch: OnEpoch = lambda record: None,
        *,
        checkpoint_file: Path | None = None,
        misfit: Callable[[str], None] = lambda reason: None,
    ) -> _Result:
        """For the leader: send a job to the others and do it with them.

        Args:
            job: likewise.
            on_epoch: gets a record after every epoch.
            checkpoint_file: from which it goes on.
            misfit: as for :class:`bitsearch.train.checkpoint.Checkpoint`.

        Raises:
            Interrupted: asked to stop, after an epoch that was kept; in all processes.
        """
        self.fabric.broadcast(job)
        self._others_busy = True
        with Checkpoint(checkpoint_file, fabric=self.fabric, misfit=misfit, after=self._check_stop) as checkpoint:
            try:
                result = job(self, self._session(on_epoch, checkpoint))
            except DivergedError:
                # In all processes at once: the others listen again.
                self._others_busy = False
                raise
            # Before the disk is waited for, which is the leader's alone.
            self._others_busy = False
        return result

    def _session(self, on_epoch: OnEpoch, checkpoint: Checkpoint) -> TrainingSession:
        # There is none before a job has made it.
        teacher = getattr(self, "network", None)
        task = self.task
        return TrainingSession(
            task.splits, task.space.training, on_epoch, checkpoint, self.fabric, teacher, task.learning_task
        )

    def can_continue(self, error: BaseException) -> bool:
        """Whether all processes are still there after a job has failed with ``error`` in the leader."""
        return self.fabric.world_size == 1 or isinstance(error, DivergedError)

    def _check_stop(self) -> None:
        if self.fabric.world_size > 1:
            self.stop.requested = self.fabric.broadcast(self.stop.requested)
        self.stop.check()

    @contextmanager
    def leading(self) -> Iterator[None]:
        """For the leader: whatever ends what is inside, the others leave as well, with its exit code.

        Where an error has struck in the middle of a job, they are not listening: they leave when the connection ends.
        """
        try:
            yield
        except BaseException as error:
            if not self._others_busy:
                self.fabric.broadcast(Farewell("", exit_code=_exit_code(error)))
            raise

    def shutdown(self, folder: str) -> None:
        """For the leader: let the others go with the run's folder."""
        self.fabric.broadcast(Farewell(folder))
        # Nobody listens any more.
        self._others_busy = True

    def serve(self) -> str:
        """For the others: do every job until the leader's farewell; the run's folder.

        Raises:
            SystemExit: the leader has ended with an error, of which it told.
            RuntimeError: what went wrong in this process alone.
        """
        while True:
            try:
                job: Job[object] | Farewell = self.fabric.broadcast(_NOTHING)
                if isinstance(job, Farewell):
                    if job.exit_code:
                        sys.exit(job.exit_code)
                    return job.folder
                job(self, self._session(_nobody, Checkpoint(None, fabric=self.fabric, after=self._check_stop)))
            except DivergedError:
                # The leader knows.
                continue
            except InputError as error:
                raise RuntimeError(f"process {self.fabric.global_rank}: {error}") from error
            except RuntimeError as error:
                if not _is_lost_connection(error):
                    raise
                # Another process has ended in the middle of a job, and told why: its exit code comes first.
                time.sleep(EXIT_SECONDS)
                sys.exit(1)


def _is_lost_connection(error: RuntimeError) -> bool:
    """True where a collective operation found that another process is gone: gloo has no class of error for it."""
    return isinstance(error, distributed.DistError) or "/gloo/" in str(error)


def _exit_code(error: BaseException) -> int:
    """What a process that ends with an error exits with, as the command line has it."""
    if isinstance(error, KeyboardInterrupt | Interrupted):
        return 130
    return 2 if isinstance(error, InputError) else 1


def _nobody(record: EpochRecord) -> None:
    """Followers measure every epoch with the leader, and tell nobody."""
