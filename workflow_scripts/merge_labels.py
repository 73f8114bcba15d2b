"""Add the batch's labels to the data set."""

from quarry.campaign.job import configuration_of, job, manifest_of

with job(snakemake) as log:
    from quarry.labeling.failed import FailedLabels
    from quarry.stages.merging import merge_labels

    log(
        merge_labels(
            batch=snakemake.input.batch,
            labels=snakemake.input.labels,
            structures=snakemake.input.structures,
            previous_dataset=snakemake.input.dataset or None,
            previous_failures=snakemake.input.failures or None,
            iteration=int(snakemake.wildcards.iteration),
            method_id=manifest_of(snakemake)["method_id"],
            max_failed_fraction=configuration_of(snakemake).labeling.max_failed_fraction,
            ledger=FailedLabels(snakemake.params.failed),
            dataset=snakemake.output.dataset,
            failures=snakemake.output.failures,
        )
    )
