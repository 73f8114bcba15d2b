"""Absorption cross-sections: the nuclear-ensemble approach and the single-point convolution, and how two spectra differ.

R. Crespo-Otero, M. Barbatti, Theor. Chem. Acc. 131, 1237 (2012); with machine learning: B.-X. Xue, M. Barbatti, P. O. Dral,
J. Phys. Chem. A 124, 7199 (2020). Energies in eV, cross-sections in Angstrom^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import constants

from quarry.errors import QuarryError

PREFACTOR_A2_EV = (
    constants.pi
    * constants.e**2
    * (constants.hbar / constants.e)
    / (2 * constants.m_e * constants.c * constants.epsilon_0)
    * 1e20
)
"""pi e^2 h-bar / (2 m_e c eps_0) in Angstrom^2 eV: the integral over the energy of a line of oscillator strength 1.

Formulas with h instead of h-bar are in print; they are larger by 2 pi.
"""
HC_EV_NM = constants.h * constants.c / constants.e * 1e9
"""Photon energy (eV) times wavelength (nm)."""
EDGE = 3.0
"""A spectrum reaches from this many broadenings below its lowest line to as many above its highest."""
REACH = 4.0
"""A line is taken for zero beyond this many broadenings (1e-14 of its height)."""
CELLS = 1_000_000
"""Numbers in each array of a block of members."""
MOST_POINTS = 2_000_000
"""Points that a spectrum may have."""


@dataclass(frozen=True, eq=False)
class CrossSection:
    """An absorption cross-section on equidistant energies.

    energies: eV, rising, all above 0, shape (n,). sigma: Angstrom^2 per molecule, shape (n,). standard_error: of the mean
    over the ensemble, Angstrom^2, shape (n,); None where there are not two members. members: of the ensemble.
    """

    energies: NDArray[np.float64]
    sigma: NDArray[np.float64]
    standard_error: NDArray[np.float64] | None = None
    members: int = 1

    @property
    def wavelengths(self) -> NDArray[np.float64]:
        """Wavelengths in vacuum, nm."""
        return HC_EV_NM / self.energies

    def integral(self) -> float:
        """Return the integral over the energy, Angstrom^2 eV."""
        return float(np.trapezoid(self.sigma, self.energies))


def nuclear_ensemble(
    energies: NDArray[np.float64],
    strengths: NDArray[np.float64],
    delta_eV: float,
    step_eV: float,
    refractive_index: float = 1.0,
) -> CrossSection:
    """Return the cross-section of an ensemble of geometries, with its statistical error.

    sigma(E) = C / (n_r E) 1/N sum_i sum_n dE_in f_in g(E - dE_in), g(x) = exp(-2 x^2 / delta^2) / (delta sqrt(pi / 2)),
    with C = ``PREFACTOR_A2_EV``. The standard error is that of the mean over the N members: the states of one member are
    correlated, so they are summed first.

    energies, strengths: excitation energies (eV) and oscillator strengths, shape (n_members, n_states). A line without
    strength, or at an energy that is not above 0, adds nothing; its member counts all the same.
    Raises QuarryError if a number is not finite or no line adds anything.
    """
    energies, strengths = _checked(energies, strengths)
    grid = _grid(energies, strengths, delta_eV, step_eV)
    count, mean, squares = 0, np.zeros(len(grid)), np.zeros(len(grid))
    for block in _member_sums(energies, strengths, grid, delta_eV, step_eV):
        # Means and sums of squared differences of blocks are joined as T. F. Chan et al. do, Am. Stat. 37, 242 (1983).
        size = len(block)
        shift = block.mean(axis=0) - mean
        squares += ((block - block.mean(axis=0)) ** 2).sum(axis=0) + shift**2 * count * size / (count + size)
        count += size
        mean += shift * size / count
    factor = PREFACTOR_A2_EV / (refractive_index * grid)
    error = factor * np.sqrt(squares / (count * (count - 1))) if count > 1 else None
    return CrossSection(grid, factor * mean, error, count)


def single_point(
    energies: NDArray[np.float64],
    strengths: NDArray[np.float64],
    delta_eV: float,
    step_eV: float,
    refractive_index: float = 1.0,
) -> CrossSection:
    """Return the broadened lines of a single geometry.

    sigma(E) = C / (n_r sqrt(pi)) sum_n f_n / delta exp(-(E - dE_n)^2 / delta^2); C / sqrt(pi) is 0.619 Angstrom^2 eV.

    energies, strengths: excitation energies (eV) and oscillator strengths, shape (n_states,). Errors as in
    ``nuclear_ensemble``.
    """
    energies, strengths = _checked(np.atleast_2d(energies), np.atleast_2d(strengths))
    grid = _grid(energies, strengths, delta_eV, step_eV)
    sigma = np.zeros(len(grid))
    for energy, strength in zip(*_lines(energies, strengths)[1:], strict=True):
        sigma += strength / delta_eV * np.exp(-(((grid - energy) / delta_eV) ** 2))
    return CrossSection(grid, PREFACTOR_A2_EV / (refractive_index * np.sqrt(np.pi)) * sigma)


def sum_rule(strengths: NDArray[np.float64], refractive_index: float = 1.0) -> float:
    """Return the integral (Angstrom^2 eV) that a spectrum has where delta is small against the excitation energies.

    C / n_r times the mean over the members of the sum of their oscillator strengths. strengths: shape (n_members, n_states).
    """
    return PREFACTOR_A2_EV / refractive_index * float(strengths.sum(axis=1).mean())


def _checked(
    energies: NDArray[np.float64], strengths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    energies, strengths = np.asarray(energies, dtype=np.float64), np.asarray(strengths, dtype=np.float64)
    if energies.shape != strengths.shape or energies.ndim != 2:
        raise ValueError(f"energies of shape {energies.shape} and strengths of shape {strengths.shape} do not fit")
    for name, values in (("excitation energy", energies), ("oscillator strength", strengths)):
        if not np.isfinite(values).all():
            member, state = np.argwhere(~np.isfinite(values))[0]
            raise QuarryError(
                f"spectrum: {name} of state {state + 1} of ensemble member {member + 1} is not a finite number; check its label"
            )
    return energies, strengths


def _lines(
    energies: NDArray[np.float64], strengths: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return member, energy and strength of every line that adds something."""
    members, states = np.nonzero((energies > 0) & (strengths > 0))
    return members, energies[members, states], strengths[members, states]


