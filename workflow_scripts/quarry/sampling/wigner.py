"""Geometries from the harmonic Wigner distribution of a molecule's normal modes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import constants

from quarry.errors import QuarryError
from quarry.sampling.normal_modes import NormalModes
from quarry.structures import Structure, StructureSet


def coordinate_variances(frequencies_cm: NDArray[np.float64], temperature_K: float) -> NDArray[np.float64]:
    """Return the variance of each mass-weighted normal coordinate, Angstrom^2 u, shape (n_modes,).

    ``hbar / (2 omega) coth(hbar omega / (2 k_B T))``, the position width of the Wigner function of a thermal harmonic
    oscillator (Hillery, O'Connell, Scully, Wigner, Phys. Rep. 106, 121 (1984)); T = 0 gives the ground state.
    frequencies_cm: 1/cm, positive, shape (n_modes,). temperature_K: kelvin.
    """
    omega = 2.0 * np.pi * constants.c * 100.0 * np.asarray(frequencies_cm, dtype=np.float64)
    variance_si = constants.hbar / (2.0 * omega)
    if temperature_K > 0:
        variance_si = variance_si / np.tanh(constants.hbar * omega / (2.0 * constants.k * temperature_K))
    return variance_si / (constants.atomic_mass * constants.angstrom**2)


def sample_wigner(modes: NormalModes, temperature_K: float, size: int, rng: np.random.Generator) -> StructureSet:
    """Draw geometries, as Xue, Dral and Barbatti (J. Phys. Chem. A 2020, 124, 7199) do for nuclear ensembles.

    Normal coordinates are independent and normal with ``coordinate_variances``; momenta are not drawn. The first n of
    a larger sample with the same generator state are the sample of size n.
    Raises QuarryError for a mode without a positive frequency, a single atom or a negative temperature.
    """
    if temperature_K < 0:
        raise QuarryError(f"pool.temperature_K: {temperature_K} is below absolute zero; set it to 0 or more")
    if not len(modes.frequencies_cm):
        raise QuarryError("pool.molecule: a single atom has no vibrations; a wigner pool needs at least two atoms")
    if (modes.frequencies_cm <= 0).any():
        listed = ", ".join(f"{-f:.0f}i" for f in modes.frequencies_cm if f <= 0)
        raise QuarryError(
            f"pool: the normal modes have imaginary frequencies ({listed} 1/cm), which have no Wigner distribution; "
            "optimise the molecule first, or start from another geometry"
        )
    widths = np.sqrt(coordinate_variances(modes.frequencies_cm, temperature_K))
    coordinates = rng.standard_normal((size, len(widths))) * widths
    equilibrium = modes.equilibrium
    positions = equilibrium.positions + np.tensordot(coordinates, modes.modes, axes=1)
    return StructureSet.from_structures(
        Structure.create(equilibrium.numbers, x, equilibrium.charge, equilibrium.multiplicity) for x in positions
    )
