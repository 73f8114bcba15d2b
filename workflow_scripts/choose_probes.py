"""Choose the structures whose labels show a forecast the cost, and write their jobs."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job, manifest_of, paths_of, store_of

configuration = configuration_of(snakemake)
with job(snakemake) as log:
    from quarry.config.campaign import PROBES_ARM
    from quarry.labeling.known import known_labels
    from quarry.labeling.ledger import LabelLedger
    from quarry.labeling.wanted import Wanted
    from quarry.stages.batch import BatchFiles, select_batch
    from quarry.stages.planning import make_planner
    from quarry.stages.probes import choose_probes

    structures, files = snakemake.input.structures, snakemake.output
    store = store_of(configuration, manifest_of(snakemake))
    given = known_labels(configuration.labeling, Path(snakemake.params.base), Wanted.of(configuration.goal), store)
    line = select_batch(
        choose_probes(configuration, structures, store, lambda structure: given(structure) is not None),
        [structures],
        store,
        LabelLedger(snakemake.params.failed),
        make_planner(configuration, snakemake.params.base, PROBES_ARM, 0, paths_of(snakemake)),
        BatchFiles(files.batch, files.structures, files.planned, files.reused, files.job_inputs),
    )
    log(line)
