"""Let the last model say what the strategy needs of every candidate."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.stages.proposal import score_pool

    score_pool(
        configuration,
        arm=snakemake.wildcards.arm,
        iteration=int(snakemake.wildcards.iteration),
        base=Path(snakemake.params.base),
        model=snakemake.input.model,
        structures=snakemake.input.structures,
        features=snakemake.input.features,
        dataset=snakemake.input.dataset,
        failures=snakemake.input.failures,
        output=snakemake.output[0],
    )
