"""Random generators that depend on the campaign's seed and the purpose only, never on the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a generator seeded by the campaign seed and the purpose, e.g. ``generator(7, "main", 3, "propose")``.

    Two different purposes give independent streams; the same arguments give the same stream on every machine.
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in purpose).encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
