"""A minimum and its normal modes, and their file; free of PySCF, which jobs that only draw from them need not have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError, reason_of
from quarry.files import write_json
from quarry.structures import Structure

EQUAL = 1e-3
"""Components of a mode that differ by less than this share of the largest are equal by symmetry."""
NORM_ERROR = 1e-3
"""How far the modes of a file may be from orthogonal and normalised ones."""
FORMAT = 1


@dataclass(frozen=True, eq=False)
class NormalModes:
    """A minimum and its harmonic vibrations.

    equilibrium: the minimum; a linear molecule lies along z.
    frequencies_cm: shape (n_modes,), 1/cm, ascending.
    modes: shape (n_modes, n_atoms, 3), Cartesian displacements L in u^(-1/2), not mass-weighted, normalised so that
    ``sum over atoms of m_i |L_ki|^2 = 1`` and orthogonal in the same sense, so that the positions are
    ``x_i = x_i(equilibrium) + sum_k L_ki Q_k`` with normal coordinates Q_k in Angstrom u^(1/2).
    masses_u: shape (n_atoms,), standard atomic weights. energy_eV: energy of the minimum.
    method: the engine's method identity.
    """

    equilibrium: Structure
    frequencies_cm: NDArray[np.float64]
    modes: NDArray[np.float64]
    masses_u: NDArray[np.float64]
    energy_eV: float
    method: dict[str, Any]

    def write(self, path: str | Path) -> None:
        """Write as JSON, units as above; the same modes give the same bytes."""
        write_json(
            path,
            {
                "format": FORMAT,
                "units": {"positions": "Angstrom", "modes": "u^(-1/2)", "frequencies_cm": "1/cm"},
                "numbers": self.equilibrium.numbers.tolist(),
                "positions": self.equilibrium.positions.tolist(),
                "charge": self.equilibrium.charge,
                "multiplicity": self.equilibrium.multiplicity,
                "frequencies_cm": self.frequencies_cm.tolist(),
                "modes": self.modes.tolist(),
                "masses_u": self.masses_u.tolist(),
                "energy_eV": self.energy_eV,
                "method": self.method,
            },
        )

    @staticmethod
    def read(path: str | Path) -> NormalModes:
        """Read what ``write`` wrote. Raises QuarryError if it is missing, damaged or of another format."""
        try:
            data = json.loads(Path(path).read_bytes())
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']} instead of {FORMAT}")
            equilibrium = Structure.create(
                data["numbers"], np.array(data["positions"]), data["charge"], data["multiplicity"]
            )
            frequencies = np.array(data["frequencies_cm"], dtype=np.float64)
            masses = np.array(data["masses_u"], dtype=np.float64)
            modes = np.array(data["modes"], dtype=np.float64).reshape(len(frequencies), len(masses), 3)
            if len(masses) != len(equilibrium):
                raise ValueError(f"{len(masses)} masses for {len(equilibrium)} atoms")
            return NormalModes(equilibrium, frequencies, modes, masses, float(data["energy_eV"]), data["method"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise QuarryError(
                f"{path}: no normal modes file ({reason_of(error, named=True)}); compute it again"
            ) from error

    def check(self, key: str, remedy: str) -> None:
        """Raise QuarryError, naming the configuration's key and what to do, if this is no minimum with normal modes."""
        imaginary = self.frequencies_cm[self.frequencies_cm <= 0.0]
        if imaginary.size:
            listed = ", ".join(f"{-f:.0f}i" for f in imaginary)
            raise QuarryError(f"{key} is no minimum, it has imaginary frequencies ({listed} 1/cm); {remedy}")
        overlap = np.einsum("i,kix,lix->kl", self.masses_u, self.modes, self.modes)
        if np.abs(overlap - np.eye(len(overlap))).max(initial=0.0) > NORM_ERROR:
            raise QuarryError(f"{key} has modes that are not orthogonal and normalised; {remedy}")


def with_fixed_signs(modes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return modes whose largest component is positive: eigenvectors come with either sign, depending on the machine.

    Of components that are equal by symmetry the first counts. modes: shape (n_modes, n_atoms, 3).
    """
    flat = modes.reshape(len(modes), -1)
    size = np.abs(flat)
    leading = np.argmax(size > (1.0 - EQUAL) * size.max(axis=1, keepdims=True), axis=1)
    signs = np.sign(flat[np.arange(len(flat)), leading])
    return modes * signs[:, None, None]
