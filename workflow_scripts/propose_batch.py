"""Let the arm's strategy choose the next structures."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.stages.arm_models import models_of
    from quarry.stages.proposal import propose_batch

    propose_batch(
        models_of(snakemake, configuration),
        int(snakemake.wildcards.iteration),
        dataset=snakemake.input.dataset,
        failures=snakemake.input.failures,
        facts=snakemake.input.facts,
        scores=snakemake.input.scores or None,
        output=snakemake.output[0],
    )
