"""Geometries from the harmonic Wigner distribution of a molecule's normal modes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import constants

from quarry.config.pool import LowModes
from quarry.errors import QuarryError
from quarry.sampling.modes import NormalModes
from quarry.structures import Structure, StructureSet
from quarry.structures.structure import check_size


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


LOW_CM = 100.0
"""Modes below this wavenumber are named to the user: a harmonic potential is a poor picture of them, 1/cm."""


def sample_wigner(
    modes: NormalModes, temperature_K: float, size: int, rng: np.random.Generator, low_modes: LowModes | None = None
) -> StructureSet:
    """Draw geometries, as Xue, Dral and Barbatti (J. Phys. Chem. A 2020, 124, 7199) do for nuclear ensembles.

    Normal coordinates are independent and normal with ``coordinate_variances``; momenta are not drawn. The first n of
    a larger sample with the same generator state are the sample of size n. low_modes: what is done with modes of low
    wavenumber; the other modes' coordinates are the same whatever it is.
    Raises QuarryError for a mode without a positive frequency, a single atom, a negative temperature, or if no mode is
    left that moves.
    """
    if temperature_K < 0:
        raise QuarryError(f"pool.temperature_K: {temperature_K} is below absolute zero; set it to 0 or more")
    if not len(modes.frequencies_cm):
        raise QuarryError("pool.molecule: a single atom has no vibrations; a wigner pool needs at least two atoms")
    modes.check("pool: the molecule", "optimise the molecule first, or start from another geometry")
    widths = _widths(modes.frequencies_cm, temperature_K, low_modes)
    coordinates = rng.standard_normal((size, len(widths))) * widths
    equilibrium = modes.equilibrium
    positions = equilibrium.positions + np.tensordot(coordinates, modes.modes, axes=1)
    try:
        check_size(positions)
    except ValueError as error:
        raise QuarryError(
            f"pool: a drawn geometry has {error}: the lowest mode, {modes.frequencies_cm.min():.2g} 1/cm, is no vibration; "
            "set pool.low_modes"
        ) from error
    return StructureSet.from_structures(
        Structure.create(equilibrium.numbers, x, equilibrium.charge, equilibrium.multiplicity) for x in positions
    )


def sample_wigner_motion(
    modes: NormalModes, temperature_K: float, rng: np.random.Generator, low_modes: LowModes | None = None
) -> tuple[Structure, NDArray[np.float64]]:
    """Draw a geometry, and velocities of its atoms in Angstrom/fs, shape (n_atoms, 3).

    Coordinates and momenta of the Wigner function of a thermal harmonic oscillator are independent; the velocity of a
    mass-weighted normal coordinate has the variance of the coordinate times omega^2 (Hillery et al., Phys. Rep. 106, 121 (1984)).
    Modes that low_modes freezes do not move. Errors as of ``sample_wigner``.
    """
    drawn = sample_wigner(modes, temperature_K, 1, rng, low_modes)[0]
    frequencies_cm = modes.frequencies_cm
    if low_modes is not None:
        frequencies_cm = np.maximum(frequencies_cm, low_modes.below_cm)
    omega_per_fs = 2.0 * np.pi * constants.c * 100.0 * frequencies_cm * constants.femto
    speeds = omega_per_fs * _widths(modes.frequencies_cm, temperature_K, low_modes)
    return drawn, np.tensordot(rng.standard_normal(len(speeds)) * speeds, modes.modes, axes=1)


def _widths(
    frequencies_cm: NDArray[np.float64], temperature_K: float, low_modes: LowModes | None
) -> NDArray[np.float64]:
    """Return the standard deviation of each normal coordinate, Angstrom u^(1/2), shape (n_modes,)."""
    if low_modes is None:
        return np.sqrt(coordinate_variances(frequencies_cm, temperature_K))
    widths = np.sqrt(coordinate_variances(np.maximum(frequencies_cm, low_modes.below_cm), temperature_K))
    if low_modes.treatment == "freeze":
        widths[frequencies_cm < low_modes.below_cm] = 0.0
        if not widths.any():
            raise QuarryError(
                f"pool.low_modes: all modes are below {low_modes.below_cm:g} 1/cm, freeze leaves none; lower below_cm"
            )
    return widths


def low_modes_message(frequencies_cm: NDArray[np.float64], low_modes: LowModes | None) -> str:
    """Return a message about the low modes and what is done with them; empty if there are none.

    frequencies_cm: 1/cm, shape (n_modes,).
    """
    limit = LOW_CM if low_modes is None else low_modes.below_cm
    low = frequencies_cm[frequencies_cm < limit]
    if not len(low):
        return ""
    listed = f"modes below {limit:g} 1/cm ({', '.join(f'{f:.0f}' for f in low)})"
    if low_modes is None:
        return (
            f"{listed} are sampled as harmonic, with large displacements; pool.low_modes raises their wavenumber or "
            "freezes them"
        )
    done = {"raise": f"are sampled as if at {limit:g} 1/cm", "freeze": "are frozen"}[low_modes.treatment]
    return f"{listed} {done}"
