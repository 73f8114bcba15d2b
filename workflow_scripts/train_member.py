"""Train one member of the arm's committee."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("train").threads, part=snakemake.wildcards.member) as log:
    from quarry.stages.arm_models import models_of
    from quarry.stages.training import train_member

    files = snakemake.input
    models, member = models_of(snakemake, configuration), int(snakemake.wildcards.member)
    log(train_member(models, member, files.dataset, snakemake.output[0], start=files.start or None, log=log))
