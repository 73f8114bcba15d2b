"""What a refusal says: of one that was caught, and of all that the library can raise."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support.campaigns import REPOSITORY

LIBRARY = REPOSITORY / "workflow_scripts"
VALUE = "\N{HORIZONTAL ELLIPSIS}"
"""What stands in a message for a value that is put in when it is raised."""


def the_line(caught: Any) -> str:
    """Return the message of what pytest.raises caught, printed (pytest -rP shows it): one line, and no book."""
    message = str(caught.value)
    print(message)
    assert "\n" not in message and len(message) < 500
    return message


@dataclass(frozen=True)
class Message:
    """The text of a ``raise`` in the library. place: file and line. text: with VALUE for each value."""

    place: str
    text: str


def messages_of(errors: tuple[str, ...]) -> Iterator[Message]:
    """Yield the messages of all ``raise`` statements of these classes, by their names."""
    for path in sorted(LIBRARY.rglob("*.py")):
        content = path.read_text()
        if not any(f"raise {name}(" in content for name in errors):
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _name(node.exc.func) in errors:
                text = ": ".join(_text(argument) for argument in node.exc.args)
                yield Message(f"{path.relative_to(LIBRARY)}:{node.lineno}", text)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(_text(part) for part in node.values)
        case ast.BinOp():
            return _text(node.left) + _text(node.right)
        case _:
            return VALUE
