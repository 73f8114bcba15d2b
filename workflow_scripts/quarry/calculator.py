"""A trained model as a calculator of ASE: ``atoms.calc = QuarryCalculator("results/ethanol/model")``.

Energies are in eV, forces in eV/Angstrom, stresses in eV/Angstrom^3 (xx, yy, zz, yz, xz, xy; positive where the cell wants to
shrink, as in ASE), everything else in the units that ``model.json`` says.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from quarry.config.installed import require
from quarry.errors import QuarryError
from quarry.models.base import (
    STD,
    HasInformativeness,
    HasReach,
    Prediction,
    has_rows_of_atoms,
    relative_informativeness,
)
from quarry.models.folder import ModelFolder
from quarry.structures import StructureSet
from quarry.structures.compositions import unfamiliar
from quarry.structures.conventions import told
from quarry.structures.filters import is_isolated_atom, nearest_A
from quarry.structures.stated import StateKeys, stated_by_frames
from quarry.structures.structure import check_size

ONE_PLACE_A = 0.01
"""Atoms closer than this (Angstrom) are in one place."""
REACH_FROM_A = 2.0
"""Where two atoms are closer than this (Angstrom), whether any are within the model's reach need not be asked."""
UNCERTAINTY, INFORMATIVENESS = "_uncertainty", "informativeness"
STATES = {"numbers", "pbc", "initial_charges", "initial_magmoms"}
"""What charge and multiplicity may follow from, beside what stands in ``info``."""


