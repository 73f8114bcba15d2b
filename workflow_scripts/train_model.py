"""Train the arm's model on all training labels so far, or join the members of its committee."""

from quarry.campaign.job import configuration_of, job
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("train").threads) as log:
    from quarry.stages.arm_models import models_of
    from quarry.stages.training import train_model

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)

    def say(line: str) -> None:
        """Write a line to the log, and to the terminal."""
        log(line)
        tell(f"{arm} iteration {iteration}: {line}")

    line, *warnings = train_model(
        models_of(snakemake, configuration),
        dataset=snakemake.input.dataset,
        output=snakemake.output[0],
        members=snakemake.input.members,
        start=snakemake.input.start or None,
        log=say,
    )
    log(line)
    for warning in warnings:
        say(warning)
