"""Surface hopping on a finished model of several states, and by labels: from Wigner starts to populations against time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from quarry.config.uses import SurfaceHopping
from quarry.dynamics.physical import Limits, fault_of
from quarry.dynamics.surface_hopping import FINISHED, Path, Settings, Start, Surfaces, populations, propagate
from quarry.errors import QuarryError
from quarry.evaluation.intervals import Ends, share_interval
from quarry.files import atomic_path
from quarry.models.base import Model
from quarry.randomness import generator
from quarry.sampling.modes import NormalModes
from quarry.sampling.wigner import sample_wigner_motion
from quarry.stages.uses import Potential, minimum_of
from quarry.stages.uses_results import model_vibrations
from quarry.structures import Structure, StructureSet
from quarry.uses.reference import Labels, structure_of

LARGEST_FORCE_EV_A = 200.0
"""A larger force on an atom is no chemistry."""
MOST_TIMES = 500
"""Times of the populations that the result holds."""
PURPOSE = "surface hopping"
NUMBERS = ("states", "energies_eV", "total_eV", "positions_A", "velocities_A_fs")
"""Arrays of a file of trajectories, shape (n, n_times, ...): -1 and NaN behind a trajectory's end."""


def hop_on_model(potential: Potential, minimum: str, displaced: str, output: str, log: Callable[[str], None]) -> None:
    """Write trajectories on the model of all states, from Wigner starts about its ground state's minimum."""
    settings = potential.configuration.uses.surface_hopping
    seed = potential.configuration.seed
    # A QuarryCalculator, which is for programs of the user: no room imports it.
    calculator: Any = potential.calculator()
    atoms = minimum_of(minimum)
    starts = wigner_starts(atoms, potential, (minimum, displaced))
    model: Model = calculator.model
    paths = _run(settings, seed, atoms, starts, surfaces_of(model, structure_of(atoms)), range(len(starts)))
    write_paths(paths, output)
    log(f"{len(paths)} trajectories, {sum(path.evaluations for path in paths)} evaluations of the model")


def hop_by_labels(
    settings: SurfaceHopping, seed: int, minimum: str, trajectories: str, labels: Labels, part: int, output: str
) -> None:
    """Write one trajectory by labels, a label a step, with start and chance of the model's trajectory of the same number."""
    with np.load(trajectories) as given:
        start = Start(given["positions_A"][part, 0], given["velocities_A_fs"][part, 0])
    atoms = minimum_of(minimum)
    begin = structure_of(atoms)

    def surfaces(positions: NDArray[np.float64], rows: NDArray[np.int64]) -> Any:
        found = labels([Structure.create(begin.numbers, x, begin.charge, begin.multiplicity) for x in positions])
        energies = np.array([label["state_energies"] for label in found])
        return energies, np.array([label["state_forces"] for label in found]).transpose(0, 2, 1, 3)

    write_paths(_run(settings, seed, atoms, [start], surfaces, [part]), output)


def wigner_starts(atoms: Atoms, potential: Potential, files: tuple[str, str]) -> list[Start]:
    """Return geometries and velocities of the harmonic Wigner distribution about the model's minimum.

    Raises QuarryError where that is no minimum.
    """
    settings, configuration = potential.configuration.uses.surface_hopping, potential.configuration
    found = model_vibrations(configuration.uses.frequencies.displacement_A, *files)
    modes = NormalModes(structure_of(atoms), found.frequencies_cm, found.modes, atoms.get_masses(), 0.0, {})
    starts = []
    for number in range(settings.trajectories):
        rng = generator(configuration.seed, "uses", PURPOSE, "start", number)
        drawn, velocities = sample_wigner_motion(modes, settings.temperature_K, rng)
        starts.append(Start(drawn.positions, velocities))
    return starts


def surfaces_of(model: Model, begin: Structure) -> Surfaces:
    """Return a model's energies and forces of all states at positions of the atoms of ``begin``."""

    def surfaces(positions: NDArray[np.float64], rows: NDArray[np.int64]) -> Any:
        same = StructureSet.from_structures([begin] * len(positions))
        found = model.predict(
            replace(same, positions=positions.reshape(-1, 3)), frozenset(("state_energies", "state_forces"))
        ).mean
        forces = found["state_forces"].reshape(len(positions), len(begin), -1, 3)
        return found["state_energies"], forces.transpose(0, 2, 1, 3)

    return surfaces


