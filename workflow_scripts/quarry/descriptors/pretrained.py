"""Features of atoms in a trained network's last layer, pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.config.descriptors import Pretrained
from quarry.devices import device_of
from quarry.networks.base import check_domain, pooled
from quarry.networks.registry import pretrained
from quarry.structures import Structure, StructureSet

KEY = "descriptor.kind: pretrained"


def pretrained_of(
    settings: Pretrained, elements: Sequence[int], base: Path | None
) -> tuple[int, float, Callable[[StructureSet], NDArray[np.float64]]]:
    """Return the number of features, the cutoff (Angstrom) within which atoms are neighbours, and the function that gives the
    features of structures, shape (n, that number).

    elements: of the pool, for pooling: elements; the network knows more. base: folder of the campaign file, for a network in a
    file. Raises QuarryError if the network cannot be read; the function does for elements that it does not know.
    """
    network = pretrained(settings.network, settings.model, base, "descriptor.model", device_of(settings.device))

    def compute(structures: StructureSet) -> NDArray[np.float64]:
        check_domain(network, structures, KEY)
        return pooled(network, structures, settings.pooling, elements)

    known = int(network.elements[0])
    atom = StructureSet.from_structures([Structure.create([known], np.zeros((1, 3)))])
    return pooled(network, atom, settings.pooling, elements).shape[1], network.cutoff_A, compute
