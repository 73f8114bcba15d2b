"""Compute what the baselines of all arms say of every candidate."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("features").threads):
    from pathlib import Path

    from quarry.stages.pool import build_baseline

    build_baseline(configuration, snakemake.input.structures, snakemake.output[0], Path(snakemake.params.base))
