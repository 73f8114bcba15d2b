"""Collect all candidates, without duplicates."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job, tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.model.threads):
    from quarry.stages.pool import build_pool

    modes = snakemake.input.modes or None
    tell(
        build_pool(
            configuration, Path(snakemake.params.base), modes, snakemake.output.structures, snakemake.output.reference
        )
    )
