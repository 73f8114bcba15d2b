"""Numbers as programs and tables write them, and what is meant by those that are written otherwise. Standard library only."""

from __future__ import annotations

import re
from typing import Any

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
"""A number as programs and tables write it. Python reads more: 1_0 is ten, and so are digits of other scripts."""
MISPRINTS = (
    (re.compile("^[\u2212\u2013]"), "-"),
    # Exponents of Fortran, with d or q, or without a letter where they have three digits.
    (re.compile(r"[dq](?=[-+]?\d+$)", re.IGNORECASE), "e"),
    (re.compile(r"(?<=[\d.])(?=[-+]\d{3}$)"), "e"),
    (
        re.compile(r"^(?=[-+]?[\d.]*,)(?P<whole>[-+]?\d{1,3}(?:\.\d{3})+|[-+]?\d+),(?=\d)"),
        lambda found: _undotted(found),
    ),
    (re.compile("_"), ""),
)
"""How numbers are written otherwise, and how they are meant."""


def number_of(text: str) -> float:
    """Return the number that a text is (also nan and inf).

    Raises ValueError for every other text, with the number that is probably meant.
    """
    plain = text.strip()
    if NUMBER.fullmatch(plain):
        return float(plain)
    meant = meant_by(plain)
    raise ValueError(f"'{plain:.40}' is no number" + (f"; write {meant}" if meant else ""))


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or the text of one (nan and inf too)."""
    try:
        number_of(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return False
    return True


def meant_by(text: str) -> str:
    """Return how a number must be written that is written otherwise (-1.0D+01, 1,5, 1_000); empty if it is no number."""
    plain = text.strip()
    if len(plain) > 40 or NUMBER.fullmatch(plain):
        return ""
    for pattern, meant in MISPRINTS:
        plain = pattern.sub(meant, plain)
    return plain if NUMBER.fullmatch(plain) else ""


def _undotted(found: re.Match[str]) -> str:
    return found["whole"].replace(".", "") + "."
