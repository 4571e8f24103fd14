"""``bitsearch worker``, and ``bitsearch proxy`` between workers and their database."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from bitsearch.cli.options import (
    ArtifactsOption,
    DeviceOption,
    LoggerOption,
    ProcessesOption,
    QuietOption,
    StorageOption,
    TrustOption,
    VerboseOption,
)
from bitsearch.cli.terminal.console import Console, make_console, train_together
from bitsearch.cli.terminal.progress import Bars
from bitsearch.errors import InputError
from bitsearch.launch import is_rank_zero


def worker(
    study: Annotated[str, typer.Option(help="Name of the study, as `bitsearch run --study` was given it.")],
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder for logs and checkpoints; one that all workers share lets a lost trial go on from its last "
            "epoch. Default: a temporary one."
        ),
    ] = None,
    trust: TrustOption = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a study that is not there yet.")] = 3600.0,
    device: DeviceOption = "auto",
    logger: LoggerOption = None,
    processes: ProcessesOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take trials from a study that `bitsearch run --storage` has started, until none is left.

    Several machines for one trial: torchrun --nnodes 2 ... -m bitsearch worker ...
    """
    train_together(processes)
    if storage is None:
        raise InputError("no storage is given; give --storage postgresql://user@host/database, or BITSEARCH_STORAGE")
    if logger is not None and folder is None:
        raise InputError("--logger keeps its files in the worker's folder, which is a temporary one; give --folder")
    # Of several processes, only the first writes and prints.
    is_first_process = is_rank_zero()
    errors = make_console(quiet=quiet or not is_first_process, verbose=verbose and is_first_process)
    with errors.status("Loading torch"):
        from bitsearch.runs.folder import RunFolder
        from bitsearch.study.worker import work

    with ExitStack() as stack:
        path = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bitsearch-")))
        bars = stack.enter_context(Bars(errors, epochs=verbose))
        try:
            trial_count = work(
                storage,
                study,
                RunFolder(path),
                artifacts=artifacts,
                trust=trust,
                device=device,
                patience=wait,
                logger=logger,
                progress=bars,
            )
        except KeyboardInterrupt:
            errors.print("Interrupted; the trial goes back to the others.", highlight=False)
            raise typer.Exit(130) from None
    errors.print(f"Nothing is left to do; {trial_count} trials ended here.", highlight=False)


def proxy(
    storage: StorageOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. It has no login: open it to a network that you trust, no other.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 13000,
) -> None:
    """Stand between a database and thousands of workers: they give --storage grpc://HOST:PORT."""
    if storage is None:
        raise InputError("no storage is given; give --storage postgresql://user@host/database, or BITSEARCH_STORAGE")
    errors = Console(stderr=True)
    from bitsearch.study.database.proxy import serve

    try:
        serve(storage, host, port, lambda: errors.print(f"Workers: --storage grpc://{host}:{port}", highlight=False))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
