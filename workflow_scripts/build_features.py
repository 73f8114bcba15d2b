"""Compute the descriptor of every candidate."""

from quarry.campaign.job import configuration_of, job
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("features").threads) as log:
    from pathlib import Path

    from quarry.stages.pool import build_features

    line = build_features(
        snakemake.input.structures,
        snakemake.input.reference,
        configuration.descriptor,
        snakemake.output[0],
        Path(snakemake.params.base),
    )
    if line:
        log(line)
        tell(line)
