"""Compute one label of the product again, or that of a rotated and translated copy."""

from quarry.campaign.job import configuration_of, job

with job(snakemake, receipt=False, again=True) as log:
    from quarry.labeling.limits import Allocation
    from quarry.stages.verification import recompute_label

    configuration = configuration_of(snakemake)
    threads = configuration.resources.label.threads_of(snakemake.threads)
    log(
        recompute_label(
            configuration,
            base=snakemake.params.base,
            check=snakemake.wildcards.check,
            number=int(snakemake.wildcards.number),
            dataset=snakemake.input.dataset,
            output=snakemake.output[0],
            allocation=Allocation(threads, snakemake.resources.mem_mb, snakemake.resources.runtime),
        )
    )
