"""Add the batch's labels to the data set."""

from quarry.campaign.job import configuration_of, job, manifest_of, tell

with job(snakemake) as log:
    from quarry.labeling.failed import FailedLabels
    from quarry.stages.merging import merge_labels

    configuration = configuration_of(snakemake)
    labeling = configuration.labeling
    line = merge_labels(
        batch=snakemake.input.batch,
        labels=snakemake.input.labels,
        structures=snakemake.input.structures,
        previous_dataset=snakemake.input.dataset or None,
        previous_failures=snakemake.input.failures or None,
        previous_outliers=snakemake.input.outliers or None,
        iteration=int(snakemake.wildcards.iteration),
        method_id=manifest_of(snakemake)["method_id"],
        max_failed_fraction=labeling.max_failed_fraction,
        outlier_z=labeling.outlier_z,
        n_states=configuration.n_states,
        ledger=FailedLabels(snakemake.params.failed),
        dataset=snakemake.output.dataset,
        failures=snakemake.output.failures,
        outliers=snakemake.output.outliers,
    )
    log(line)
    if "stand out" in line:
        tell(f"{snakemake.wildcards.arm} iteration {int(snakemake.wildcards.iteration)}: {line}")