def _grid(
    energies: NDArray[np.float64], strengths: NDArray[np.float64], delta_eV: float, step_eV: float
) -> NDArray[np.float64]:
    found = _lines(energies, strengths)[1]
    if not len(found):
        raise QuarryError(
            f"spectrum: none of the {energies.size} lines of {len(energies)} geometries has an oscillator strength above "
            "0 at an energy above 0, so there is no spectrum; look at the labels and at spectrum.n_states"
        )
    # sigma goes with 1 / E: a point close to 0 would show nothing but the tail of a line.
    low, high = max(float(found.min()) - EDGE * delta_eV, step_eV), float(found.max()) + EDGE * delta_eV
    points = int(np.ceil((high - low) / step_eV)) + 1
    if points > MOST_POINTS:
        raise QuarryError(
            f"spectrum.step_eV: {step_eV:g} makes {points} points from {low:.3f} to {high:.3f} eV; make it larger"
        )
    return np.asarray(low + step_eV * np.arange(points), dtype=np.float64)


def _member_sums(
    energies: NDArray[np.float64],
    strengths: NDArray[np.float64],
    grid: NDArray[np.float64],
    delta_eV: float,
    step_eV: float,
) -> Iterator[NDArray[np.float64]]:
    """Yield sum_n dE_n f_n g(E - dE_n) of block after block of members, shape (n, n_points).

    Lines are added to the points near them only; memory does not grow with the ensemble.
    """
    reach = int(np.ceil(REACH * delta_eV / step_eV)) + 1
    near = np.arange(-reach, reach + 1)
    # Room for every line's whole neighbourhood; the lowest line may lie a step below the first point.
    margin = reach + 1
    width = len(grid) + 2 * margin
    size = max(1, CELLS // max(width, energies.shape[1] * len(near)))
    for start in range(0, len(energies), size):
        part = slice(start, start + size)
        count = len(energies[part])
        members, energy, strength = _lines(energies[part], strengths[part])
        closest = np.rint((energy - grid[0]) / step_eV).astype(np.int64)
        points = closest[:, None] + near
        distance = grid[0] + step_eV * points - energy[:, None]
        values = np.exp(-2 * (distance / delta_eV) ** 2) * (energy * strength)[:, None]
        places = members[:, None] * width + points + margin
        sums = np.bincount(places.ravel(), weights=values.ravel(), minlength=count * width).reshape(count, width)
        yield sums[:, margin:-margin] / (delta_eV * np.sqrt(np.pi / 2))


def on_common_grid(
    a: CrossSection, b: CrossSection
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return energies (eV) that span both spectra at the finer one's step, and both (Angstrom^2) on them, shape (n,).

    Beyond its ends a spectrum is 0.
    """
    low, high = min(a.energies[0], b.energies[0]), max(a.energies[-1], b.energies[-1])
    step = min(float(np.min(np.diff(s.energies))) for s in (a, b))
    grid = np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)
    first, second = (np.interp(grid, s.energies, s.sigma, left=0.0, right=0.0) for s in (a, b))
    return grid, first, second


def relative_integral_change(a: CrossSection, b: CrossSection) -> float:
    """Return the integral of |a - b| over that of b, without unit."""
    grid, first, second = on_common_grid(a, b)
    return float(np.trapezoid(np.abs(first - second), grid) / np.trapezoid(second, grid))


def largest_deviation(a: CrossSection, b: CrossSection) -> float:
    """Return the largest |a - b| over the maximum of b, without unit."""
    _, first, second = on_common_grid(a, b)
    return float(np.abs(first - second).max() / second.max())


def overlap(a: CrossSection, b: CrossSection) -> float:
    """Return the integral of a b over the geometric mean of those of a^2 and b^2: 1 for spectra of the same shape."""
    grid, first, second = on_common_grid(a, b)
    norms = np.trapezoid(first**2, grid) * np.trapezoid(second**2, grid)
    return float(np.trapezoid(first * second, grid) / np.sqrt(norms))
