"""Whether pool, engine and descriptor fit each other: cells, electrons, isolated atoms, one molecule or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from quarry.config.campaign import Configuration
from quarry.config.descriptors import InverseDistances, Pretrained
from quarry.config.engines.registry import engines_that
from quarry.config.installed import what_is_lacking
from quarry.config.pool import FilePool, WignerPool
from quarry.descriptors.compute import prepare, refuse_cells
from quarry.errors import QuarryError
from quarry.labeling.engines.base import Engine
from quarry.labeling.engines.states import ChecksMolecules, ChecksStates, one_of_each_kind
from quarry.stages.geometry_checks import check_not_bohr, check_one_place
from quarry.stages.pool import read_reference
from quarry.structures import Structure, StructureSet
from quarry.structures.reading import lattices_without_pbc
from quarry.structures.sources import Source
from quarry.structures.structure import POSITION_STEP_A
from quarry.structures.tables import ARRAY_TABLES

SAMPLE = 10
"""Structures of the pool by which the resolution of the descriptor is measured."""


def check_structures(
    configuration: Configuration,
    base: Path,
    engine: Engine,
    structures: StructureSet,
    sources: Sequence[Source | None] = (),
    known: Structure | None = None,
) -> None:
    """Raise QuarryError for structures that engine or descriptor cannot take, or that cannot be meant as they stand.

    sources: where the structures come from. base: folder of the campaign file. known: as in ``check_same_molecule``.
    """
    if structures.features is None:
        check_one_place(configuration, engine, structures, sources)
        check_not_bohr(configuration, structures)
        check_cells(configuration, engine, structures, base)
        check_electrons(configuration, structures)
        check_same_molecule(configuration, structures, base, known)
    engine.check(sorted({int(z) for z in structures.numbers}))
    if isinstance(engine, ChecksStates):
        states = zip(structures.charges.tolist(), structures.multiplicities.tolist(), strict=True)
        engine.check_states(sorted(set(states)))
    if isinstance(engine, ChecksMolecules):
        engine.check_molecules(one_of_each_kind(structures))


def check_cells(configuration: Configuration, engine: Engine, structures: StructureSet, base: Path) -> None:
    """Raise QuarryError if structures are periodic and pool, engine or descriptor are for molecules."""
    periodic = structures.pbc.any(axis=1)
    if not periodic.any():
        return
    count = f"{int(periodic.sum())} of {len(structures)}"
    in_a_box = _if_molecules(configuration, base)
    if isinstance(configuration.initial_pool, WignerPool):
        raise QuarryError(f"pool: normal modes are those of a molecule, but the start geometry is periodic; {in_a_box}")
    if not engine.periodic:
        asked = " or ".join(engines_that(lambda section: section.takes_periodic is None))
        able = " or ".join(engines_that(lambda section: bool(section.takes_periodic)))
        remedy = (
            "set labeling.periodic: true if it takes cells"
            if configuration.labeling.takes_periodic is None
            else f"use labeling.engine: {asked} (with periodic: true), {able}"
        )
        raise QuarryError(
            f"pool: labeling.engine {engine.name} labels molecules only, but the pool holds periodic structures (pbc, {count}); "
            f"{remedy}; {in_a_box}"
        )
    if configuration.descriptor is None:
        return
    try:
        refuse_cells(structures, configuration.descriptor)
    except QuarryError as error:
        raise QuarryError(f"{error}{beside_another_descriptor(configuration)}; {in_a_box}") from None


def _if_molecules(configuration: Configuration, base: Path) -> str:
    """Return how molecules that ASE takes for periodic are corrected: mostly they have a Lattice and no pbc."""
    pool = configuration.initial_pool
    names = (
        [part.path for part in pool.files if not part.path.endswith(ARRAY_TABLES)] if isinstance(pool, FilePool) else []
    )
    found = {name: count for name in dict.fromkeys(names) if (count := lattices_without_pbc(base / name))}
    if not found:
        return 'if they are molecules in a box, write pbc="F F F" in their comment lines'
    where = " and ".join(f"{count} frames of {name}" for name, count in found.items())
    return (
        f'{where} have a Lattice and no pbc, which ASE reads as periodic: if they are molecules in a box, write pbc="F F F" '
        "beside it"
    )


def beside_another_descriptor(configuration: Configuration) -> str:
    """Return what else must change with descriptor.kind where a model takes one kind alone."""
    models = {name: configuration.arm(name).model for name in configuration.arm_names}
    bound = {name: model for name, model in models.items() if model.traits.descriptors}
    if not bound:
        return ""
    model, target = next(iter(bound.values())), configuration.goal
    takes = f"{model.kind}, of arm {', '.join(bound)}, takes {' or '.join(model.traits.descriptors)} alone"
    alone = len(target.learnt) == 1
    return f" and model.kind: gpr ({takes})" + (
        "" if alone else f", and another target than {target.name}, which only {model.kind} learns"
    )


def check_descriptor(
    configuration: Configuration, structures: StructureSet, jobs_have_own_environment: bool, base: Path | None = None
) -> None:
    """Raise QuarryError for what the job that builds the features would raise.

    base: folder of the campaign file. jobs_have_own_environment: the package that a descriptor needs may be there and not here.
    """
    descriptor = configuration.descriptor
    if descriptor is None:
        return
    if jobs_have_own_environment and what_is_lacking(descriptor, "descriptor"):
        return
    ready = prepare(structures, descriptor, structures[0], base)
    if isinstance(descriptor, Pretrained):
        ready.compute(one_of_each_set_of_elements(structures))


def one_of_each_set_of_elements(structures: StructureSet) -> StructureSet:
    """Return the first structures with each set of elements."""
    first: dict[tuple[int, ...], int] = {}
    for row in range(len(structures)):
        atoms = slice(int(structures.offsets[row]), int(structures.offsets[row + 1]))
        first.setdefault(tuple(np.unique(structures.numbers[atoms]).tolist()), row)
    return structures.subset(list(first.values()))


def resolution_note(configuration: Configuration, structures: StructureSet, base: Path | None = None) -> list[str]:
    """Return a note if filters.near_duplicates is below what rounding changes in the descriptor of a rotated copy.

    Positions are rounded to ``POSITION_STEP_A``; a limit below that finds no more than filters.copies does.
    """
    limit, descriptor = configuration.pool_filters.near_duplicates, configuration.descriptor
    if limit is None or descriptor is None or what_is_lacking(descriptor, "descriptor"):
        return []
    chosen = structures.subset(np.linspace(0, len(structures) - 1, min(SAMPLE, len(structures))).astype(np.int64))
    rotations = Rotation.random(len(chosen), rng=np.random.default_rng(0)).as_matrix()
    rotated = [
        Structure.create(
            s.numbers,
            s.positions @ rotation.T,
            s.charge,
            s.multiplicity,
            None if s.cell is None else s.cell @ rotation.T,
            s.pbc,
        )
        for s, rotation in zip(chosen, rotations, strict=True)
    ]
    prepared = prepare(structures, descriptor, structures[0], base)
    changes = prepared.compute(StructureSet.from_structures(rotated)) - prepared.compute(chosen)
    noise = float(np.linalg.norm(changes, axis=1).max())
    if limit >= noise:
        return []
    return [
        f"filters.near_duplicates = {limit:g} is less than what rounding of positions to {POSITION_STEP_A:g} Angstrom changes in "
        f"the {descriptor.kind} of a rotated copy (up to {noise:.2g}), so that it finds few; atoms moved by 0.001 Angstrom are "
        f"about {1000 * noise:.2g} away"
    ]


def check_electrons(configuration: Configuration, structures: StructureSet) -> None:
    """Raise QuarryError where electrons and multiplicity do not fit: both odd or both even, and enough electrons.

    In a periodic structure the number of electrons of one cell says nothing about the multiplicity: bands may be filled in
    part (Al has 13 electrons and no spin), and the program decides. An isolated atom that is labelled here must be in its
    ground state, for it stands for the atom's energy.
    """
    sums = np.add.reduceat(structures.numbers, structures.offsets[:-1])
    electrons = sums - structures.charges
    unpaired = structures.multiplicities - 1
    periodic = structures.pbc.any(axis=1)
    odd = ((electrons - unpaired) % 2 != 0) & ~periodic
    wrong = odd | (unpaired < 0) | (unpaired > electrons) | (electrons < 1)
    atoms = np.flatnonzero((np.diff(structures.offsets) == 1) & ~periodic)
    for number in atoms.tolist() if isinstance(configuration.initial_pool, FilePool) else []:
        _check_atom(
            configuration, structures[number], f"structure {number + 1} of {len(structures)}", bool(wrong[number])
        )
    if wrong.any():
        first = int(np.argmax(wrong))
        raise QuarryError(
            f"pool: {electrons[first]} electrons (charge {structures.charges[first]}) cannot have multiplicity "
            f"{structures.multiplicities[first]} in structure {first + 1} of {len(structures)} ({int(wrong.sum())} such); "
            + _remedy_of_electrons(wrong)
        )


def _remedy_of_electrons(wrong: NDArray[np.bool_]) -> str:
    if wrong.all():
        return "correct pool.charge or pool.multiplicity"
    return "write charge=... and multiplicity=... in the comment lines of these, or correct pool.charge or pool.multiplicity"


def _check_atom(configuration: Configuration, atom: Structure, where: str, wrong: bool) -> None:
    """Raise QuarryError if an isolated atom has a multiplicity that is not its ground state's."""
    from ase.data import chemical_symbols, ground_state_magnetic_moments

    if not configuration.labeling.computes:
        return
    number = int(atom.numbers[0])
    needed = str(int(ground_state_magnetic_moments[number]) + 1) if atom.charge == 0 else ""
    if not (wrong or (needed and int(needed) != atom.multiplicity)):
        return
    symbol = chemical_symbols[number]
    if not needed:
        needed = "an even one" if atom.electrons % 2 else "an odd one"
    raise QuarryError(
        f"pool: {where} is an isolated {symbol} atom of charge {atom.charge}, whose multiplicity is {needed}, not "
        f"{atom.multiplicity}; write multiplicity={needed if needed.isdigit() else '...'} in its comment line, or leave isolated "
        "atoms out (filters.isolated_atoms: leave_out)"
    )


def check_same_molecule(
    configuration: Configuration, structures: StructureSet, base: Path, known: Structure | None = None
) -> None:
    """Raise QuarryError if inverse_distances is asked for what are not geometries of one molecule.

    known: a structure of the molecule; None: the first of the structures is one.
    """
    if not isinstance(configuration.descriptor, InverseDistances):
        return
    first = structures[0].numbers if known is None else known.numbers
    reference = read_reference(configuration, base)
    if reference is not None and not np.array_equal(reference.numbers, first):
        raise QuarryError(
            f"descriptor.reference: {configuration.reference} has other atoms than the pool, or in another order; "
            "give a geometry of the pool's molecule"
        )
    if len(first) < 2:
        raise QuarryError("descriptor.kind: inverse_distances needs at least two atoms")
    for index, structure in enumerate(structures):
        if not np.array_equal(structure.numbers, first):
            raise QuarryError(
                f"descriptor.kind: inverse_distances needs one molecule's geometries, but structure {index + 1} of the pool "
                f"has other atoms than the first; use kind: coulomb_matrix{beside_another_descriptor(configuration)}"
            )
