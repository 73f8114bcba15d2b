"""Infrared absorption from the dipole along a trajectory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import constants
from scipy.interpolate import CubicSpline
from scipy.signal import correlate

Numbers = NDArray[np.float64]

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
"""Full width at half maximum of a Gaussian, in standard deviations."""
WINDOW = "Gaussian"
QUANTUM_CORRECTION = "harmonic: beta hbar omega / (1 - exp(-beta hbar omega))"


def window_width_fs(resolution_cm: float) -> float:
    """Return the standard deviation (fs) of the Gaussian window that gives lines this full width at half maximum (1/cm)."""
    return FWHM / (2.0 * np.pi * 100.0 * constants.c * resolution_cm) / constants.femto


def absorption(
    dipoles_eA: Numbers, step_fs: float, temperature_K: float, resolution_cm: float
) -> tuple[Numbers, Numbers]:
    """Return wavenumbers (1/cm) and the molar absorption there, (km/mol) per (1/cm), of a classical trajectory.

    N_A / (6 epsilon_0 c k T) times the cosine transform of <dmu/dt(0) dmu/dt(t)> w(t) over all times, w being a Gaussian: the
    absorption of linear response with the harmonic quantum correction factor (R. Ramirez et al., J. Chem. Phys. 121, 3973
    (2004)), by which harmonic oscillators absorb what they do in quantum mechanics. dipoles_eA: e*Angstrom, shape
    (n_frames, 3), step_fs apart.
    """
    n, width = len(dipoles_eA), window_width_fs(resolution_cm)
    times = np.arange(n) * step_fs
    rates = CubicSpline(times, dipoles_eA).derivative()(times)
    padded = 2 * n - 1
    products = sum(correlate(column, column, method="fft") for column in rates.T) / n
    lags = (np.arange(padded) - (n - 1)) * step_fs
    windowed = np.fft.ifftshift(products * np.exp(-0.5 * (lags / width) ** 2))
    transform = np.fft.rfft(windowed).real * step_fs
    angles = 2.0 * np.pi * np.fft.rfftfreq(padded)
    # What the spline's slopes leave of an oscillation.
    with np.errstate(invalid="ignore"):
        kept = np.where(angles > 0, 3.0 * np.sin(angles) / (angles * (2.0 + np.cos(angles))), 1.0)
    inside = angles < 0.7 * np.pi
    si = (constants.e * constants.angstrom / constants.femto) ** 2 * constants.femto
    factor = si * constants.N_A / (6.0 * constants.epsilon_0 * constants.c * constants.k * temperature_K)
    wavenumbers = angles / (2.0 * np.pi * step_fs * constants.femto) / (100.0 * constants.c)
    # m^2/mol into (km/mol) / (1/cm).
    absorbed = 0.1 * factor * transform[inside] / kept[inside] ** 2
    return np.asarray(wavenumbers[inside], dtype=np.float64), np.asarray(absorbed, dtype=np.float64)
