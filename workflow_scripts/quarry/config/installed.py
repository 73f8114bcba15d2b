"""Whether the package of an optional dependency is there, said in one line. Imports none of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from quarry.config.base import Section
from quarry.config.campaign import Configuration
from quarry.config.extras import EXTRAS, TORCH_INDEX
from quarry.errors import QuarryError

REPOSITORY = Path(__file__).parents[3]
TO_ADD = "QUARRY_TO_ADD_EXTRA"
"""Environment variable of an image (Containerfile): the command that builds it with {extra}, an optional dependency."""


def lacking(extra: str, what: str) -> str | None:
    """Return the line about packages that are not installed, or None.

    extra: an optional dependency. what: key and value that need it, e.g. "model.kind: mlp".
    """
    needed = EXTRAS[extra]
    if needed.on_top_of and (first := lacking(needed.on_top_of, what)):
        return first
    absent = [module for module in needed.modules if find_spec(module) is None]
    if not absent:
        return None
    apart = f", in an environment without {needed.alone}" if needed.alone else ""
    verb = "is" if len(absent) == 1 else "are"
    return f"{what} needs {' and '.join(absent)}, which {verb} not installed{apart}; type: {line_to_type(extra)}"


def line_to_type(extra: str) -> str:
    """Return the command that installs an optional dependency where this process runs."""
    needed = EXTRAS[extra]
    own = (REPOSITORY / ".venv").resolve() == Path(sys.prefix).resolve() and (REPOSITORY / "Makefile").exists()
    if needed.has_make_target and own:
        if in_image := os.environ.get(TO_ADD):
            return in_image.format(extra=extra)
        folder = "" if Path.cwd() == REPOSITORY else f" -C {shlex.quote(str(REPOSITORY))}"
        return f"make{folder} {extra}"
    # The pin of torch: another package must not replace it by another one.
    wanted = [*needed.requirements, *(EXTRAS[needed.on_top_of].requirements[:1] if needed.on_top_of else ())]
    index = f" --extra-index-url {TORCH_INDEX}" if extra == "torch" else ""
    return f"{shlex.quote(sys.executable)} -m pip install{index} {' '.join(wanted)}"


def require(extra: str, what: str) -> None:
    """Raise QuarryError, one line, if an optional dependency is not installed. Arguments as of ``lacking``."""
    missing = lacking(extra, what)
    if missing:
        raise QuarryError(missing)


def what_is_lacking(section: Section, key: str) -> str | None:
    """Return the line about the first package that a section asks for and that is not installed. key: of the section."""
    for name, extra in section.extras.items():
        missing = lacking(extra, f"{key}.{name}: {getattr(section, name)}")
        if missing:
            return missing
    return None


def require_extras(section: Section, key: str) -> None:
    """Raise QuarryError for the first optional dependency that a section asks for and that is not installed."""
    missing = what_is_lacking(section, key)
    if missing:
        raise QuarryError(missing)


def check_extras(configuration: Configuration) -> None:
    """Raise QuarryError for the first optional dependency that a campaign asks for and that is not installed."""
    for section, key in _sections(configuration):
        require_extras(section, key)


def _sections(configuration: Configuration) -> Iterator[tuple[Section, str]]:
    if configuration.descriptor is not None:
        yield configuration.descriptor, "descriptor"
    for name in configuration.arm_names:
        model, prefix = configuration.arm(name).model, "" if name == configuration.arm_names[0] else f"arms.{name}."
        yield model, f"{prefix}model"
        if model.baseline is not None:
            yield model.baseline, f"{prefix}model.baseline"
