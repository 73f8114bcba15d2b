"""Write what whoever uses the model must know, beside it."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job, manifest_of

configuration = configuration_of(snakemake)
with job(snakemake):
    from quarry.stages.arm_models import ArmModels
    from quarry.stages.describing import describe_model

    paths, params = snakemake.input, snakemake.params
    describe_model(
        ArmModels(configuration, snakemake.wildcards.arm, "", params.features, Path(params.base)),
        model=paths.model,
        dataset=paths.dataset,
        facts=list(paths.facts)[-1],
        manifest=manifest_of(snakemake),
        output=dict(snakemake.output.items()),
    )
