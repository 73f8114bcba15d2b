"""Trajectories on the last model's potential that look for candidates, and whether there are labels enough to run them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.config.descriptors import InverseDistances
from quarry.config.dynamics import NAMED_THRESHOLDS, Explore
from quarry.config.pool import DynamicsPool, WignerPool
from quarry.dynamics.bias import Bias
from quarry.dynamics.exploration import Course, explore
from quarry.dynamics.files import NEW, Trajectories
from quarry.dynamics.integrators import Barostat, Integrator, Langevin, VelocityVerlet
from quarry.dynamics.paths import Judgement, Walks, follow
from quarry.dynamics.samplers.base import Origin
from quarry.dynamics.samplers.registry import make_sampler, owner_of
from quarry.dynamics.uncertainty import MEASURES, Measure, informativeness_of, outlier_threshold
from quarry.dynamics.walkers import Walkers, heated
from quarry.errors import QuarryError
from quarry.files import digest_of, sha256_of
from quarry.models.base import Model
from quarry.query.batch import batch_size
from quarry.randomness import generator
from quarry.sampling.modes import NormalModes
from quarry.sampling.wigner import sample_wigner, sample_wigner_motion
from quarry.stages.arm_models import ArmModels
from quarry.stages.growing import Decision, decide_growth
from quarry.stages.targets import target_arrays
from quarry.stopping.facts import Facts
from quarry.structures import StructureSet
from quarry.structures.copies import kind_of
from quarry.structures.labelled import LabelledSet

LABELLED_STEPS = 10
"""Steps before a trajectory from a labelled structure may end: its first frames have their label, or nearly."""


@dataclass(frozen=True)
class Explored:
    """What an exploration starts from.

    model, dataset: files of the last iteration. facts: files of all iterations so far. modes: file of normal modes that were
    computed for the pool, or empty.
    """

    model: str
    dataset: str
    facts: Sequence[str]
    modes: str = ""


def explore_candidates(models: ArmModels, iteration: int, group: int, last: Explored, output: str) -> str:
    """Run the trajectories of a job; write how each of them ended; return a line about it.

    group: number of the job. While the initial data grow, the first job draws geometries in their place.
    """
    pool = models.configuration.pool
    assert isinstance(pool, DynamicsPool)
    settings, facts = pool.explore, [Facts.read(path) for path in last.facts]
    labelled = LabelledSet.read(last.dataset)
    training = labelled.subset(labelled.indices("train")).structures
    modes = _modes(pool, last.modes, models.base or Path())
    batch = batch_size(models.settings.query.batch, iteration, len(training))
    growth = pool.grows_by
    enough_eV = settings.least_energy_eV_atom * _mean_size(training)
    decision = Decision(False)
    if growth is not None:
        metric = growth.metric(models.traits.trains_in_seconds)
        decision = decide_growth(facts, growth, batch, metric, enough_eV, models.target.unit)
    if decision.grows:
        found = _drawn(models, pool, modes, iteration, batch if group == 0 else 0, decision)
        found.write(output)
        return f"the initial data grow: {decision.words}"
    model = models.load(last.model)
    measure = measure_of(settings, training, models.target.learnt)
    factor, test = {}, labelled.subset(labelled.indices("test")).structures
    if settings.calibration == "conformal":
        held = labelled.subset(labelled.indices("test"))
        labels = target_arrays(held, models.configuration)
        measure, factor["calibration_factor"] = measure.calibrated(model, test, labels)
    threshold = threshold_of(settings, facts, model, measure, test)
    whole: dict[str, Any] = {
        "phase": "query",
        "threshold": threshold,
        "unit": measure.unit,
        "uncertainty": settings.uncertainty,
        **factor,
        **decision.account(),
    }
    numbers = numbers_of(settings, group)
    rngs = [generator(models.settings.seed, models.arm, iteration, "trajectory", number) for number in numbers]
    known = labelled.without_rejected()
    section, checkpoint = settings.sampler, _checkpoint_of(output, last, whole)
    sampler = None if section is None else make_sampler(section, Origin(models.base or Path(), modes))
    if section is not None:
        whole |= {"sampler": section.kind, "noun": section.noun}
    if section is not None and not section.has_time:
        assert sampler is not None
        starts = _starts(pool, modes, training, rngs).structures
        elements = frozenset(training.numbers.tolist())
        ceilings = energy_ceilings_eV(settings, known, starts)
        judgement = Judgement(measure, threshold, settings.max_force_eV_A, section.needs_forces, elements)
        walks = Walks(starts, numbers, rngs, ceilings, pool.starts == "labelled", owner_of(section))
        found = follow(sampler, model, walks, judgement, whole, checkpoint)
    else:
        first_K, last_K = settings.temperature_K
        walkers = _starts(pool, modes, training, rngs) if sampler is None else sampler.starts(model, first_K, rngs)
        ceilings = energy_ceilings_eV(settings, known, walkers.structures)
        course = Course(settings.steps, (first_K, last_K), threshold, settings.max_force_eV_A, ceilings)
        if sampler is not None:
            course = replace(course, goal=sampler.goal)
        elif pool.starts == "labelled":
            course = replace(course, certain_steps=min(LABELLED_STEPS, settings.steps))
        state = explore(
            model, walkers, integrator_of(settings), course, measure, rngs, checkpoint, bias_of(settings, training)
        )
        # Positions as they will be labelled, and with their own ids.
        frames = StructureSet.from_structures(structure.rounded() for structure in state.walkers.structures)
        trace = np.array(state.trace, dtype=np.float64).reshape(-1, 3)
        fates = tuple(str(fate) for fate in state.fates)
        found = Trajectories(frames, fates, tuple(state.faults), state.ends, state.uncertainty, trace, whole)
    found.write(output)
    checkpoint.unlink(missing_ok=True)
    met, noun = found.fates.count("uncertain"), whole.get("noun", "trajectories")
    return f"{len(found.fates)} {noun}, {int(found.ends.sum())} steps: {met} met a frame beyond {threshold:.3g} {measure.unit}"


def _checkpoint_of(output: str, last: Explored, whole: Mapping[str, Any]) -> Path:
    """Return where a killed job leaves its state; that of a job with another model or other labels is removed.

    whole: what is said of all trajectories, their threshold above all.
    """
    mark = digest_of([sha256_of(last.model), sha256_of(last.dataset), whole], 12)
    path = Path(output).with_suffix(f".{mark}.state.npz")
    for other in set(path.parent.glob(f"{Path(output).stem}.*.state.npz")) - {path}:
        other.unlink(missing_ok=True)
    return path


def numbers_of(settings: Explore, group: int) -> list[int]:
    """Return the numbers of the walks that a job has."""
    if settings.sampler is None:
        return list(range(group, settings.trajectories, settings.shares))
    together, count = settings.sampler.together, settings.sampler.count(settings.trajectories)
    return [
        number
        for first in range(group, count // together, settings.shares)
        for number in range(first * together, (first + 1) * together)
    ]


def threshold_of(
    settings: Explore, facts: Sequence[Facts], model: Model, measure: Measure, test: StructureSet
) -> float:
    """Return from where on a frame is too uncertain, in the measure's unit. Raises QuarryError if none can be found."""
    if settings.threshold not in NAMED_THRESHOLDS:
        return settings.given_threshold()
    earlier = [float(one.exploration["threshold"]) for one in facts if "threshold" in one.exploration]
    if earlier and settings.threshold == "first":
        return earlier[0]
    if not len(test):
        raise QuarryError(
            "pool.explore.threshold: no label of the test set has succeeded, from which it could be found; give a number"
        )
    prediction = model.predict(test, measure.wants)
    found = outlier_threshold(measure.of(model, test, prediction))
    if not found > 0:
        raise QuarryError(
            f"pool.explore.threshold: the {measure.words} is 0 on the test set, so that everything would be uncertain; give a "
            "number"
        )
    return max(found, settings.least_threshold(_mean_size(test)))


