"""Train one member of the arm's committee."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("train").threads, part=snakemake.wildcards.member) as log:
    from quarry.stages.learning import train_member

    log(
        train_member(
            configuration,
            arm=snakemake.wildcards.arm,
            member=int(snakemake.wildcards.member),
            dataset=snakemake.input.dataset,
            features=snakemake.input.features,
            output=snakemake.output[0],
        )
    )
