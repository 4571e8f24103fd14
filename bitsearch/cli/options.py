"""Options that several commands take."""

from typing import Annotated

import typer

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the search space, such as training.epochs=3 or data_options.root=DIR; several times if you like.",
    ),
]
