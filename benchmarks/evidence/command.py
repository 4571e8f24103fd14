"""The arguments that the evidence's commands have in common."""

import argparse
from pathlib import Path
from typing import Any

SHARED: dict[str, dict[str, Any]] = {
    "space": {"help": "name or file"},
    "spaces": {"help": "names or files, commas between them"},
    "budgets": {"help": "commas between them"},
    "seeds": {"type": int},
}
"""By name, those that a command may have, with a default of its own."""


def parser(description: str | None, *, overrides: bool = True, **defaults: str | int) -> argparse.ArgumentParser:
    """Of a command that goes on until nothing is missing, or time is up.

    Args:
        description: the command's docstring.
        overrides: whether settings of its space may be given.
        defaults: of those of :data:`SHARED` that it has.
    """
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        found.add_argument(f"--{name}", default=default, **SHARED[name])
    if overrides:
        found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the space")
    found.add_argument("--minutes", type=float, default=float("inf"), help="no run starts later")
    found.add_argument("--out", type=Path, required=True, help="folder of the table and the page")
    return found
