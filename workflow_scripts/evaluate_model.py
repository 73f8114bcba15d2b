"""Predict the test set (or validation labels) and measure the errors."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.stages.learning import evaluate_model

    evaluate_model(
        configuration,
        arm=snakemake.wildcards.arm,
        model=snakemake.input.model,
        dataset=snakemake.input.dataset,
        features=snakemake.input.features,
        previous=snakemake.input.previous or None,
        predictions=snakemake.output.predictions,
        metrics=snakemake.output.metrics,
        structures=snakemake.input.structures,
        truth=snakemake.input.truth or None,
        audit=snakemake.input.audit,
    )
