"""The results of uses of a potential, its values beside those of the reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import constants
from scipy.optimize import linear_sum_assignment

from quarry.errors import QuarryError
from quarry.stages.uses import Potential, as_set, learn_dipoles, minimum_of, read_trajectory
from quarry.uses.minima import bonds_A, deviation_A
from quarry.uses.spectra import QUANTUM_CORRECTION, WINDOW, absorption, window_width_fs
from quarry.uses.vibrations import Vibrations, differences, displaced, hessian, intensities_km_mol, vibrations

CM_EV = 100.0 * constants.h * constants.c / constants.e
"""Energy (eV) of 1/cm."""
BROKEN = 1.5
"""A bond that is longer than this factor times its length in the minimum counts as broken."""
LAST_CM = 4500.0
"""Spectra are written up to here, 1/cm."""


def optimise_result(minimum: str, reference: str | None) -> dict[str, Any]:
    """Return both minima, with their bonds and how far they are apart."""
    model = _read(minimum)
    result: dict[str, Any] = {"use": "optimise", "model": model, "reference": None, "difference": None}
    if reference:
        other = result["reference"] = _read(reference)
        common = [name for name in model["bonds_A"] if name in other["bonds_A"]]
        lengths = {name: model["bonds_A"][name] - other["bonds_A"][name] for name in common}
        result["difference"] = {"bonds_A": lengths, "energy_eV": model["energy_eV"] - other["energy_eV"]}
        if "cell_A" in model:
            result["difference"]["cell_lengths_A"] = _minus(model["cell_lengths_A"], other["cell_lengths_A"])
        else:
            one, two = (np.array(part["positions_A"]) for part in (model, other))
            result["difference"]["rms_distance_A"] = deviation_A(one, two)
    return result


def frequencies_result(
    displacement_A: float, model: tuple[str, str], reference: tuple[str, Sequence[str]] | None
) -> dict[str, Any]:
    """Return wavenumbers and zero-point energies; those of the reference stand beside the model's modes that are most like them.

    model, reference: files of the minimum and of what was found at the displaced geometries.
    """
    found = model_vibrations(displacement_A, *model)
    result: dict[str, Any] = {
        "use": "frequencies",
        "displacement_A": displacement_A,
        "model": _harmonic(found),
        "reference": None,
        "difference": None,
    }
    if reference:
        other, labels = reference_vibrations(displacement_A, *reference)
        paired = beside(found, other, minimum_of(model[0]).get_masses())
        result["reference"] = {**_harmonic(paired), "labels": labels}
        off = found.frequencies_cm - paired.frequencies_cm
        result["difference"] = {
            "frequencies_cm": off.tolist(),
            "mean_absolute_cm": float(np.abs(off).mean()),
            "largest_cm": float(np.abs(off).max()),
            "zero_point_energy_eV": result["model"]["zero_point_energy_eV"]
            - result["reference"]["zero_point_energy_eV"],
        }
    return result


def md_result(potential: Potential, minimum: str, trajectory: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return how well the energy is kept, whether bonds hold, and the model's errors at labelled frames."""
    settings, atoms, made = potential.configuration.uses.md, minimum_of(minimum), read_trajectory(trajectory)
    drift, spread = made.energy_drift()
    result: dict[str, Any] = {
        "use": "md",
        "time_step_fs": settings.time_step_fs,
        "length_ps": float(made.times_fs[-1] / 1000),
        "equilibration_ps": settings.equilibration_ps,
        "thermostat_K": settings.temperature_K,
        "model": {
            "temperature_K": float(made.temperature_K.mean()),
            "energy_drift_meV_per_atom_ps": drift,
            "energy_fluctuation_meV_per_atom": spread,
            "broken_bonds_from_fs": _broken(atoms, made.positions_A, made.times_fs),
        },
        "reference": None,
        "difference": None,
    }
    found = _labels(labels)
    if found:
        rows = sorted(found)
        atoms.calc = potential.calculator()
        off = []
        for row in rows:
            atoms.positions = made.positions_A[row]
            off.append((atoms.get_potential_energy() - found[row]["energy"], atoms.get_forces() - found[row]["forces"]))
        energies, forces = (np.array(part) for part in zip(*off, strict=True))
        result["reference"] = {"labels": len(rows), "times_fs": made.times_fs[rows].tolist()}
        result["difference"] = {
            "energies_eV": energies.tolist(),
            "energy_rmse_meV_per_atom": 1e3 * _rms(energies) / len(atoms),
            "forces_rmse_eV_A": _rms(forces),
            "forces_largest_eV_A": float(np.linalg.norm(forces, axis=2).max()),
        }
    return result


