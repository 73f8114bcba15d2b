"""Add the batch's labels to the data set."""

from quarry.campaign.job import configuration_of, job, manifest_of
from quarry.terminal import tell

with job(snakemake) as log:
    from quarry.campaign.paths import CampaignPaths
    from quarry.campaign.recovery import pack_iterations
    from quarry.config.targets import needed
    from quarry.labeling.audit.findings import read_audit, sentences
    from quarry.labeling.ledger import LabelLedger
    from quarry.labeling.wanted import Wanted
    from quarry.stages.auditing import audit_settings
    from quarry.stages.merging import merge_labels

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    configuration = configuration_of(snakemake)
    labeling = configuration.labeling
    line = merge_labels(
        batch=snakemake.input.batch,
        labels=snakemake.input.labels,
        structures=snakemake.input.structures,
        previous_dataset=snakemake.input.dataset or None,
        previous_failures=snakemake.input.failures or None,
        previous_outliers=snakemake.input.outliers or None,
        iteration=iteration,
        method_id=manifest_of(snakemake)["method_id"],
        max_failed_fraction=labeling.max_failed_fraction,
        outlier_z=labeling.outlier_z,
        wanted=Wanted(needed(configuration), configuration.n_states),
        ledger=LabelLedger(snakemake.params.failed),
        dataset=snakemake.output.dataset,
        failures=snakemake.output.failures,
        outliers=snakemake.output.outliers,
        audit=snakemake.output.audit,
        audit_settings=audit_settings(configuration, arm, iteration, snakemake.params.left_out),
        previous_audit=snakemake.input.audit or None,
    )
    log(line)
    if "see " in line:
        tell(f"{arm} iteration {iteration}: {line}")
    for words in sentences(read_audit(snakemake.output.audit)):
        log(words)
    # Every job of the iteration before is finished, and Snakemake looks no more at the files of finished jobs.
    pack_iterations(CampaignPaths(configuration.name), [(arm, iteration - 1)] if iteration else [], tell)
