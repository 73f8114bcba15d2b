"""Uses of a finished potential, and of its reference: each step reads files of those before it and writes one of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from quarry.config.campaign import Configuration
from quarry.config.uses import Uses
from quarry.errors import QuarryError
from quarry.files import atomic_path, write_json
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet
from quarry.structures.compositions import count_of_compositions
from quarry.structures.files import read_molecule
from quarry.structures.frames import write_frames
from quarry.structures.labelled import LabelledSet
from quarry.uses.minima import Minimum, atoms_of, relax
from quarry.uses.reference import LabelCalculator, Labels, structure_of, with_ground_state
from quarry.uses.trajectories import Trajectory, run
from quarry.uses.vibrations import displaced

if TYPE_CHECKING:
    from quarry.uses.dipoles import DipoleModel

Log = Callable[[str], None]


@dataclass(frozen=True)
class Potential:
    """A finished model and its campaign.

    base: folder of the campaign file. dataset: the campaign's labels. calculator: makes the model a calculator of ASE.
    """

    configuration: Configuration
    base: Path
    dataset: Path
    calculator: Callable[[], Calculator]

    def start(self) -> Atoms:
        """Return the structure that uses begin with. Raises QuarryError where it is not known, or cannot be read."""
        named = self.configuration.uses.structure
        if named is None:
            return _lowest(LabelledSet.read(self.dataset))
        return read_molecule(self.base / named, "uses.structure", index="-1").to_atoms()


def relax_on_model(potential: Potential, output: str, log: Log) -> None:
    """Write the minimum of the potential next to the structure that uses begin with."""
    atoms = potential.start()
    atoms.calc = potential.calculator()
    found = relax(atoms, potential.configuration.uses.optimise)
    log(f"minimum after {found.steps} steps")
    write_json(output, found.to_json())


def displace_on_model(potential: Potential, minimum: str, output: str) -> None:
    """Write the potential's forces at the displaced geometries of its minimum."""
    atoms = minimum_of(minimum)
    refuse_cells(atoms, "frequencies")
    atoms.calc = potential.calculator()
    geometries = displaced(atoms.positions, potential.configuration.uses.frequencies.displacement_A)
    forces = []
    for positions in geometries:
        atoms.positions = positions
        forces.append(atoms.get_forces())
    write_json(output, {"forces_eV_A": np.array(forces).tolist()})


def run_on_model(potential: Potential, minimum: str, output: str, frames: str, log: Log) -> None:
    """Write a trajectory on the potential from its minimum: arrays (npz), and frames as extended XYZ."""
    configuration = potential.configuration
    atoms = minimum_of(minimum)
    atoms.calc = potential.calculator()
    found = run(atoms, configuration.uses.md, generator(configuration.seed, "uses", "md"), log)
    with atomic_path(output) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **vars(found))
    write_frames(frames, _frames_of(atoms, found))


def relax_by_labels(settings: Uses, minimum: str, labels: Labels, output: str, log: Log) -> None:
    """Write the minimum of the reference that is next to the potential's, one label a step."""
    start = structure_of(minimum_of(minimum)).to_atoms()
    calculator = LabelCalculator(labels)
    start.calc = calculator
    found = relax(start, settings.optimise)
    log(f"minimum after {found.steps} steps, {len(calculator.asked)} labels")
    at_minimum = structure_of(found.atoms).to_atoms()
    at_minimum.calc = calculator
    exact = Minimum(at_minimum, at_minimum.get_potential_energy(), found.largest_force_eV_A, found.steps)
    write_json(output, {**exact.to_json(), "labels": len(calculator.asked)})


def displace_by_labels(settings: Uses, minimum: str, labels: Labels, part: int, output: str) -> None:
    """Write the labels of one part of the displaced geometries of the reference's minimum."""
    atoms = minimum_of(minimum)
    refuse_cells(atoms, "frequencies")
    geometries = displaced(atoms.positions, settings.frequencies.displacement_A)
    rows = rows_of_part(len(geometries), part, settings.reference_jobs)
    found = labels([_moved(atoms, geometries[row]) for row in rows])
    kept = [{"row": row, **_kept(label, ("forces", "dipole"))} for row, label in zip(rows, found, strict=True)]
    write_json(output, {"labels": kept})