class QuarryCalculator(Calculator):
    """The model of a campaign, for whatever ASE does with energies and forces.

    Results: what the model has learnt (energy in eV, forces in eV/Angstrom, homo ...); forces of every energy that is a smooth
    function of the positions, which are its exact derivatives; stress (eV/Angstrom^3) of cells that are periodic in three
    directions, by models that know cells; ``energy_uncertainty`` and ``forces_uncertainty`` (standard deviations, in the same
    units) and ``informativeness`` (without unit; 1: as much as the labels of a training structure would tell on average) of
    models that have them. What a model cannot say raises ASE's ``PropertyNotImplementedError`` with the reason.

    Structures that the model cannot know are refused with a ``QuarryError`` of one line: elements, charges and multiplicities
    that no training structure has, a free atom, atoms in one place or all out of reach, positions that are not finite. A
    composition that a sum over elements does not reach from those of the training structures is warned of.
    """

    name = "quarry"

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "auto",
        base: str | Path | None = None,
        charge: int | None = None,
        multiplicity: int | None = None,
        **keywords: Any,
    ) -> None:
        """path: folder ``model`` of a finished campaign, or the folder of its results. device: auto (a GPU where there is one),
        cpu or cuda. base: folder that holds the class of a model of the user's own (beside the working directory), and files
        that a baseline or descriptor reads. charge, multiplicity: of atoms that do not say theirs (``atoms.info``); None: those
        of the training structures, where these are all of one kind. keywords: of ASE's ``Calculator``.

        Raises QuarryError if there is no such model, a file of it is damaged or of another version, or there is no GPU for cuda.
        """
        super().__init__(**keywords)
        if device not in ("auto", "cpu", "cuda"):
            raise QuarryError(f"device: '{device}' is none of auto, cpu, cuda; give one of them")
        if device == "cuda":
            require("torch", "device: cuda")
            from quarry.devices import device_of

            device_of(device)
        for name, value in (("charge", charge), ("multiplicity", multiplicity)):
            if value is not None and not isinstance(value, int | np.integer):
                raise QuarryError(f"{name}: {value!r} is not a whole number; give one")
        own = None if base is None else Path(base)
        self.folder = ModelFolder.open(path)
        self.description = self.folder.description
        self.model = self.folder.load(device, own)
        self._traits = self.folder.traits(own)
        self._charge, self._multiplicity = charge, multiplicity
        self._state: tuple[int, int] | None = None
        self._info: dict[str, Any] = {}
        if not self.description.elements:
            raise QuarryError(f"{path}: this model has learnt rows of a table and knows nothing of atoms; give another")
        descriptor, cache = self.folder.descriptor, self.folder.cache(own)
        self._reference = None if cache is None else cache.reference
        self._names = self._traits.predicts(
            self.description.goal, descriptor is not None and descriptor.has_derivatives
        )
        self.implemented_properties = [*self._names, *self._further()]

    def _further(self) -> Iterable[str]:
        """Yield the results beside those that have the names of properties."""
        goal = self.description.goal
        if "energy" in self._names:
            yield "free_energy"
        if goal.classes:
            yield from ("class_name", "probabilities")
        elif self._traits.std:
            # Regressions know the error of the main property alone.
            known = goal.main if self._traits.needs_descriptor else goal.learnt
            yield from (name + UNCERTAINTY for name in known if name != "stress")
        if self._criteria():
            yield INFORMATIVENESS

    def _criteria(self) -> frozenset[str]:
        return frozenset(self._traits.informativeness) & frozenset(self.description.goal.learnt)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a result, computed where it is not known yet. Raises PropertyNotImplementedError with the reason."""
        if name not in self.implemented_properties:
            raise PropertyNotImplementedError(self._why_not(name))
        return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation; a charge or multiplicity in ``atoms.info`` counts too."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        if not changes and not _same(atoms.info, self.atoms.info) and self._state_of(atoms) != self._state:
            changes.append("initial_charges")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute results. Raises QuarryError for a structure that the model cannot know."""
        super().calculate(atoms, properties, system_changes)
        changed = set(system_changes)
        if changed:
            self.results = {}
        if self._state is None or not _same(self.atoms.info, self._info) or changed & STATES:
            self._state, self._info = self._state_of(self.atoms), self.atoms.info
        structures = self._structures(self.atoms, self._state, bool({"numbers", "pbc"} & changed))
        asked = set(properties)
        if "stress" in asked and not structures.pbc.all():
            raise PropertyNotImplementedError(
                "stress: the structure is not periodic in three directions, so it has none"
            )
        if asked - {INFORMATIVENESS} or not asked:
            self.results.update(self._predicted(structures, asked))
        if INFORMATIVENESS in asked:
            self.results[INFORMATIVENESS] = self._informativeness(structures)

    def _predicted(self, structures: StructureSet, asked: set[str]) -> dict[str, Any]:
        derivatives = {"forces", "stress"} if asked & {"forces", "stress"} else set()
        wanted = {name for name in self._names if name in derivatives or name not in self._traits.derivatives}
        uncertain = any(name.endswith(UNCERTAINTY) for name in asked)
        wanted |= {name for name in self._names if uncertain and name + UNCERTAINTY in asked}
        found = self.model.predict(structures, frozenset(wanted | ({STD} if uncertain else set())))
        results = _results(found, structures)
        wrong = sorted(name for name in asked & results.keys() if not np.isfinite(results[name]).all())
        if wrong:
            raise QuarryError(
                f"{self._kind}: the {wrong[0]} of this structure is not a finite number; it is far from all that was learnt; "
                "look at it"
            )
        if "energy" in results:
            results["free_energy"] = results["energy"]
        lacking = sorted(name for name in asked if name.endswith(UNCERTAINTY) and name not in results)
        if lacking:
            raise PropertyNotImplementedError(
                f"{lacking[0]}: this model ({self._kind}) gives no standard deviations of {lacking[0].removesuffix(UNCERTAINTY)}"
            )
        if self.description.classes:
            results["class"] = int(results["class"])
            results["class_name"] = self.description.classes[results["class"]]
        return results

    def _informativeness(self, structures: StructureSet) -> float:
        assert isinstance(self.model, HasInformativeness)
        return float(relative_informativeness(self.model, structures, self.folder.training, self._criteria())[0])

    @property
    def _kind(self) -> str:
        return f"model.kind: {self.description.model['kind']}"

    def _why_not(self, name: str) -> str:
        """Return in one line why a result cannot be had."""
        goal, what = self.description.goal, f"{name}: this model ({self._kind})"
        if name in ("forces", "stress", "free_energy", "energy"):
            if "energy" not in goal.learnt:
                return f"{what} has learnt {', '.join(goal.learnt)} and no energies"
            descriptor = self.folder.descriptor
            if name == "forces" and descriptor is not None and name in self._traits.derivatives:
                return (
                    f"{what} learns from descriptor.kind: {descriptor.kind}, whose derivatives by the positions are not known; "
                    "use inverse_distances, or model.kind: gmnn"
                )
            return f"{what} gives none; it gives {', '.join(self._names)}"
        if name.endswith(UNCERTAINTY):
            return f"{what} has no standard deviations of {name.removesuffix(UNCERTAINTY)}"
        if name == INFORMATIVENESS:
            return f"{what} does not say how much a label would tell it"
        return f"{what} gives {', '.join(self.implemented_properties)}"

    def _structures(self, atoms: Atoms, state: tuple[int, int], others: bool) -> StructureSet:
        """Return atoms as a set of one structure. others: they are other atoms than the last. Raises QuarryError."""
        numbers = atoms.numbers.astype(np.int64)
        if not len(numbers):
            raise QuarryError("there are no atoms; give a structure with some")
        cell = np.asarray(atoms.cell.array, dtype=np.float64) if atoms.pbc.any() else np.zeros((3, 3))
        for what, values in (("position", atoms.positions), ("cell vector", cell)):
            if not np.isfinite(values).all():
                row = int(np.argmin(np.isfinite(values).all(axis=1)))
                raise QuarryError(
                    f"the {what} of {'atom' if what == 'position' else 'number'} {row} (from 0) is not a finite number; "
                    "correct it"
                )
        try:
            check_size(atoms.positions)
            check_size(cell)
        except ValueError as error:
            raise QuarryError(f"{error}; the structure has come apart: look at what moved it") from error
        if np.linalg.matrix_rank(cell[atoms.pbc]) < atoms.pbc.sum():
            raise QuarryError(
                "the structure is periodic (pbc), but its cell spans no volume there; set the cell, or pbc to False"
            )
        charge, multiplicity = state
        structures = StructureSet(
            ids=np.array(["these atoms"]),
            offsets=np.array([0, len(numbers)]),
            numbers=numbers,
            positions=np.array(atoms.positions, dtype=np.float64),
            cells=cell[None],
            pbc=np.array(atoms.pbc, dtype=bool)[None],
            charges=np.array([charge]),
            multiplicities=np.array([multiplicity]),
        )
        if others:
            self._check_atoms(structures)
        self._check_geometry(structures)
        if others:
            self._warn_of_composition(structures)
        return structures

    def _state_of(self, atoms: Atoms) -> tuple[int, int]:
        """Return charge and multiplicity. Raises QuarryError where the model has not seen them, or has seen several."""
        charge, multiplicity = self._charge, self._multiplicity
        if atoms.info or atoms.has("initial_charges") or atoms.has("initial_magmoms"):
            bare = atoms.copy()
            given = {"charge": charge, "multiplicity": multiplicity}
            keys = StateKeys(settled=frozenset(name for name, value in given.items() if value is not None))
            try:
                said = told(stated_by_frames([bare], keys), charge or 0, keys)
            except ValueError as error:
                reason = str(error).partition("; ")[0]
                raise QuarryError(
                    f"{reason}; say what is meant by QuarryCalculator(..., charge=, multiplicity=)"
                ) from error
            charge = charge if np.isnan(said[0][0]) else int(said[0][0])
            multiplicity = multiplicity if np.isnan(said[1][0]) else int(said[1][0])
        seen = [tuple(state) for state in self.description.states]
        fits = [s for s in seen if charge in (None, s[0]) and multiplicity in (None, s[1])]
        known = ", ".join(f"charge {c} with multiplicity {m}" for c, m in seen)
        if len(fits) == 1:
            return fits[0][0], fits[0][1]
        if fits:
            raise QuarryError(
                f"the model has seen {known}, and these atoms do not say which they are; set atoms.info['charge'] and "
                "atoms.info['multiplicity'], or give charge and multiplicity to QuarryCalculator"
            )
        parts = [
            f"{name} {value}"
            for name, value in (("charge", charge), ("multiplicity", multiplicity))
            if value is not None
        ]
        raise QuarryError(f"the model has not seen {' with '.join(parts)}; it knows {known}")

    def _check_atoms(self, structures: StructureSet) -> None:
        """Refuse atoms that the model cannot know, wherever they are."""
        strange = sorted({chemical_symbols[n] for n in structures.numbers} - set(self.description.elements))
        if strange:
            raise QuarryError(
                f"the model has not seen element {', '.join(strange)}; it knows {', '.join(self.description.elements)}"
            )
        if self._reference is not None:
            wanted, found = (
                " ".join(chemical_symbols[n] for n in z) for z in (self._reference.numbers, structures.numbers)
            )
            if wanted != found:
                raise QuarryError(
                    f"the model is for one molecule, with the atoms {wanted} in this order; these are {found}"
                )

    def _warn_of_composition(self, structures: StructureSet) -> None:
        if unfamiliar(self.folder.training, structures, compositions=True).any():
            formula = Atoms(structures.numbers).get_chemical_formula()
            warnings.warn(
                f"{formula} is not among the compositions that the energies of the model's training structures can tell of "
                f"({', '.join(sorted(self.description.compositions)[:6])} ...): its energy may be off by a constant",
                stacklevel=2,
            )

    def _check_geometry(self, structures: StructureSet) -> None:
        """Refuse geometries that the model cannot know."""
        structure = structures[0]
        if is_isolated_atom(structure):
            sizes, known = np.diff(self.folder.training.offsets), self.folder.training
            if structure.numbers[0] not in known.numbers[known.offsets[:-1][sizes == 1]]:
                raise QuarryError(
                    "a structure of one atom: the model has learnt no free atom; give a molecule or a crystal"
                )
            return
        nearest, pair = nearest_A(structure, REACH_FROM_A)
        if nearest < ONE_PLACE_A:
            raise QuarryError(
                f"atoms {pair[0]} and {pair[1]} (from 0) are in one place ({nearest:.4f} Angstrom apart); remove one"
            )
        if nearest >= REACH_FROM_A and isinstance(self.model, HasReach) and self.model.beyond_reach(structures).any():
            raise QuarryError(
                "no two atoms are within the model's cutoff, so it knows nothing of where they are; the structure has come apart"
            )


def _results(found: Prediction, structures: StructureSet) -> dict[str, Any]:
    """Return the numbers of one structure by their names."""
    results: dict[str, Any] = {}
    for values, ending in ((found.mean, ""), (found.std, UNCERTAINTY)):
        for name, array in values.items():
            if name == "stress":
                if structures.pbc.all() and not ending:
                    results[name] = full_3x3_to_voigt_6_stress(array[0])
            elif has_rows_of_atoms(name):
                results[name + ending] = np.asarray(array, dtype=np.float64)
            else:
                results[name + ending] = _plain(array[0])
    if found.probabilities is not None:
        results["probabilities"] = found.probabilities[0]
    return results


def _plain(value: Any) -> float | NDArray[np.float64]:
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two dictionaries are known to be equal."""
    try:
        return bool(one == other)
    except ValueError:
        # Arrays in them.
        return False
