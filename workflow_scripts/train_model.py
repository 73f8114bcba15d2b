"""Train the arm's model on all training labels so far, or join the members of its committee."""

from quarry.campaign.job import configuration_of, job
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("train").threads) as log:
    from quarry.stages.arm_models import models_of
    from quarry.stages.training import train_model

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    line, *warnings = train_model(
        models_of(snakemake, configuration),
        dataset=snakemake.input.dataset,
        output=snakemake.output[0],
        members=snakemake.input.members,
        start=snakemake.input.start or None,
    )
    log(line)
    for warning in warnings:
        log(warning)
        tell(f"{arm} iteration {iteration}: {warning}")
