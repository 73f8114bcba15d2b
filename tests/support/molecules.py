"""Small molecules and levels of theory for the tests of PySCF."""

from __future__ import annotations

from typing import Any

import numpy as np

from quarry.config.methods import PyscfMethod
from quarry.structures import Structure


def method(xc: str = "hf", basis: str = "sto-3g", **settings: Any) -> PyscfMethod:
    return PyscfMethod(xc=xc, basis=basis, **settings)


def unrounded(numbers: list[int], positions: Any, charge: int = 0, multiplicity: int = 1) -> Structure:
    return Structure(np.array(numbers), np.array(positions, dtype=float), charge, multiplicity)


def bent_water(scale: float = 1.0) -> Structure:
    return unrounded([8, 1, 1], np.array([[0.02, 0.0, 0.12], [0.0, 0.80, -0.47], [0.1, -0.74, -0.5]]) * scale)


def hydroxyl(charge: int = 0, shift: float = 0.0) -> Structure:
    return unrounded([8, 1], [[shift, 0.1, 0.0], [shift, 0.3, 0.95]], charge, 2 if charge == 0 else 1)