def _run(
    settings: SurfaceHopping,
    seed: int,
    atoms: Atoms,
    starts: Sequence[Start],
    surfaces: Surfaces,
    numbers: Sequence[int],
) -> list[Path]:
    begin = structure_of(atoms)

    def checked(positions: NDArray[np.float64], rows: NDArray[np.int64]) -> Any:
        energies, forces = surfaces(positions, rows)
        if settings.initial_state >= energies.shape[1]:
            raise QuarryError(
                f"uses.surface_hopping.initial_state = {settings.initial_state}: there are {energies.shape[1]} states, from the "
                "ground state, 0; lower it"
            )
        return energies, forces

    def fault(positions: NDArray[np.float64], forces: NDArray[np.float64]) -> str:
        return fault_of(replace(begin, positions=positions), forces, Limits(LARGEST_FORCE_EV_A))

    generators = [generator(seed, "uses", PURPOSE, "hops", number) for number in numbers]
    of_run = mechanics(settings)
    return propagate(starts, settings.initial_state, atoms.get_masses(), checked, of_run, generators, fault)


def mechanics(settings: SurfaceHopping) -> Settings:
    """Return what the trajectories must know of the section."""
    return Settings(settings.time_step_fs, settings.length_fs, settings.energy_tolerance_eV)


def write_paths(paths: Sequence[Path], output: str) -> None:
    """Write trajectories as npz: ``NUMBERS``, fates, and hops.

    A hop is (trajectory, time_fs, before, after, gap_eV, probability, frustrated).
    """
    last = max(len(path.states) for path in paths)

    def padded(rows: Sequence[Any], fill: float) -> NDArray[Any]:
        values = [np.asarray(row) for row in rows]
        found = np.full((len(values), last, *values[0].shape[1:]), fill, dtype=values[0].dtype)
        for place, row in zip(found, values, strict=True):
            place[: len(row)] = row
        return found

    columns = (
        padded([path.states for path in paths], -1),
        padded([path.energies_eV for path in paths], np.nan),
        padded([path.total_eV for path in paths], np.nan),
        padded([path.positions for path in paths], np.nan),
        padded([path.velocities for path in paths], np.nan),
    )
    hops = [
        (number, hop.time_fs, hop.before, hop.after, hop.gap_eV, hop.probability, hop.frustrated)
        for number, path in enumerate(paths)
        for hop in path.hops
    ]
    arrays: dict[str, Any] = dict(zip(NUMBERS, columns, strict=True))
    arrays |= {"fates": np.array([path.fate for path in paths]), "hops": np.array(hops, dtype=float).reshape(-1, 7)}
    with atomic_path(output) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **arrays)


def hopping_result(settings: SurfaceHopping, model: str, reference: Sequence[str]) -> dict[str, Any]:
    """Return populations against time with 95 % intervals, hops and fates, of the model and of the labels' trajectories."""
    return {
        "use": "surface_hopping",
        "initial_state": settings.initial_state,
        "temperature_K": settings.temperature_K,
        "time_step_fs": settings.time_step_fs,
        "length_fs": settings.length_fs,
        "model": _account(settings, [model]),
        "reference": _account(settings, reference) if reference else None,
    }


def _account(settings: SurfaceHopping, files: Sequence[str]) -> dict[str, Any]:
    states, deviations, fates, hops, n_states = [], [], Counter[str](), [], 0
    for file in files:
        with np.load(file) as given:
            fates.update(given["fates"].tolist())
            n_states = given["energies_eV"].shape[2]
            states += [row[row >= 0] for row in given["states"]]
            deviations += np.nanmax(np.abs(given["total_eV"] - given["total_eV"][:, :1]), axis=1).tolist()
            hops += given["hops"].tolist()
    counts, alive = populations(states, n_states, mechanics(settings))
    rows = np.unique(np.linspace(0, len(counts) - 1, min(len(counts), MOST_TIMES)).round().astype(int))
    intervals = [[interval_of(int(n), int(alive[row]), len(states)) for n in counts[row]] for row in rows]
    shares = [(counts[row] / alive[row]).tolist() if alive[row] else [None] * n_states for row in rows]
    return {
        "trajectories": len(states),
        "fates": {FINISHED: 0, **dict(sorted(fates.items()))},
        "hops": sum(not hop[-1] for hop in hops),
        "frustrated_hops": sum(bool(hop[-1]) for hop in hops),
        "energy_deviation_eV": {"median": float(np.median(deviations)), "largest": float(np.max(deviations))},
        "times_fs": (rows * settings.time_step_fs).tolist(),
        "trajectories_at_time": alive[rows].tolist(),
        "populations": shares,
        "populations_low": [[low for low, _ in row] for row in intervals],
        "populations_high": [[high for _, high in row] for row in intervals],
    }


def interval_of(count: int, alive: int, total: int) -> Ends:
    """Return the 95 % interval of a population: those that ended early may be in that state by now, or in another one."""
    return share_interval(count, total)[0], share_interval(count + total - alive, total)[1]
