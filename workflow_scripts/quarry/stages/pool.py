"""Building the pool of candidates and their features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.rejected_labels import check_ids, read_rejected
from quarry.config.campaign import Configuration
from quarry.config.descriptors import Descriptor
from quarry.config.methods import PyscfMethod
from quarry.config.pool import FilePool, SamplerPool, TablePool, WignerPool
from quarry.errors import QuarryError
from quarry.labeling.engines.registry import make_engine
from quarry.randomness import generator
from quarry.sampling.samplers import initial_structures
from quarry.stages.copies import LabelAudit, audit_labels
from quarry.stages.filtering import Candidate, PoolFilter, counts_of, write_rejected
from quarry.structures import Structure, StructureSet
from quarry.structures.files import (
    FileSource,
    JobInputEntry,
    find_in_file,
    read_copies,
    read_job_input,
    read_molecule,
    read_pool,
    read_pool_ids,
    write_job_input,
    write_pool,
)
from quarry.structures.sources import Source, info_of_rows
from quarry.structures.stated import LENIENT, StateKeys
from quarry.structures.structure import rows_of
from quarry.structures.tables import Table, read_feature_rows

if TYPE_CHECKING:
    from quarry.sampling.modes import NormalModes

MOST_SAMPLES = 10
"""Times pool.size that are drawn at most to fill a wigner pool up."""


def state_keys(pool: FilePool | WignerPool) -> StateKeys:
    """Return what the section says about names of charge and multiplicity in the pool's files."""
    settled = {"charge", "multiplicity"} & pool.model_fields_set
    return StateKeys(pool.charge_key, pool.multiplicity_key, frozenset(settled))


def filter_file_pool(pool: FilePool | TablePool, base: Path, pool_filter: PoolFilter) -> None:
    """Pass the structures of a file pool, or the rows of a table pool, through a filter."""
    candidates: list[Candidate] = []
    if isinstance(pool, TablePool):
        for origin, rows in read_feature_rows([(path, base / path) for path in pool.files], pool.features):
            table, everything = Table(base / origin, "pool.files"), np.arange(len(rows))
            names = info_of_rows(table, everything, pool.features, len(rows))
            for number, (row, info) in enumerate(zip(rows, names, strict=True)):
                where = Source(origin, number, info)
                candidates.append(Candidate(origin, number, Structure.of_features(row), where))
    else:
        for part in pool.files:
            origin = part.path if part.index == ":" else f"{part.path}@{part.index}"
            source = FileSource(base / part.path, part.index, part.geometry.names)
            found = find_in_file(source, pool.charge, pool.multiplicity, keys=state_keys(pool))
            for number, (structure, frame, info) in enumerate(found):
                # Where the index counts from the file's end, frames are counted as they were read, and the index is named.
                where = Source(origin, number, info) if frame is None else Source(part.path, frame, info)
                candidates.append(Candidate(origin, number, structure, where))
    pool_filter.add(candidates)


def filter_given_pool(configuration: Configuration, base: Path, pool_filter: PoolFilter) -> None:
    """Pass the structures of a pool that is not drawn from normal modes through a filter: from files, or of a sampler."""
    pool = configuration.pool
    if configuration.initial_pool is None:
        assert isinstance(pool, SamplerPool)
        structures = initial_structures(pool, base, generator(configuration.seed, "pool"))
        pool_filter.add(Candidate("sample", number, structure) for number, structure in enumerate(structures))
    else:
        assert not isinstance(configuration.initial_pool, WignerPool)
        filter_file_pool(configuration.initial_pool, base, pool_filter)


def read_reference(configuration: Configuration, base: Path) -> Structure | None:
    """Return the reference geometry that the configuration names, or None."""
    pool, reference = configuration.initial_pool or configuration.pool, configuration.reference
    if reference is None or isinstance(pool, TablePool):
        return None
    return read_molecule(base / reference, "descriptor.reference", pool.charge, pool.multiplicity, LENIENT)


def check_size(configuration: Configuration, pool_filter: PoolFilter) -> None:
    """Raise QuarryError if too few structures have passed the filter for the test set and the initial batch."""
    wanted = configuration.query.initial + configuration.test.size
    if wanted > len(pool_filter):
        note = f" ({counts_of(pool_filter.rejected)} rejected)" if pool_filter.rejected else ""
        remedy = "make the pool larger or the others smaller"
        if any(item.reason != "identical" for item in pool_filter.rejected):
            remedy += ", or loosen filters"
        if isinstance(configuration.initial_pool, FilePool) and len(pool_filter) == 1:
            remedy += "; geometries of one molecule are drawn with pool: {source: wigner, molecule: FILE, size: 1000}"
        raise QuarryError(
            f"query.initial + test.size = {wanted} is more than the pool's {len(pool_filter)} structures{note}; {remedy}"
        )


