"""Train one member of the arm's committee."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("train").threads, part=snakemake.wildcards.member) as log:
    from quarry.stages.arm_models import models_of
    from quarry.stages.training import train_member

    models = models_of(snakemake, configuration)
    log(train_member(models, int(snakemake.wildcards.member), snakemake.input.dataset, snakemake.output[0]))