def energy_ceilings_eV(
    settings: Explore, labelled: LabelledSet, structures: StructureSet
) -> NDArray[np.float64] | None:
    """Return the highest energy that a trajectory from each structure may reach, eV, shape (n,); None: there is no ceiling.

    It is ``settings.max_energy_eV_atom`` for each atom above the lowest label of the same atoms in the same state, and infinity
    where no such label is there.
    """
    if settings.max_energy_eV_atom is None or "energy" not in labelled.properties:
        return None
    lowest: dict[bytes, float] = {}
    for structure, energy in zip(labelled.structures, labelled.properties["energy"], strict=True):
        if np.isfinite(energy):
            key = kind_of(structure)
            lowest[key] = min(lowest.get(key, np.inf), float(energy))
    found = [lowest.get(kind_of(one), np.inf) + settings.max_energy_eV_atom * len(one) for one in structures]
    return np.array(found)


def measure_of(settings: Explore, training: StructureSet, learnt: Sequence[str]) -> Measure:
    """Return what is called uncertainty. learnt: the properties that the model learns."""
    if settings.uncertainty in MEASURES:
        return MEASURES[settings.uncertainty]
    return informativeness_of(training, frozenset(learnt) & {"energy", "forces"})


def integrator_of(settings: Explore) -> Integrator:
    """Return how trajectories move."""
    thermostat = Langevin(settings.time_step_fs, settings.friction_per_ps)
    if settings.ensemble == "nve":
        return VelocityVerlet(settings.time_step_fs)
    if settings.ensemble == "langevin":
        return thermostat
    return Barostat(thermostat, settings.pressure_GPa, settings.compressibility_per_GPa, settings.pressure_time_ps)