def geometry_method(configuration: Configuration) -> PyscfMethod | None:
    """Return the method of the optimisation and Hessian of a wigner pool; None: the engine of the labels, which is not PySCF."""
    pool = configuration.initial_pool
    assert isinstance(pool, WignerPool)
    if pool.geometry_method is not None:
        return pool.geometry_method
    return configuration.labeling.geometry_method


def compute_modes(
    configuration: Configuration, base: Path, output: str, threads: int, log: Callable[[str], None]
) -> None:
    """Optimise the molecule of a wigner pool and compute its normal modes."""
    from quarry.sampling.normal_modes import AnalyticHessian, DisplacedHessian, Hessian, compute_normal_modes

    pool = configuration.initial_pool
    assert isinstance(pool, WignerPool)
    start, method = read_start(pool, base), geometry_method(configuration)
    if method is None:
        engine = make_engine(configuration.labeling, base, configuration.resources.label)
        source: Hessian = DisplacedHessian(engine, threads)
    else:
        source = AnalyticHessian(method, threads)
    compute_normal_modes(start, source, log, pool.optimise).write(output)


def read_start(pool: WignerPool, base: Path) -> Structure:
    """Return the molecule of a wigner pool: its start geometry, or the minimum in its file of normal modes.

    Raises QuarryError if there is none, or if the file's modes are no vibrations about a minimum.
    """
    if pool.modes_file is None:
        assert pool.molecule is not None
        return _as_stated(
            read_molecule(base / pool.molecule, "pool.molecule", pool.charge, pool.multiplicity, state_keys(pool)), pool
        )
    from quarry.sampling.modes import NormalModes

    modes = NormalModes.read(base / pool.modes_file)
    modes.check(f"pool.modes_file: {pool.modes_file}", "compute the modes again, from a minimum")
    return modes.equilibrium


def _as_stated(molecule: Structure, pool: WignerPool) -> Structure:
    """Return the molecule. Raises QuarryError if its file says another charge or multiplicity than the pool."""
    for quantity in state_keys(pool).settled:
        said, given = getattr(molecule, quantity), getattr(pool, quantity)
        if said != given:
            raise QuarryError(
                f"pool.{quantity} = {given}, but {pool.molecule} says {quantity} {said}; correct one of them"
            )
    return molecule


def build_pool(
    configuration: Configuration, base: Path, modes: str | None, structures: str, reference: str, filtered: str
) -> str:
    """Write the candidates, the reference geometry and the account of what was rejected; return lines about them.

    The first line says what is in the pool; a second one that finished labels of copies differ, if they do.
    modes: normal modes that were computed for a wigner pool; None: those of pool.modes_file.
    Raises QuarryError if too few are left for the test set and the initial batch.
    """
    pool, descriptor = configuration.initial_pool, configuration.descriptor

    def features(candidates: StructureSet, reference: Structure) -> NDArray[np.float64]:
        from quarry.descriptors.compute import prepare

        assert descriptor is not None
        prepared = prepare(candidates, descriptor, reference, base)
        found = prepared.compute(candidates)
        found[prepared.beyond_reach(candidates, found)] = np.nan
        return found

    given = read_reference(configuration, base)
    notes = low = ""
    if isinstance(pool, WignerPool):
        from quarry.sampling.modes import NormalModes
        from quarry.sampling.wigner import low_modes_message

        normal_modes = NormalModes.read(modes or base / str(pool.modes_file))
        pool_filter = PoolFilter(configuration.pool_filters, given or normal_modes.equilibrium, features)
        if configuration.has_equilibrium:
            pool_filter.begin_with(normal_modes.equilibrium)
        wanted = pool.size + len(pool_filter)
        drawn = _filter_wigner_pool(pool, wanted, normal_modes, generator(configuration.seed, "pool"), pool_filter)
        if configuration.has_equilibrium:
            notes += ", the first of them the equilibrium geometry"
        if len(pool_filter) < wanted:
            notes += f" ({drawn} samples gave no more, pool.size asks for {pool.size})"
        low = low_modes_message(normal_modes.frequencies_cm, pool.low_modes)
    else:
        pool_filter = PoolFilter(configuration.pool_filters, given, features)
        filter_given_pool(configuration, base, pool_filter)
    check_size(configuration, pool_filter)
    rejected = configuration.labeling.leave_out
    if rejected and not configuration.pool.is_sampled:
        check_ids(read_rejected(base / rejected), pool_filter.kept.ids.tolist())
    assert pool_filter.reference is not None
    duplicates = sum(item.reason == "identical" for item in pool_filter.rejected)
    groups = pool_filter.group_kept()
    write_pool(structures, pool_filter.kept, {"duplicates_dropped": duplicates}, groups, pool_filter.sources)
    write_job_input(reference, [JobInputEntry(pool_filter.reference)])
    audit = _audit(configuration, base, pool_filter)
    kept = [repeat.row for repeat in pool_filter.repeats if groups is not None]
    write_rejected(filtered, [audit.rows.get((row.origin, row.number), row) for row in [*pool_filter.rejected, *kept]])
    others = counts_of([item for item in pool_filter.rejected if item.reason != "identical"])
    named = f"; rejected by filters: {others} ({filtered})" if others else ""
    if kept:
        named += f"; {len(kept)} copies kept ({filtered})"
    line = f"pool: {len(pool_filter)} structures{notes}, {duplicates} duplicates dropped{named}{low and f'; {low}'}"
    return f"{line}\npool: {audit.line} ({filtered})" if audit.line else line


