"""Train the arm's model on all training labels so far."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.model.threads) as log:
    from quarry.stages.learning import train_model

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    log(
        train_model(
            configuration, arm, iteration, snakemake.input.dataset, snakemake.input.features, snakemake.output[0]
        )
    )