def bias_of(settings: Explore, training: StructureSet) -> Bias | None:
    """Return what draws trajectories to where the model is unsure; None: nothing. training: all training structures."""
    bias = settings.bias
    if bias is None or not bias.acts:
        return None
    of_cells = bias.strength if bias.stress_strength is None else bias.stress_strength
    return Bias(
        MEASURES.get(bias.uncertainty) or informativeness_of(training, frozenset({"energy"})),
        bias.strength,
        of_cells if settings.ensemble == "npt" else 0.0,
        frozenset(chemical_symbols.index(symbol) for symbol in bias.skip_elements),
        math.exp(-settings.time_step_fs / bias.average_fs),
    )


def check_bias(settings: Explore, structures: StructureSet) -> None:
    """Raise QuarryError if the bias leaves out an element that no structure has, or leaves nothing in one of them."""
    skipped = settings.bias.skip_elements if settings.bias is not None else []
    strange = [symbol for symbol in skipped if symbol not in {chemical_symbols[n] for n in structures.numbers}]
    if strange:
        raise QuarryError(
            f"pool.explore.bias.skip_elements: no structure of the pool has {', '.join(strange)}; remove it, or mend its spelling"
        )
    left = ~np.isin(structures.numbers, [chemical_symbols.index(symbol) for symbol in skipped])
    none = np.flatnonzero(np.add.reduceat(left, structures.offsets[:-1]) == 0)
    if skipped and len(none):
        raise QuarryError(
            f"pool.explore.bias.skip_elements: {', '.join(skipped)} is all that structure {structures.ids[none[0]]} has, so that "
            "nothing is left to act on; remove one"
        )


def check_cells(settings: Explore, structures: StructureSet) -> None:
    """Raise QuarryError if trajectories at constant pressure would begin from structures that are not periodic."""
    if settings.ensemble == "npt" and not structures.pbc.all():
        raise QuarryError(
            "pool.explore.ensemble: npt changes the volume of cells, and some structures of the pool are not periodic in three "
            "directions; set langevin"
        )


