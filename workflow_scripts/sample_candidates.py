"""Make the candidates of an iteration, by the sampler or of what trajectories found."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("explore").threads) as log:
    from quarry.stages.arm_models import ArmModels
    from quarry.stages.sampling import LastIteration, sample_candidates

    arm, iteration, last = snakemake.wildcards.arm, int(snakemake.wildcards.iteration), snakemake.input
    # The model's own file says how its descriptor is computed.
    line = sample_candidates(
        ArmModels(configuration, arm, pool="", base=Path(snakemake.params.base)),
        iteration,
        LastIteration(last.model, last.dataset, last.reference, last.trajectories),
        snakemake.output[0],
    )
    log(line)
    tell(f"{arm} iteration {iteration}: {line}")
