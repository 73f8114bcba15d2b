"""What a baseline says of structures: a trained network, or a calculator of ASE."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quarry.config.baselines import Baseline, CalculatorBaseline, NetworkBaseline
from quarry.errors import QuarryError
from quarry.imports import call_user_code, make_user_object
from quarry.structures import Structure, StructureSet

KEY = "model.baseline"
REMEDY = "use another baseline, or leave the structure out of the pool"

Said: TypeAlias = dict[str, NDArray[np.float64]]
"""energy (eV, shape (n,)), forces (eV/Angstrom, (n_atoms, 3)), stress (eV/Angstrom^3, (n, 3, 3), NaN where there is none)."""


def asked(settings: Baseline, base: Path | None) -> Callable[[StructureSet, bool], Said]:
    """Return the function that gives energies of structures, and forces and stresses if its second argument says so.

    base: folder of the campaign file. The function raises QuarryError, one line, for structures that the baseline cannot judge.
    """
    if isinstance(settings, CalculatorBaseline):
        return _of_calculator(settings, base)
    return _of_network(settings, base)


def _of_network(settings: NetworkBaseline, base: Path | None) -> Callable[[StructureSet, bool], Said]:
    from quarry.devices import device_of
    from quarry.networks.base import check_domain, predict
    from quarry.networks.registry import pretrained

    network = pretrained(settings.kind, settings.model, base, f"{KEY}.model", device_of(settings.device))

    def said(structures: StructureSet, derivatives: bool) -> Said:
        check_domain(network, structures, KEY)
        return predict(network, structures, derivatives)

    return said


def _of_calculator(settings: CalculatorBaseline, base: Path | None) -> Callable[[StructureSet, bool], Said]:
    files = {name: str(((base or Path()) / path).resolve()) for name, path in settings.files.items()}
    calculator = make_user_object(settings.calculator, f"{KEY}.calculator", {**settings.arguments, **files}, base)

    has_stress = "stress" in (getattr(calculator, "implemented_properties", None) or ())

    def said(structures: StructureSet, derivatives: bool) -> Said:
        n = len(structures)
        found = {"energy": np.empty(n)}
        if derivatives:
            found |= {"forces": np.empty((len(structures.numbers), 3)), "stress": np.full((n, 3, 3), np.nan)}
        with TemporaryDirectory(prefix="quarry-baseline-") as folder:
            if hasattr(calculator, "directory"):
                calculator.directory = folder
            for row, structure in enumerate(structures):
                failed = f"{KEY}: {settings.calculator} failed with structure {structures.ids[row]}"
                stressed = has_stress and bool(structures.pbc[row].all())
                answer = call_user_code(partial(_answer, calculator, structure, derivatives, stressed), failed, REMEDY)
                found["energy"][row] = answer[0]
                if derivatives:
                    found["forces"][structures.offsets[row] : structures.offsets[row + 1]] = answer[1]
                    found["stress"][row] = answer[2]
        return found

    return said


def _answer(calculator: Any, structure: Structure, derivatives: bool, stressed: bool) -> tuple[Any, Any, Any]:
    atoms = structure.to_atoms()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    forces = atoms.get_forces() if derivatives else None
    return energy, forces, atoms.get_stress(voigt=False) if derivatives and stressed else np.nan


def check_finite(said: Said, structures: StructureSet) -> None:
    """Raise QuarryError if an energy or force is not a finite number."""
    wrong = ~np.isfinite(said["energy"])
    if "forces" in said:
        bad = np.flatnonzero(~np.isfinite(said["forces"]).all(axis=1))
        wrong[np.searchsorted(structures.offsets, bad, side="right") - 1] = True
    if wrong.any():
        raise QuarryError(
            f"{KEY}: energy or forces of structure {structures.ids[int(np.argmax(wrong))]} are not finite numbers; {REMEDY}"
        )
