"""Trajectories on a model's potential, each to its first frame that the model is unsure of."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.dynamics.bias import Bias
from quarry.dynamics.integrators import Forces, Integrator, Surroundings
from quarry.dynamics.physical import ABOVE_CEILING, Limits, fault_of
from quarry.dynamics.uncertainty import Measure
from quarry.dynamics.walkers import Walkers, as_frames
from quarry.files import atomic_path
from quarry.models.base import Model, Prediction
from quarry.structures import Structure, StructureSet

CHECKPOINT_S = 30.0
"""Seconds of work that a killed exploration loses at most, about."""
LOOK_STEPS = 10
"""Steps between two looks at the distances of atoms where nothing else gives cause."""
TRACE_POINTS = 200
"""Points at most of the course of the uncertainty that is kept of a trajectory."""


class Fate(StrEnum):
    """How a trajectory ended: at a frame that the model is unsure of, at one that is no chemistry, at its full length, or where
    it was to go.
    """

    UNCERTAIN = "uncertain"
    UNPHYSICAL = "unphysical"
    COMPLETE = "complete"
    REACTANTS = "reactants"
    PRODUCTS = "products"
    RUNNING = "running"


@dataclass(frozen=True)
class Course:
    """How long and how warm trajectories are.

    steps: at most. temperature_K: of the bath at the start and at the end, linear between them. threshold: uncertainty beyond
    which a trajectory ends, in the measure's unit; infinity: none ends so. force_limit_eV_A: see ``Limits``. energy_limits_eV:
    highest predicted energy of each trajectory's frames, shape (n,); None: there is no ceiling. certain_steps: first steps, whose
    frames end no trajectory however unsure the model is of them. goal: of a frame, the fate of a trajectory that has come where
    it was to go, or None; asked every ``LOOK_STEPS`` steps.
    """

    steps: int
    temperature_K: tuple[float, float]
    threshold: float
    force_limit_eV_A: float
    energy_limits_eV: NDArray[np.float64] | None = None
    certain_steps: int = 0
    goal: Callable[[Structure], Fate | None] | None = None

    def temperature_at(self, step: int) -> float:
        """Return the temperature of the bath at a step, kelvin."""
        first, last = self.temperature_K
        return first + (last - first) * step / max(self.steps, 1)


@dataclass(eq=False)
class Exploration:
    """What became of trajectories; arrays have one entry for each of them.

    walkers: the last frame of each that has ended (of the others, where they were put last). fates, faults: how and why it
    ended. ends: the step at which it ended. uncertainty: at the last frame. averages: see ``Bias.added``. trace: the largest
    uncertainty of all that were running, by step: (step, largest, median).
    """

    walkers: Walkers
    fates: list[Fate]
    faults: list[str]
    ends: NDArray[np.int64]
    uncertainty: NDArray[np.float64]
    averages: NDArray[np.float64]
    trace: list[tuple[int, float, float]] = field(default_factory=list)
    step: int = 0

    @staticmethod
    def begin(walkers: Walkers) -> Exploration:
        """Return trajectories at their start."""
        n = len(walkers)
        ends, unknown = np.zeros(n, dtype=np.int64), np.full(n, np.nan)
        return Exploration(walkers, [Fate.RUNNING] * n, [""] * n, ends, unknown, Bias.no_averages(n))

    def rows(self, fate: Fate) -> NDArray[np.int64]:
        """Return which trajectories have a fate."""
        return np.array([i for i, found in enumerate(self.fates) if found is fate], dtype=np.int64)

    def put(self, rows: NDArray[np.int64], walkers: Walkers) -> None:
        """Note where some trajectories are now."""
        atoms = self.walkers.structures.atoms_of(rows)
        whole = self.walkers.structures
        positions, velocities, cells = whole.positions.copy(), self.walkers.velocities.copy(), whole.cells.copy()
        positions[atoms], velocities[atoms] = walkers.structures.positions, walkers.velocities
        cells[rows] = walkers.structures.cells
        self.walkers = replace(self.walkers.moved(positions, cells), velocities=velocities)


def explore(
    model: Model,
    start: Walkers,
    integrator: Integrator,
    course: Course,
    measure: Measure,
    generators: Sequence[np.random.Generator],
    checkpoint: Path | None = None,
    bias: Bias | None = None,
) -> Exploration:
    """Run trajectories side by side, each to its first uncertain or unphysical frame or its full length.

    model: predicts energies and forces, and what ``measure`` wants. generators: one for each trajectory. checkpoint: a file where
    the state is left about every half minute; what an earlier, killed attempt left there is taken up, to the same end. bias: what
    acts beside the model's forces.
    """
    wants = measure.wants | {"energy", "forces"} | ({"stress"} if start.structures.pbc.any() else set())
    wants |= frozenset() if bias is None else bias.wants
    judge = _Judge(model, measure, course, np.abs(np.linalg.det(start.structures.cells)))

    def potential(walkers: Walkers) -> Forces:
        judge.seen = as_frames(walkers.structures)
        judge.prediction = model.predict(judge.seen, frozenset(wants))
        forces = Forces(judge.prediction.mean["forces"], judge.prediction.mean.get("stress"))
        if bias is None:
            return forces
        gradient = bias.gradient(model, judge.seen, judge.prediction)
        forces, state.averages[rows] = bias.added(forces, gradient, walkers, state.averages[rows])
        return forces

    taken_up = None if checkpoint is None else _taken_up(checkpoint, start, generators)
    if taken_up is None:
        state = Exploration.begin(start)
        rows, walkers = np.arange(len(start)), start
        now = potential(walkers)
        rows, walkers, now = judge.frames(state, rows, walkers, now)
    else:
        state, now = taken_up
        rows = state.rows(Fate.RUNNING)
        walkers = state.walkers.subset(rows)
    saved = time.monotonic()
    while len(rows):
        around = Surroundings(potential, course.temperature_at(state.step), [generators[int(row)] for row in rows])
        state.step += 1
        walkers, now = integrator.step(walkers, now, around)
        rows, walkers, now = judge.frames(state, rows, walkers, now)
        if checkpoint is not None and len(rows) and time.monotonic() - saved > CHECKPOINT_S:
            state.put(rows, walkers)
            _write(checkpoint, state, now, generators)
            saved = time.monotonic()
    return state


@dataclass(eq=False)
class _Judge:
    """Ends trajectories.

    volumes: of the cells at the start, Angstrom^3. seen, prediction: the last frames, and what the model says of them.
    """

    model: Model
    measure: Measure
    course: Course
    volumes: NDArray[np.float64]
    seen: StructureSet = field(init=False)
    prediction: Prediction = field(init=False)

    def frames(
        self, state: Exploration, rows: NDArray[np.int64], walkers: Walkers, now: Forces
    ) -> tuple[NDArray[np.int64], Walkers, Forces]:
        """Note the frames of the trajectories ``rows``; return those that go on."""
        values, course = self.measure.of(self.model, self.seen, self.prediction), self.course
        forces = self.prediction.mean["forces"]
        state.uncertainty[rows], state.ends[rows] = values, state.step
        if state.step % max(1, course.steps // TRACE_POINTS) == 0:
            state.trace.append((state.step, float(np.max(values)), float(np.median(values))))
        with np.errstate(invalid="ignore"):
            unsure = (values > course.threshold) & (state.step >= course.certain_steps)
            strong = walkers.strongest(forces) <= course.force_limit_eV_A
            high = np.zeros(len(rows), dtype=bool)
            if course.energy_limits_eV is not None:
                high = self.prediction.mean["energy"] > course.energy_limits_eV[rows]
        over = state.step >= course.steps
        # Distances take longer than a small potential.
        looked_at = unsure | ~strong | high | ~np.isfinite(values) | over | (state.step % LOOK_STEPS == 0)
        ended = np.zeros(len(rows), dtype=bool)
        for k in np.flatnonzero(looked_at):
            row, atoms = int(rows[k]), slice(*walkers.structures.offsets[k : k + 2])
            limits = Limits(course.force_limit_eV_A, float(self.volumes[row]) or None)
            fault = fault_of(walkers.structures[int(k)], forces[atoms], limits)
            if not fault and high[k]:
                fault = ABOVE_CEILING
            if not fault and not np.isfinite(values[k]):
                fault = "the uncertainty is not a finite number"
            if fault:
                state.fates[row], state.faults[row] = Fate.UNPHYSICAL, fault
            elif unsure[k]:
                state.fates[row] = Fate.UNCERTAIN
            elif course.goal is not None and (reached := course.goal(walkers.structures[int(k)])):
                state.fates[row] = reached
            elif over:
                state.fates[row] = Fate.COMPLETE
            ended[k] = state.fates[row] is not Fate.RUNNING
        if not ended.any():
            return rows, walkers, now
        gone, left = np.flatnonzero(ended), np.flatnonzero(~ended)
        state.put(rows[gone], walkers.subset(gone))
        return rows[left], walkers.subset(left), now.subset(walkers, left)


def _write(path: Path, state: Exploration, now: Forces, generators: Sequence[np.random.Generator]) -> None:
    """Leave the state in a file, whole or not at all. now: forces on the trajectories that go on."""
    rest = {
        "step": state.step,
        "fates": state.fates,
        "faults": state.faults,
        "trace": state.trace,
        "generators": [rng.bit_generator.state for rng in generators],
    }
    walkers = state.walkers
    arrays: dict[str, NDArray[Any]] = {
        "positions": walkers.structures.positions,
        "velocities": walkers.velocities,
        "cells": walkers.structures.cells,
    }
    arrays |= {
        "ends": state.ends,
        "uncertainty": state.uncertainty,
        "averages": state.averages,
        "forces": now.forces,
        "rest": np.array(json.dumps(rest)),
    }
    if now.stress is not None:
        arrays["stress"] = now.stress
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _taken_up(
    path: Path, start: Walkers, generators: Sequence[np.random.Generator]
) -> tuple[Exploration, Forces] | None:
    """Return the state that an earlier attempt left, and the forces on what goes on; None where there is none that fits.

    Sets the generators to the state that they had.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            rest, stress = json.loads(str(data["rest"])), data.get("stress")
            positions, velocities, cells = data["positions"], data["velocities"], data["cells"]
            ends, uncertainty, averages = data["ends"], data["uncertainty"], data["averages"]
            now = Forces(data["forces"], stress)
        fates = [Fate(fate) for fate in rest["fates"]]
        if positions.shape != start.structures.positions.shape or len(fates) != len(start):
            return None
        for rng, was in zip(generators, rest["generators"], strict=True):
            rng.bit_generator.state = was
        walkers = replace(start.moved(positions, cells), velocities=velocities)
        trace = [(int(step), largest, middle) for step, largest, middle in rest["trace"]]
        found = Exploration(walkers, fates, list(rest["faults"]), ends, uncertainty, averages, trace, rest["step"])
        return found, now
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
