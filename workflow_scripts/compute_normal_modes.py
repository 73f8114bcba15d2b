"""Optimise the molecule of a wigner pool and compute its normal modes."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake) as log:
    from quarry.stages.pool import compute_modes

    compute_modes(configuration, Path(snakemake.params.base), snakemake.output[0], snakemake.threads, log)
