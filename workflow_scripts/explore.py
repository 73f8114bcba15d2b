"""Run a job's share of the trajectories of an iteration."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
group = snakemake.wildcards.group
with job(snakemake, configuration.resources.of("explore").threads, part=group) as log:
    from quarry.stages.arm_models import ArmModels
    from quarry.stages.exploring import Explored, explore_candidates

    arm, iteration, last = snakemake.wildcards.arm, int(snakemake.wildcards.iteration), snakemake.input
    log(
        explore_candidates(
            ArmModels(configuration, arm, pool="", base=Path(snakemake.params.base)),
            iteration,
            int(group),
            Explored(last.model, last.dataset, list(last.facts), last.modes or ""),
            snakemake.output[0],
        )
    )
