"""The checks before any job, as a program: configuration as JSON on stdin, one JSON line on stdout."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from quarry.campaign.rejected_labels import check_ids, read_rejected
from quarry.config.campaign import Configuration, inputs_of
from quarry.config.installed import check_extras
from quarry.config.pool import DynamicsPool, FilePool, SamplerPool, TablePool, WignerPool
from quarry.errors import QuarryError
from quarry.files import sha256_of
from quarry.labeling.engines.base import KnowsLabels
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.known import KnownLabelSource
from quarry.labeling.store import method_id_of
from quarry.processes import only_this_process
from quarry.sampling.samplers import make_sampler
from quarry.stages.exploring import check_bias, check_cells, check_sampler
from quarry.stages.filtering import PoolFilter
from quarry.stages.geometry_checks import check_molecule, check_not_nm
from quarry.stages.known_labels import check_known_labels
from quarry.stages.network_checks import check_networks
from quarry.stages.pool import check_size, filter_given_pool, read_reference, read_start
from quarry.stages.pool_checks import check_descriptor, check_structures, resolution_note
from quarry.stages.potential_checks import check_potentials
from quarry.structures import StructureSet


def check(configuration: Configuration, base: Path, jobs_have_own_environment: bool = False) -> dict[str, Any]:
    """Check inputs, sizes, chemistry and engine.

    Return method, method_id, digests of the input files, notes, and the GPUs that user-defined models need, by arm.
    base: folder of the campaign file. jobs_have_own_environment: jobs run in environments that may have libraries which this
    process lacks.
    Raises QuarryError with one line for the first thing that is wrong.
    """
    pool = configuration.initial_pool
    if not jobs_have_own_environment:
        check_extras(configuration)
    if isinstance(configuration.pool, SamplerPool):
        make_sampler(configuration.pool, base)
    if not isinstance(pool, WignerPool):
        # Near-duplicates are left to build_pool: they take minutes in a large pool.
        pool_filter = PoolFilter(configuration.pool_filters, read_reference(configuration, base))
        filter_given_pool(configuration, base, pool_filter)
        check_not_nm(pool_filter)
        check_size(configuration, pool_filter)
        structures, sources = pool_filter.kept, pool_filter.sources
    else:
        structures, sources = StructureSet.from_structures([read_start(pool, base)]), []
        check_molecule(pool, structures[0])
    if isinstance(configuration.pool, DynamicsPool):
        check_cells(configuration.pool.explore, structures)
        check_bias(configuration.pool.explore, structures)
        check_sampler(configuration, base, structures)
    engine = make_engine(configuration.labeling, base, configuration.resources.label)
    check_structures(configuration, base, engine, structures, sources)
    known = KnownLabelSource.of(configuration.labeling, base)
    if known is not None:
        known.check()
    if configuration.labeling.leave_out and isinstance(configuration.pool, FilePool | TablePool):
        check_ids(read_rejected(base / configuration.labeling.leave_out), structures.ids.tolist())
    notes = check_known_labels(configuration, engine, structures) if isinstance(engine, KnowsLabels) else []
    check_descriptor(configuration, structures, jobs_have_own_environment, base)
    check_networks(configuration, structures, base)
    check_potentials(configuration, structures)
    notes += resolution_note(configuration, structures, base) if not isinstance(pool, TablePool) else []
    if isinstance(pool, WignerPool) and pool.modes_file is None:
        from quarry.labeling.engines.pyscf_checks import check_wigner
        from quarry.stages.pool import geometry_method

        check_wigner(geometry_method(configuration), structures[0])
    if configuration.spectrum is not None and configuration.spectrum.experiment is not None:
        from quarry.spectra.files import read_experiment

        read_experiment(base / configuration.spectrum.experiment)
    gpus: dict[str, int] = {}
    arms = [configuration.arm(name) for name in configuration.arm_names]
    if any(arm.model.is_user_defined for arm in arms):
        from quarry.stages.arm_models import check_own_models

        gpus = check_own_models(configuration, base)
    if any(arm.query.is_user_defined or arm.model.is_user_defined for arm in arms):
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
        "notes": notes,
        "gpus": gpus,
    }


def main() -> None:
    """Read the request, print the answer."""
    request = json.load(sys.stdin)
    configuration = Configuration.model_validate(request["configuration"])
    answer: dict[str, Any]
    # Chemistry libraries and code of the user's print, also past Python and at exit: the answer has a line of its own.
    with os.fdopen(os.dup(1), "w") as line:
        os.dup2(2, 1)
        try:
            with only_this_process():
                checked = check(configuration, Path(request["base"]), request["jobs_have_own_environment"])
            answer = {"result": checked}
        except QuarryError as error:
            answer = {"error": " ".join(str(error).split())}
        line.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