def check_sampler(configuration: Configuration, base: Path, structures: StructureSet) -> None:
    """Raise QuarryError if a file or a user's class that the sampler needs cannot be used.

    structures: of the pool; the model will know no others.
    """
    pool = configuration.pool
    if not isinstance(pool, DynamicsPool) or pool.explore.sampler is None:
        return
    sampler = make_sampler(pool.explore.sampler, Origin(base))
    if hasattr(sampler, "check_start"):
        for one in {tuple(sorted(one.numbers.tolist())): one for one in structures}.values():
            sampler.check_start(one.to_atoms())
    known = set(zip(structures.charges.tolist(), structures.multiplicities.tolist(), strict=True))
    for name, one in zip(pool.explore.sampler.input_files(), getattr(sampler, "structures", ()), strict=False):
        strange = sorted({chemical_symbols[z] for z in one.numbers} - {chemical_symbols[z] for z in structures.numbers})
        if strange:
            raise QuarryError(
                f"pool.explore.sampler: {name} has {', '.join(strange)}, which no structure of the pool has, so that the model "
                "will not know it; add such structures, or give another file"
            )
        if isinstance(configuration.descriptor, InverseDistances) and not np.array_equal(
            one.numbers, structures[0].numbers
        ):
            raise QuarryError(
                f"pool.explore.sampler: {name} has other atoms than the pool, or in another order, and descriptor.kind: "
                "inverse_distances is for one molecule; order them as in the pool"
            )
        if (one.charge, one.multiplicity) not in known:
            raise QuarryError(
                f"pool.explore.sampler: {name} has charge {one.charge} and multiplicity {one.multiplicity}, which no structure "
                "of the pool has; correct the file"
            )


def _mean_size(structures: StructureSet) -> float:
    """Return the number of atoms of a structure, on average."""
    return len(structures.numbers) / max(len(structures), 1)


def _modes(pool: DynamicsPool, computed: str, base: Path) -> NormalModes | None:
    origin = pool.initial_pool
    if not isinstance(origin, WignerPool):
        return None
    return NormalModes.read(computed or base / str(origin.modes_file))


def _starts(
    pool: DynamicsPool, modes: NormalModes | None, training: StructureSet, rngs: Sequence[np.random.Generator]
) -> Walkers:
    temperature = pool.explore.temperature_K[0]
    if pool.starts == "wigner":
        assert modes is not None and isinstance(pool.initial_pool, WignerPool)
        drawn = [sample_wigner_motion(modes, temperature, rng, pool.initial_pool.low_modes) for rng in rngs]
        walkers = Walkers.at_rest(StructureSet.from_structures(structure for structure, _ in drawn))
        return Walkers(walkers.structures, np.concatenate([velocity for _, velocity in drawn]), walkers.masses)
    rows = np.array([int(rng.integers(len(training))) for rng in rngs])
    start = training.subset(rows)
    check_cells(pool.explore, start)
    return heated(Walkers.at_rest(start), temperature, rngs)


def _drawn(
    models: ArmModels, pool: DynamicsPool, modes: NormalModes | None, iteration: int, count: int, why: Decision
) -> Trajectories:
    """Return geometries like those of iteration 0, which no arm has had."""
    assert modes is not None and isinstance(pool.initial_pool, WignerPool)
    origin = pool.initial_pool
    # The same ones for every arm, which all begin with the same labels.
    rng = generator(models.configuration.seed, iteration, "growth")
    drawn = sample_wigner(modes, origin.temperature_K, count, rng, origin.low_modes)
    none = np.zeros(count)
    whole = {"phase": "initial", **why.account()}
    return Trajectories(drawn, (NEW,) * count, ("",) * count, none.astype(np.int64), none, np.zeros((0, 3)), whole)
