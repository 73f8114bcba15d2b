"""Write the batch table and one leaf file per label job; put labels that the store has in place."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job, manifest_of, store_of, tell

configuration = configuration_of(snakemake)
with job(snakemake) as log:
    from quarry.stages.batch import draw_initial, read_proposal, select_batch

    first = int(snakemake.wildcards.iteration) == 0
    rows = draw_initial(configuration, snakemake.input.structures) if first else read_proposal(snakemake.input.proposal)
    store = store_of(configuration, manifest_of(snakemake))
    files = snakemake.output
    line = select_batch(
        rows,
        snakemake.input.structures,
        store,
        table=files.batch,
        folder=files.leaves,
        labels=str(Path(files.batch).with_name("labels")),
        reused=files.reused,
    )
    log(line)
    tell(f"{snakemake.wildcards.arm} iteration {int(snakemake.wildcards.iteration)}: batch of {line}")
