"""Predict the test set (or validation labels) and measure the errors."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.dynamics.files import read_exploration
    from quarry.stages.arm_models import models_of
    from quarry.stages.assessment import cross_validates
    from quarry.stages.evaluation import EvaluationFiles, evaluate_model

    given, made = snakemake.input, snakemake.output
    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    evaluate_model(
        models_of(snakemake, configuration),
        EvaluationFiles(
            model=given.model,
            dataset=given.dataset,
            predictions=made.predictions,
            metrics=made.metrics,
            previous=given.previous or None,
            truth=given.truth or None,
            audit=given.audit,
            cross_validates=cross_validates(
                configuration, arm, iteration, read_exploration(given.structures), made.metrics
            ),
        ),
    )
