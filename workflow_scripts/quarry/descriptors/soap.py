"""Smooth overlap of atomic positions (SOAP), through the library dscribe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from numpy.typing import NDArray

from quarry.config.descriptors import Soap
from quarry.config.installed import require
from quarry.errors import QuarryError
from quarry.structures import StructureSet


def soap_of(settings: Soap, elements: Sequence[int]) -> tuple[int, Callable[[StructureSet], NDArray[np.float64]]]:
    """Return the number of features, and the function that gives the features of structures, shape (n, that number).

    One vector for each structure: the power spectrum p of A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115
    (2013), with Gaussian-type radial functions, averaged over the atoms (``average`` inner: their expansion
    coefficients, outer: their power spectra). In a periodic structure the neighbours of an atom are those of all images
    along the periodic directions; the average is over the atoms of the cell, so that a cell and its supercell are the
    same. elements: atomic numbers, all that the pool has.
    Raises QuarryError if dscribe is not installed, or where it cannot build its basis.
    """
    require("soap", "descriptor.kind: soap")
    from dscribe.descriptors import SOAP

    def made(periodic: bool) -> SOAP:
        return SOAP(
            species=list(elements),
            r_cut=settings.cutoff_A,
            n_max=settings.radial_functions,
            l_max=settings.angular_momentum,
            sigma=settings.sigma_A,
            average=settings.average,
            periodic=periodic,
            dtype="float64",
        )

    try:
        # The library refuses molecules where it is made for cells, and takes no images where it is not.
        of_molecules, of_cells = made(False), made(True)
    except ValueError as error:
        raise QuarryError(f"descriptor.kind: soap: {' '.join(str(error).split())}; change its settings") from error
    width = int(of_molecules.get_number_of_features())

    def compute(structures: StructureSet) -> NDArray[np.float64]:
        features = np.empty((len(structures), width))
        for row in range(len(structures)):
            atoms = slice(int(structures.offsets[row]), int(structures.offsets[row + 1]))
            pbc = structures.pbc[row]
            frame = Atoms(structures.numbers[atoms], structures.positions[atoms])
            if pbc.any():
                # Open directions may have no cell vector, for which the library has no use either.
                frame.set_cell(complete_cell(np.where(pbc[:, None], structures.cells[row], 0.0)))
                frame.pbc = pbc
            features[row] = (of_cells if pbc.any() else of_molecules).create(frame)
        return features

    return width, compute
