"""Let the arm's strategy choose the next structures."""

from quarry.campaign.job import configuration_of, job
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads) as log:
    from quarry.stages.arm_models import models_of
    from quarry.stages.proposal import propose_batch

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    for line in propose_batch(
        models_of(snakemake, configuration),
        iteration,
        dataset=snakemake.input.dataset,
        failures=snakemake.input.failures,
        facts=snakemake.input.facts,
        scores=snakemake.input.scores or None,
        output=snakemake.output[0],
    ):
        log(line)
        tell(f"{arm} iteration {iteration}: {line}")
