"""Let the arm's strategy choose the next structures."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads):
    from quarry.stages.proposal import propose_batch

    propose_batch(
        configuration,
        arm=snakemake.wildcards.arm,
        iteration=int(snakemake.wildcards.iteration),
        base=Path(snakemake.params.base),
        features=snakemake.input.features,
        dataset=snakemake.input.dataset,
        failures=snakemake.input.failures,
        facts=snakemake.input.facts,
        scores=snakemake.input.scores or None,
        structures=snakemake.input.structures,
        output=snakemake.output[0],
    )
