"""Compute the descriptor of every candidate."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.model.threads):
    from quarry.stages.pool import build_features

    build_features(snakemake.input.structures, snakemake.input.reference, configuration.descriptor, snakemake.output[0])
