"""Predict every candidate with the last model."""

from quarry.campaign.job import configuration_of, job

with job(snakemake, configuration_of(snakemake).resources.model.threads):
    from quarry.stages.proposal import score_pool

    paths = snakemake.input
    score_pool(paths.model, paths.structures, paths.features, paths.dataset, paths.failures, snakemake.output[0])
