"""Which structures have atoms near enough to be neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.structures import StructureSet


def within_cutoff(cutoff_A: float, structures: StructureSet) -> NDArray[np.bool_]:
    """Return in which structures an atom, or an image of it, is within a cutoff (Angstrom) of another, shape (n,)."""
    from ase.neighborlist import neighbor_list

    return np.array(
        [len(neighbor_list("i", structure.to_atoms(), cutoff_A)) > 0 for structure in structures], dtype=bool
    )