def _audit(configuration: Configuration, base: Path, pool_filter: PoolFilter) -> LabelAudit:
    """Compare finished labels of copies; there is nothing to compare where labels are yet to be computed."""
    if configuration.labeling.computes or not pool_filter.repeats:
        return LabelAudit({}, "")
    engine = make_engine(configuration.labeling, base)
    return audit_labels(engine, pool_filter.repeats, configuration.pool_filters.copies == "keep")


def _filter_wigner_pool(
    pool: WignerPool, wanted: int, modes: NormalModes, rng: np.random.Generator, pool_filter: PoolFilter
) -> int:
    """Draw samples until the filter has let ``wanted`` structures through, or ``MOST_SAMPLES`` times pool.size are drawn;
    return how many were.

    Samples are drawn one after another from the same stream: the larger pool begins with the smaller one.
    """
    from quarry.sampling.wigner import sample_wigner

    drawn = 0
    while len(pool_filter) < wanted and drawn < MOST_SAMPLES * pool.size:
        # Not one at a time where hardly any passes.
        count = min(max(wanted - len(pool_filter), pool.size // 20, 1), MOST_SAMPLES * pool.size - drawn)
        samples = sample_wigner(modes, pool.temperature_K, count, rng, pool.low_modes)
        pool_filter.add(Candidate("sample", number, structure) for number, structure in enumerate(samples, drawn))
        drawn += count
    pool_filter.cut(wanted)
    return drawn


def build_features(structures: str, reference: str, settings: Descriptor, output: str, base: Path | None = None) -> str:
    """Compute the descriptor of every candidate, in bounded memory beside the structures.

    settings: section descriptor. base: folder of the campaign file, for descriptors that read files.

    Return a line about structures of which the descriptor sees nothing but the elements, or nothing.
    """
    from quarry.descriptors.compute import prepare
    from quarry.descriptors.features_file import write_features

    pool = read_pool(structures)
    descriptor = prepare(pool, settings, read_job_input(reference)[0].structure, base)
    unseen = write_features(output, pool, read_copies(structures), descriptor, settings.kind)
    return _unseen_message(unseen, len(pool), settings.kind)


def build_baseline(configuration: Configuration, structures: str, output: str, base: Path | None = None) -> None:
    """Compute what the baselines of all arms say of every candidate. base: folder of the campaign file."""
    from quarry.models.baseline_cache import DERIVATIVES, write_baselines

    derivatives = any(name in configuration.goal.learnt for name in DERIVATIVES)
    write_baselines(output, read_pool(structures), configuration.baselines, base, derivatives)


def _unseen_message(unseen: list[str], count: int, kind: str) -> str:
    if not unseen:
        return ""
    return (
        f"pool: warning: in {len(unseen)} of {count} structures no two atoms are within the reach of descriptor.kind: {kind} "
        f"({', '.join(unseen[:3])}{' ...' if len(unseen) > 3 else ''}): the model cannot tell them apart; leave them out "
        "(filters.bonds: connected) or widen the descriptor's cutoff or weighting"
    )


def pool_rows(pool: str, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the rows of structures in ``structures.h5``. Raises QuarryError if one is not in it (the pool was made anew)."""
    try:
        return rows_of(read_pool_ids(pool), np.asarray(ids, dtype=np.str_))
    except KeyError as error:
        raise QuarryError(
            f"{pool}: labelled structure {error} is not in the pool; the pool was made from other input; "
            "put that back, or use another name"
        ) from error
