"""Let the last model say what the strategy needs of every candidate."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.stages.arm_models import models_of
    from quarry.stages.proposal import score_pool

    score_pool(
        models_of(snakemake, configuration),
        int(snakemake.wildcards.iteration),
        model=snakemake.input.model,
        dataset=snakemake.input.dataset,
        failures=snakemake.input.failures,
        output=snakemake.output[0],
    )
