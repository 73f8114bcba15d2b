"""Whether the package of an optional dependency is there, said in one line. Imports none of them."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from quarry.config.campaign import Configuration
from quarry.config.extras import EXTRAS
from quarry.errors import QuarryError


def lacking(extra: str, key: str) -> str | None:
    """Return the line about a package that is not installed, or None. extra: its optional dependency; empty: none."""
    if not extra or find_spec(EXTRAS[extra].module) is not None:
        return None
    needed = EXTRAS[extra]
    apart = f", in an environment without {needed.alone}" if needed.alone else ""
    torch = importlib.metadata.version("torch").partition("+")[0]
    return (
        f"{key}: {extra} needs a package that is not installed{apart}: "
        f"{sys.executable} -m pip install {needed.requirement} torch=={torch}"
    )


def check_extras(configuration: Configuration) -> None:
    """Raise QuarryError for the first optional dependency that a section needs and that is not installed."""
    for extra, key in _needed(configuration):
        missing = lacking(extra, key)
        if missing:
            raise QuarryError(missing)


def _needed(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield optional dependencies (empty: none) with the keys that ask for them."""
    if configuration.descriptor is not None:
        yield configuration.descriptor.extra, "descriptor.network"
    for name in configuration.arm_names:
        model, prefix = configuration.arm(name).model, "" if name == configuration.arm_names[0] else f"arms.{name}."
        yield model.extra, f"{prefix}model.kind"
        if model.baseline is not None:
            yield model.baseline.extra, f"{prefix}model.baseline.kind"
