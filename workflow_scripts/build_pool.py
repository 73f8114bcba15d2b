"""Collect the candidates that pass the filters."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("features").threads) as log:
    from quarry.stages.pool import build_pool

    lines = build_pool(
        configuration, Path(snakemake.params.base), snakemake.input.modes or None, **dict(snakemake.output.items())
    )
    for line in lines.splitlines():
        log(line)
        tell(line)
