"""Compute one label of the product again, or that of a rotated and translated copy."""

from quarry.campaign.job import configuration_of, job

with job(snakemake, receipt=False, again=True) as log:
    from quarry.stages.verification import recompute_label

    configuration = configuration_of(snakemake)
    log(
        recompute_label(
            configuration,
            check=snakemake.wildcards.check,
            number=int(snakemake.wildcards.number),
            dataset=snakemake.input.dataset,
            output=snakemake.output[0],
            base=snakemake.params.base,
            threads=configuration.resources.label.threads_of(snakemake.threads),
            memory_MB=snakemake.resources.mem_mb,
            walltime_min=snakemake.resources.runtime,
        )
    )
