"""Draw models of one variable with the points that were added."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.stages.snapshots import draw_function

    paths = snakemake.input
    draw_function(
        configuration, list(paths.models), list(paths.datasets), paths.structures, paths.features, snakemake.output[0]
    )
