"""``bitsearch proxy``."""

from typing import Annotated

import typer
from rich.console import Console

from bitsearch.cli.options import StorageOption
from bitsearch.errors import InputError


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
    from bitsearch.search.proxy import serve

    try:
        serve(storage, host, port, lambda: errors.print(f"Workers: --storage grpc://{host}:{port}", highlight=False))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
