"""The checks before any job, as a program: configuration as JSON on stdin, one JSON line on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from quarry.config.campaign import Configuration, inputs_of
from quarry.config.pool import TablePool, WignerPool
from quarry.descriptors.compute import prepare
from quarry.errors import QuarryError
from quarry.files import sha256_of
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.engines.replay import ReplayEngine
from quarry.labeling.engines.states import ChecksMolecules, ChecksStates, one_of_each_kind
from quarry.labeling.store import method_id_of
from quarry.stages.filtering import Sieve
from quarry.stages.known_labels import check_known_labels
from quarry.stages.pool import check_size, read_molecule, read_reference, read_start, sieve_file_pool
from quarry.structures import StructureSet


def check(configuration: Configuration, base: Path) -> dict[str, Any]:
    """Check inputs, sizes, chemistry and engine; return method, method_id and digests of the input files.

    Raises QuarryError with one line for the first thing that is wrong.
    """
    pool = configuration.pool
    if not isinstance(pool, WignerPool):
        # Near-duplicates are left to build_pool: they take minutes in a large pool.
        sieve = Sieve(configuration.pool_filters, read_reference(configuration, base))
        sieve_file_pool(pool, base, sieve)
        check_size(configuration, sieve)
        structures = sieve.kept
    else:
        structures = StructureSet.from_structures([read_start(pool, base)])
    if not isinstance(pool, TablePool):
        _check_electrons(structures)
        _check_same_molecule(configuration, structures, base)
    elements = sorted({int(z) for z in structures.numbers})
    engine = make_engine(configuration.labeling, base, configuration.resources.label)
    if structures.pbc.any() and not engine.periodic:
        raise QuarryError(
            f"pool: labeling.engine {engine.name} labels molecules only, but the pool holds periodic structures (pbc)"
        )
    engine.check(elements)
    if isinstance(engine, ReplayEngine):
        check_known_labels(configuration, engine, structures)
    if isinstance(engine, ChecksStates):
        engine.check_states(
            sorted(set(zip(structures.charges.tolist(), structures.multiplicities.tolist(), strict=True)))
        )
    if isinstance(engine, ChecksMolecules):
        engine.check_molecules(one_of_each_kind(structures))
    if configuration.descriptor.kind != "soap":
        # The library of soap may be in the jobs' environment only.
        prepare(structures, configuration.descriptor, structures[0])
    if isinstance(pool, WignerPool) and pool.modes_file is None:
        from quarry.labeling.engines.pyscf_checks import check_wigner
        from quarry.stages.pool import geometry_method

        check_wigner(geometry_method(configuration), structures[0])
    if configuration.spectrum is not None and configuration.spectrum.experiment is not None:
        from quarry.spectra.files import read_experiment

        read_experiment(base / configuration.spectrum.experiment)
    if any(configuration.arm(name).query.is_own for name in configuration.arm_names):
        from quarry.stages.proposal import check_strategy

        check_strategy(configuration, base)
    method = engine.method_identity()
    named = {
        str(path.relative_to(base) if path.is_relative_to(base) else path): path
        for path in inputs_of(configuration, base)
    }
    return {
        "method": method,
        "method_id": method_id_of(method),
        "inputs": {name: sha256_of(path) for name, path in named.items()},
    }


def _check_electrons(structures: StructureSet) -> None:
    """Electrons and multiplicity must be both odd or both even, and there must be enough electrons."""
    sums = np.add.reduceat(structures.numbers, structures.offsets[:-1])
    electrons = sums - structures.charges
    unpaired = structures.multiplicities - 1
    wrong = np.flatnonzero(
        ((electrons - unpaired) % 2 != 0) | (unpaired < 0) | (unpaired > electrons) | (electrons < 1)
    )
    if len(wrong):
        first = int(wrong[0])
        raise QuarryError(
            f"pool: {electrons[first]} electrons (charge {structures.charges[first]}) cannot have multiplicity "
            f"{structures.multiplicities[first]} in structure {first + 1} of {len(structures)} ({len(wrong)} such); "
            "correct pool.charge or pool.multiplicity"
        )


def _check_same_molecule(configuration: Configuration, structures: StructureSet, base: Path) -> None:
    named = configuration.reference
    if configuration.descriptor.kind != "inverse_distances":
        return
    first = structures[0].numbers
    if named:
        reference = read_molecule(base / named, 0, 1, "descriptor.reference")
        if not np.array_equal(reference.numbers, first):
            raise QuarryError(f"descriptor.reference: {named} has other atoms than the pool, or in another order")
    if len(first) < 2:
        raise QuarryError("descriptor.kind: inverse_distances needs at least two atoms")
    for index, structure in enumerate(structures):
        if not np.array_equal(structure.numbers, first):
            raise QuarryError(
                f"descriptor.kind: inverse_distances needs one molecule's geometries, but structure {index + 1} of the pool "
                "has other atoms than the first; use kind: coulomb_matrix"
            )


def main() -> None:
    """Read the request, print the answer."""
    request = json.load(sys.stdin)
    configuration = Configuration.model_validate(request["configuration"])
    answer: dict[str, Any]
    try:
        # Chemistry libraries print at import; stdout is for the answer.
        with contextlib.redirect_stdout(sys.stderr):
            answer = {"result": check(configuration, Path(request["base"]))}
    except QuarryError as error:
        answer = {"error": " ".join(str(error).split())}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
