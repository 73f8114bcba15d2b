"""Numbers and words that are a charge or a spin."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

_SIGNED = re.compile(r"\d{1,2}[+-]|[+-]{1,3}|[-+]?\d{1,2} *[/,;] *\d{1,2}")
SPINS = frozenset({"doublet", "triplet", "quartet", "quintet", "sextet", "septet", "octet", "nonet"})
"""Words that say a multiplicity under whatever name they stand."""
_WORDS = SPINS | {"cation", "anion", "dication", "dianion", "radical", "high", "high-spin", "high_spin"}


def whole_number(value: Any) -> float | None:
    """Return the number that a value or text is, if it is whole (to 1e-6); None for everything else."""
    array = np.asarray(value)
    try:
        item = array.item() if array.size == 1 else None
        number = float(item.decode() if isinstance(item, bytes) else str(item))
    except (ValueError, UnicodeDecodeError):
        return None
    return float(np.rint(number)) if np.isfinite(number) and abs(number - np.rint(number)) < 1e-6 else None


def says_state(value: Any) -> bool:
    """Return whether a value is a word that says a charge or a spin (triplet, 2+, 0/3)."""
    text = (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip().lower()
    return text in _WORDS or _SIGNED.fullmatch(text) is not None