def infrared_result(
    potential: Potential, model: tuple[str, str], trajectory: str, reference: tuple[str, Sequence[str]] | None
) -> dict[str, Any]:
    """Return lines of the double harmonic approximation, and the absorption from the dipole along the trajectory.

    Lines of the reference stand beside the model's modes that are most like them, as in ``frequencies_result``.
    """
    settings = potential.configuration.uses
    displacement_A = settings.frequencies.displacement_A
    atoms, made = minimum_of(model[0]), read_trajectory(trajectory)
    dipoles, errors = learn_dipoles(potential)
    found = model_vibrations(displacement_A, *model)
    at_displaced = dipoles.predict(as_set(atoms, displaced(atoms.positions, displacement_A)))
    step_fs = float(made.times_fs[1] - made.times_fs[0])
    along = dipoles.predict(as_set(atoms, made.positions_A))
    resolution_cm, temperature_K = settings.infrared.resolution_cm, float(made.temperature_K.mean())
    wavenumbers, absorbed = absorption(along, step_fs, temperature_K, resolution_cm)
    shown = wavenumbers <= LAST_CM
    result: dict[str, Any] = {
        "use": "infrared",
        "dipoles": errors,
        "model": _lines(found, differences(at_displaced, displacement_A)),
        "trajectory": {
            "window": WINDOW,
            "window_fs": window_width_fs(resolution_cm),
            "resolution_cm": resolution_cm,
            "quantum_correction": QUANTUM_CORRECTION,
            "temperature_K": temperature_K,
            "wavenumbers_cm": wavenumbers[shown].tolist(),
            "absorption_km_mol_per_cm": absorbed[shown].tolist(),
        },
        "reference": None,
    }
    if reference:
        other, _ = reference_vibrations(displacement_A, *reference)
        labels = _labels(reference[1])
        if any("dipole" not in label for label in labels.values()):
            raise QuarryError("infrared: the reference's labels have no dipoles; set uses.reference to false")
        slopes = differences(np.array([labels[row]["dipole"] for row in sorted(labels)]), displacement_A)
        result["reference"] = _lines(beside(found, other, atoms.get_masses()), slopes)
    return result


def model_vibrations(displacement_A: float, minimum: str, forces: str) -> Vibrations:
    """Return the vibrations of the potential at its minimum."""
    return _vibrations(np.array(_read(forces)["forces_eV_A"]), displacement_A, minimum)


def reference_vibrations(displacement_A: float, minimum: str, parts: Sequence[str]) -> tuple[Vibrations, int]:
    """Return the vibrations of the reference at its minimum, and the number of labels."""
    labels = _labels(parts)
    forces = np.array([labels[row]["forces"] for row in sorted(labels)])
    return _vibrations(forces, displacement_A, minimum), len(labels)


def alike(found: Vibrations, others: Vibrations, masses_u: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return which of the others each vibration is most like, by the overlap of mass-weighted modes; each is taken once."""
    overlaps = np.abs(np.einsum("kai,a,lai->kl", found.modes, masses_u, others.modes))
    return np.asarray(linear_sum_assignment(-overlaps)[1])


def beside(found: Vibrations, others: Vibrations, masses_u: NDArray[np.float64]) -> Vibrations:
    """Return the others in the order of those that they are most like."""
    order = alike(found, others, masses_u)
    return Vibrations(others.frequencies_cm[order], others.modes[order])


def _vibrations(forces: NDArray[np.float64], displacement_A: float, minimum: str) -> Vibrations:
    atoms = minimum_of(minimum)
    return vibrations(hessian(forces, displacement_A), atoms.positions, atoms.get_masses())


def _harmonic(found: Vibrations) -> dict[str, Any]:
    real = found.frequencies_cm[found.frequencies_cm > 0]
    return {
        "frequencies_cm": found.frequencies_cm.tolist(),
        "imaginary": int((found.frequencies_cm < 0).sum()),
        "zero_point_energy_eV": float(0.5 * real.sum() * CM_EV),
    }


def _lines(found: Vibrations, slopes: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "frequencies_cm": found.frequencies_cm.tolist(),
        "intensities_km_mol": intensities_km_mol(slopes, found).tolist(),
    }


def _broken(atoms: Any, positions: NDArray[np.float64], times_fs: NDArray[np.float64]) -> dict[str, float]:
    """Return from when on (fs) bonds of the minimum are broken."""
    broken: dict[str, float] = {}
    lengths, moved = bonds_A(atoms), atoms.copy()
    pairs = {name: [int("".join(filter(str.isdigit, end))) for end in name.split("-")] for name in lengths}
    for time_fs, geometry in zip(times_fs, positions, strict=True):
        moved.positions = geometry
        for name, (one, other) in pairs.items():
            if (
                name not in broken
                and one != other
                and moved.get_distance(one, other, mic=True) > BROKEN * lengths[name]
            ):
                broken[name] = float(time_fs)
    return broken


def _labels(parts: Sequence[str]) -> dict[int, dict[str, Any]]:
    return {label["row"]: label for part in parts for label in _read(part)["labels"]}


def _read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_bytes())
    return found


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return (np.array(one) - np.array(other)).tolist()