def frames_by_labels(settings: Uses, minimum: str, trajectory: str, labels: Labels, part: int, output: str) -> None:
    """Write the labels of one part of the frames of the trajectory that are compared with the reference."""
    atoms, made = minimum_of(minimum), read_trajectory(trajectory)
    frames = compared_frames(len(made.times_fs), settings.md.reference_frames)
    rows = [frames[row] for row in rows_of_part(len(frames), part, settings.reference_jobs)]
    found = labels([_moved(atoms, made.positions_A[row]) for row in rows])
    kept = [{"row": row, **_kept(label, ("energy", "forces"))} for row, label in zip(rows, found, strict=True)]
    write_json(output, {"labels": kept})


def learn_dipoles(potential: Potential) -> tuple[DipoleModel, dict[str, Any]]:
    """Return the model of dipoles, and its errors (e*Angstrom, of a component) on the test labels.

    Raises QuarryError where the labels have no dipoles.
    """
    labels = LabelledSet.read(potential.dataset)
    known = labels.properties.get("dipole")
    if known is None:
        raise QuarryError(
            "infrared: the campaign's labels have no dipoles, from which those of a trajectory are learnt; "
            "label with an engine that gives them"
        )
    whole = np.asarray(np.isfinite(known).all(axis=1))
    train, test = (rows[whole[rows]] for rows in (labels.indices("train"), labels.indices("test")))
    # Here: the other uses of a model without torch need none.
    from quarry.uses.dipoles import DipoleModel

    seed = potential.configuration.seed
    model = DipoleModel.fit(labels.structures.subset(train), known[train], seed)
    off = model.predict(labels.structures.subset(test)) - known[test]
    spread = float(np.std(known[test] - known[test].mean(axis=0))) if len(test) else float("nan")
    errors = {"labels": len(train), "test_labels": len(test), "test_spread_eA": spread}
    return model, {**errors, "test_rmse_eA": float(np.sqrt(np.mean(off**2))) if len(test) else None}


def refuse_cells(atoms: Atoms, use: str) -> None:
    """Raise QuarryError for a periodic structure: vibrations here are those of a molecule."""
    if atoms.pbc.any():
        raise QuarryError(f"{use}: for molecules alone, and this structure is periodic; optimise and md take cells")


def minimum_of(path: str) -> Atoms:
    """Return the atoms of a minimum that a step has written."""
    return atoms_of(json.loads(Path(path).read_bytes()))


def read_trajectory(path: str) -> Trajectory:
    """Return a trajectory that a step has written."""
    with np.load(path) as arrays:
        return Trajectory(**{name: arrays[name] for name in arrays.files})


def compared_frames(n_frames: int, wanted: int) -> list[int]:
    """Return which frames are labelled: evenly spread, the last one among them, the first (the start) not."""
    return np.unique(np.linspace(0, n_frames - 1, wanted + 1).round().astype(int)[1:]).tolist()


def rows_of_part(count: int, part: int, parts: int) -> list[int]:
    """Return which of ``count`` labels a job has; all jobs together have each once."""
    return list(range(part, count, parts))


def as_set(atoms: Atoms, positions: Iterable[Any]) -> StructureSet:
    """Return geometries of the same atoms as a set."""
    return StructureSet.from_structures(_moved(atoms, each) for each in positions)


def _moved(atoms: Atoms, positions: Any) -> Structure:
    moved = atoms.copy()
    moved.positions = positions
    return structure_of(moved)


def _kept(label: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: np.asarray(label[name]).tolist() for name in names if label.get(name) is not None}


def _lowest(labels: LabelledSet) -> Atoms:
    """Return the labelled structure of lowest energy."""
    energies = np.array([with_ground_state(labels.label(row)).get("energy", np.nan) for row in range(len(labels))])
    rows = np.flatnonzero(labels.used & np.isfinite(energies))
    count = count_of_compositions(labels.structures.subset(rows))
    if count != 1:
        raise QuarryError(
            f"uses.structure: the labelled structures have {count} compositions; name the structure to begin with"
        )
    return labels.structures[int(rows[np.argmin(energies[rows])])].to_atoms()


def _frames_of(atoms: Atoms, found: Trajectory) -> Iterator[Atoms]:
    for time_fs, energy_eV, positions in zip(found.times_fs, found.potential_eV, found.positions_A, strict=True):
        frame = atoms.copy()
        frame.positions, frame.info["time_fs"] = positions, float(time_fs)
        frame.calc = SinglePointCalculator(frame, energy=float(energy_eV))
        yield frame
