"""Reading the file of a model: what is damaged, or of another version, is an error of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quarry.errors import QuarryError, reason_of

REMEDY = "remove it and start again"


@contextmanager
def intact(path: str | Path) -> Iterator[None]:
    """Raise QuarryError for what goes wrong while the file of a model is read."""
    try:
        yield
    except (OSError, KeyError, ValueError) as error:
        raise QuarryError(f"{path}: this is not an intact model file ({reason_of(error)}); {REMEDY}") from error


def check_version(path: str | Path, kind: str, found: int, version: int) -> None:
    """Raise QuarryError if a model of a kind was written in another version than the one that is read."""
    if found != version:
        raise QuarryError(f"{path}: a {kind} of version {found}, this Quarry reads {version}; {REMEDY}")
