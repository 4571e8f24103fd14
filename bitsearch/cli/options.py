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

ModelOption = Annotated[
    str | None,
    typer.Option(help="Network: a shipped one, or package.module:factory of your own. The space's by default."),
]
ModelArgOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Option of the network, such as width=8; several times if you like."),
]
DataOption = Annotated[
    str | None,
    typer.Option(help="Data: a shipped data set, or package.module:factory of your own. The space's by default."),
]
DataArgOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Option of the data, such as root=photos; several times if you like."),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Run the code that the plan's own package.module:factory names; read it before."),
]
