"""Walks of a sampler over a model's potential, each to its first frames that the model is unsure of."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from quarry.dynamics import exploration
from quarry.dynamics.exploration import Fate
from quarry.dynamics.files import Trajectories
from quarry.dynamics.model_calculator import UNCERTAINTY, ModelCalculator
from quarry.dynamics.physical import ABOVE_CEILING, Limits, fault_of
from quarry.dynamics.samplers.base import PathSampler
from quarry.dynamics.uncertainty import Measure
from quarry.errors import QuarryError
from quarry.imports import call_user_code
from quarry.models.base import Model
from quarry.structures import Structure, StructureSet
from quarry.time_limits import time_limit

MOST_FRAMES = 100_000
"""Frames of a walk beyond which it has no end."""
NO_FRAME = "the sampler gave no frame"


@dataclass(frozen=True)
class Judgement:
    """What ends a walk.

    measure, threshold: uncertainty beyond the threshold, in the measure's unit. force_limit_eV_A: see ``Limits``. forces: whether
    the model is asked for them. elements: that the model knows.
    """

    measure: Measure
    threshold: float
    force_limit_eV_A: float
    forces: bool
    elements: frozenset[int]


@dataclass(frozen=True)
class Owner:
    """Whose code runs: what stands before its errors, seconds that a walk may take (None: no limit), whether it is the user's."""

    words: str = "pool.explore.sampler"
    limit_s: float | None = None
    is_user: bool = False


@dataclass
class _Found:
    """The frames that walks have ended with."""

    structures: list[Structure] = field(default_factory=list)
    fates: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    uncertainty: list[float] = field(default_factory=list)
    walks: int = 0

    def add(self, structure: Structure, fault: str, step: int, value: float, fate: Fate) -> None:
        self.structures.append(structure.rounded())
        self.fates.append(str(Fate.UNPHYSICAL if fault else fate))
        self.faults.append(fault)
        self.ends.append(step)
        self.uncertainty.append(value)

    def as_file(self, facts: dict[str, Any]) -> Trajectories:
        return Trajectories(
            StructureSet.from_structures(self.structures),
            tuple(self.fates),
            tuple(self.faults),
            np.array(self.ends, dtype=np.int64),
            np.array(self.uncertainty, dtype=np.float64),
            np.zeros((0, 3)),
            facts,
        )


@dataclass(frozen=True, eq=False)
class Walks:
    """Where walks begin.

    starts: a structure for each. numbers, generators: of each. energy_limits_eV: highest predicted energy of the frames of each,
    shape (n,); None: there is no ceiling. labelled: whether the starts are, so that they themselves are no candidates. owner: of
    a user-defined sampler.
    """

    starts: StructureSet
    numbers: Sequence[int]
    generators: Sequence[np.random.Generator]
    energy_limits_eV: NDArray[np.float64] | None = None
    labelled: bool = False
    owner: Owner | None = None


def follow(
    sampler: PathSampler,
    model: Model,
    walks: Walks,
    judgement: Judgement,
    facts: dict[str, Any],
    checkpoint: Path | None = None,
) -> Trajectories:
    """Walk from each start, to the first frames that are uncertain or no chemistry or to the end of the walk; return the last
    frames of all walks.

    facts: of the file. checkpoint: a file where the walks that have ended are left about every half minute; what an earlier,
    killed attempt left there is taken up.
    Raises QuarryError, one line, for a user's sampler that fails, gives no atoms, or takes too long.
    """
    found = _Found() if checkpoint is None else _taken_up(checkpoint, facts)
    saved = time.monotonic()
    for k in range(found.walks, len(walks.numbers)):
        ceiling = np.inf if walks.energy_limits_eV is None else float(walks.energy_limits_eV[k])
        judge = _Judge(judgement, model, walks.starts[k], ceiling, walks.labelled, walks.owner or Owner())
        judge.walk(sampler, walks.numbers[k], walks.generators[k], found)
        found.walks += 1
        if checkpoint is not None and time.monotonic() - saved > exploration.CHECKPOINT_S:
            found.as_file({**facts, "walks": found.walks}).write(checkpoint)
            saved = time.monotonic()
    return found.as_file(facts)


