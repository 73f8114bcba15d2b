"""The user's own code by import path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quarry.errors import QuarryError


def load(path: str, key: str, base: Path | None = None) -> Callable[..., Any]:
    """Return what the import path ``package.module:name`` names; modules of the working directory count too.

    key: of the configuration, for messages. base: folder of the campaign file, whose modules count before those of the
    working directory. Raises QuarryError if it cannot be imported or called.
    """
    module_name, _, name = path.partition(":")
    # Appended: a file of the user's own folders never hides a library's module.
    for folder in (base, Path.cwd()):
        if folder is not None and str(folder.resolve()) not in sys.path:
            sys.path.append(str(folder.resolve()))
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise QuarryError(
            f"{key}: cannot import '{path}' ({type(error).__name__}: {reason}); "
            f"give package.module:name, importable from the {'campaign folder or the ' if base else ''}working directory"
        ) from error
    if not callable(found):
        raise QuarryError(f"{key}: '{path}' is not callable; name a function or a class")
    loaded: Callable[..., Any] = found
    return loaded
