"""Draw models of one variable with the points that were added."""

from quarry.campaign.job import configuration_of, job
from quarry.config.campaign import MAIN_ARM

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.stages.arm_models import models_of
    from quarry.stages.snapshots import draw_function

    paths = snakemake.input
    models = models_of(snakemake, configuration, MAIN_ARM)
    draw_function(models, list(paths.models), list(paths.datasets), snakemake.output[0])