@dataclass(eq=False)
class _Judge:
    """Looks at the frames of a walk. begin: its start, which may be labelled. ceiling_eV: highest predicted energy."""

    judgement: Judgement
    model: Model
    begin: Structure
    ceiling_eV: float
    labelled: bool
    owner: Owner

    def walk(self, sampler: PathSampler, number: int, rng: np.random.Generator, found: _Found) -> None:
        """Note the last frames of a walk."""
        self.begin_id = self.begin.structure_id
        start = self.begin.to_atoms()
        start.calc = self.calculator = ModelCalculator(
            self.model, self.judgement.measure, self.begin.charge, self.begin.multiplicity, self.judgement.forces
        )
        if not self.owner.is_user:
            self._follow(sampler.path(start, number, rng), found)
            return
        with time_limit(self.owner.limit_s):
            call_user_code(
                lambda: self._follow(sampler.path(start, number, rng), found), f"{self.owner.words} failed in path"
            )

    def _follow(self, frames: Iterable[Atoms | Sequence[Atoms]] | None, found: _Found) -> None:
        if frames is None:
            raise QuarryError(f"{self.owner.words} returned None from path; it must yield ASE atoms")
        last: list[tuple[Structure, str, float, Fate]] = []
        step = -1
        for step, given in enumerate(frames):
            if step >= MOST_FRAMES:
                raise QuarryError(f"{self.owner.words} has given {MOST_FRAMES} frames of one walk; it must have an end")
            last = [self._seen(atoms) for atoms in (given if isinstance(given, list | tuple) else [given])]
            if any(fate is not Fate.COMPLETE or fault for _, fault, _, fate in last):
                break
        if not last:
            last = [(self.begin, NO_FRAME, np.nan, Fate.UNPHYSICAL)]
        for structure, fault, value, fate in last:
            found.add(structure, fault, max(step, 0), value, fate)

    def _seen(self, atoms: Any) -> tuple[Structure, str, float, Fate]:
        """Return a frame, what is wrong with it, its uncertainty and its fate."""
        if not isinstance(atoms, Atoms) or not len(atoms):
            what = "atoms without an atom" if isinstance(atoms, Atoms) else type(atoms).__name__
            raise QuarryError(f"{self.owner.words} gave {what} as a frame; it must yield ASE atoms")
        strange = set(atoms.numbers.tolist()) - self.judgement.elements
        if strange:
            symbols = sorted(Atoms([number]).get_chemical_formula() for number in strange)
            raise QuarryError(
                f"{self.owner.words} gave {', '.join(symbols)}, which the model has not learnt; leave it out"
            )
        try:
            structure = Structure.of_atoms(atoms, self.begin.charge, self.begin.multiplicity)
        except ValueError:
            return self.begin, "a position or force is not a finite number", np.nan, Fate.UNPHYSICAL
        known = isinstance(atoms.calc, ModelCalculator)
        calculator = atoms.calc if known else self.calculator
        value = float(calculator.get_property(UNCERTAINTY, atoms))
        forces = calculator.get_property("forces", atoms) if self.judgement.forces else np.zeros((len(atoms), 3))
        volume = None if self.begin.cell is None else abs(float(np.linalg.det(self.begin.cell)))
        fault = fault_of(structure, forces, Limits(self.judgement.force_limit_eV_A, volume))
        if not fault and calculator.get_property("energy", atoms) > self.ceiling_eV:
            fault = ABOVE_CEILING
        if not fault and not np.isfinite(value):
            fault = "the uncertainty is not a finite number"
        unsure = value > self.judgement.threshold and not (self.labelled and structure.structure_id == self.begin_id)
        return structure, fault, value, Fate.UNCERTAIN if unsure else Fate.COMPLETE


def _taken_up(path: Path, facts: dict[str, Any]) -> _Found:
    """Return the walks that an earlier attempt with the same facts left, or none."""
    try:
        left = Trajectories.read(path)
        walks = int(left.facts["walks"])
    except (OSError, KeyError, ValueError, TypeError):
        return _Found()
    if left.facts != {**facts, "walks": walks}:
        return _Found()
    structures = [left.structures[k] for k in range(len(left.fates))]
    return _Found(structures, list(left.fates), list(left.faults), left.ends.tolist(), left.uncertainty.tolist(), walks)
