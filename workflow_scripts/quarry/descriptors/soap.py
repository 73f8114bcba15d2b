"""Smooth overlap of atomic positions (SOAP), through the library dscribe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from quarry.config.descriptors import Soap
from quarry.errors import QuarryError
from quarry.structures import StructureSet


def soap_of(settings: Soap, elements: Sequence[int]) -> tuple[int, Callable[[StructureSet], NDArray[np.float64]]]:
    """Return the number of features, and the function that gives the features of structures, shape (n, that number).

    One vector for each structure: the power spectrum p of A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115
    (2013), with Gaussian-type radial functions, averaged over the atoms (``average`` inner: their expansion
    coefficients, outer: their power spectra). elements: atomic numbers, all that the pool has.
    Raises QuarryError if dscribe is not installed, or where it cannot build its basis.
    """
    from ase import Atoms

    try:
        from dscribe.descriptors import SOAP
    except ImportError as error:
        raise QuarryError(f"descriptor.kind: soap needs the package dscribe ({error}); install it") from error
    try:
        descriptor = SOAP(
            species=list(elements),
            r_cut=settings.cutoff_A,
            n_max=settings.radial_functions,
            l_max=settings.angular_momentum,
            sigma=settings.sigma_A,
            average=settings.average,
            dtype="float64",
        )
    except ValueError as error:
        raise QuarryError(f"descriptor.kind: soap: {' '.join(str(error).split())}; change its settings") from error
    width = int(descriptor.get_number_of_features())

    def compute(structures: StructureSet) -> NDArray[np.float64]:
        features = np.empty((len(structures), width))
        for row in range(len(structures)):
            atoms = slice(int(structures.offsets[row]), int(structures.offsets[row + 1]))
            features[row] = descriptor.create(Atoms(structures.numbers[atoms], structures.positions[atoms]))
        return features

    return width, compute
