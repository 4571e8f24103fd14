"""``bitsearch networks``: the networks that have a name."""

import inspect
import re
import tomllib
from collections.abc import Callable
from typing import Any

import typer

from bitsearch.cli.terminal.console import print_entry
from bitsearch.plug_ins import packages_of, plug_ins
from bitsearch.space import shipped_spaces

app = typer.Typer(help="Networks: what there is by name.", no_args_is_help=True)


@app.command("list")
def list_networks() -> None:
    """List the networks that have a name, with their options, their inputs and the search spaces that train them."""
    from bitsearch.models import NETWORKS

    spaces: dict[str, list[str]] = {}
    for space, text in sorted(shipped_spaces().items()):
        spaces.setdefault(tomllib.loads(text)["network"], []).append(space)
    for name, factory in NETWORKS.items():
        print_entry(name, [_signature(factory), f"  {_summary(factory)}", f"  {_trained_by(spaces.get(name, []))}"])
    for name, points in plug_ins("network").items():
        print_entry(name, [f"of package {packages_of(points)} ({points[0].value})"])


def _signature(factory: Callable[..., Any]) -> str:
    """What one input is unless the data say otherwise, and the options with their defaults."""
    defaults = {key: parameter.default for key, parameter in inspect.signature(factory).parameters.items()}
    shape = "×".join(map(str, defaults.pop("input_shape")))
    classes = defaults.pop("classes")
    options = ", ".join(f"{key}={value}" for key, value in defaults.items())
    return f"{shape}, {classes:,} classes, or as the data are; {f'options: {options}' if options else 'no options'}"


def _summary(factory: Callable[..., Any]) -> str:
    """The first sentence of its docstring, as plain text."""
    line = (inspect.getdoc(factory) or "").partition("\n")[0]
    return re.sub(r":\w+:`([^`]*)`", r"\1", line).replace("``", "")


def _trained_by(spaces: list[str]) -> str:
    return f"search spaces: {', '.join(spaces)}" if spaces else "in no search space that is shipped"
