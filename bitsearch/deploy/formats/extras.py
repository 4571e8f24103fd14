"""Packages that only some formats need."""

from importlib.util import find_spec

from bitsearch.errors import InputError


def require(extra: str, *modules: str) -> None:
    """Raise InputError, with the command that installs them, if one of the modules of an extra is not there."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is not installed; run: pip install 'bitsearch[{extra}]'")
