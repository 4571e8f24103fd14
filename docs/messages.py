"""Every message that refuses something, read from the code: the page of them all; docs/trouble.md quotes some."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "bitsearch"
BLANK = "…"
"""Stands for what a message fills in."""


@dataclass(frozen=True)
class Message:
    """One message of the code."""

    place: str
    """Package or module below bitsearch."""
    text: str
    """With :data:`BLANK` for what is filled in."""


def messages() -> list[Message]:
    """Those of every ``InputError``, ``StorageError`` and warning, in the order of the files."""
    return [
        Message(path.relative_to(PACKAGE).with_suffix("").parts[0], text)
        for path in sorted(PACKAGE.rglob("*.py"))
        for text in _texts(ast.parse(path.read_text(encoding="utf-8")))
    ]


def reference() -> str:
    """The page of all messages."""
    parts = [
        "# Messages",
        f"What bitsearch says where it refuses something, or warns, by the part that says it; {BLANK} is filled in. "
        "[Trouble](../trouble.md) tells more of those that people meet first.",
    ]
    found = messages()
    for place in dict.fromkeys(message.place for message in found):
        parts += [f"## {place}", "\n".join(f"- {_code(message.text)}" for message in found if message.place == place)]
    return "\n\n".join(parts) + "\n"


def _texts(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _name(node.func) in {"InputError", "StorageError", "warn"}:
            text = _text(node.args[0])
            if text.strip(f"{BLANK}:; ,.'\"()") and " " in text:
                yield " ".join(text.split())


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(node: ast.expr) -> str:
    """A string as far as it is written in the code."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return BLANK


def _code(text: str) -> str:
    """As inline code of Markdown, whatever quotes it holds."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
