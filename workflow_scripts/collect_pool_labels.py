"""Write the target of every candidate of a replay campaign, to measure a targeted search by."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake) as log:
    from quarry.stages.searching import collect_pool_labels

    log(
        collect_pool_labels(configuration, Path(snakemake.params.base), snakemake.input.structures, snakemake.output[0])
    )
