"""Write the batch table and one job input per label job; put labels that the store has in place."""

from pathlib import Path

from quarry.campaign.batch_table import read_batch
from quarry.campaign.job import configuration_of, job, manifest_of, paths_of, store_of
from quarry.campaign.retries import read_requests
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake) as log:
    from quarry.labeling.known import known_labels
    from quarry.labeling.ledger import LabelLedger
    from quarry.labeling.wanted import Wanted
    from quarry.stages.batch import BatchFiles, batch_rows, select_batch
    from quarry.stages.candidates import earlier_batches
    from quarry.stages.planning import make_planner
    from quarry.stages.retrying import add_retries, hand_down_attempts

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    candidates, paths = snakemake.input.candidates, paths_of(snakemake)
    rows = batch_rows(configuration, arm, iteration, candidates, snakemake.input.proposal)
    rows = add_retries(rows, arm, iteration, snakemake.input.failures or None, read_requests(snakemake.params.retries))
    store = store_of(configuration, manifest_of(snakemake))
    files = snakemake.output
    failed = LabelLedger(snakemake.params.failed)
    line = select_batch(
        rows,
        [candidates, *earlier_batches(paths, arm, iteration)],
        store,
        failed,
        make_planner(configuration, snakemake.params.base, arm, iteration, paths),
        BatchFiles(files.batch, files.structures, files.planned, files.reused, files.job_inputs),
        given=known_labels(configuration.labeling, Path(snakemake.params.base), Wanted.of(configuration.goal), store),
    )
    hand_down_attempts(read_batch(files.batch), failed, Path(files.batch).with_name("attempts"))
    log(line)
    tell(f"{arm} iteration {iteration}: batch of {line}")
