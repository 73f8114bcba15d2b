"""Add the batch's labels to the data set."""

from quarry.campaign.job import configuration_of, job, manifest_of, paths_of
from quarry.terminal import tell

with job(snakemake) as log:
    from quarry.campaign.recovery import pack_iterations
    from quarry.labeling.audit.findings import read_audit, sentences
    from quarry.labeling.ledger import LabelLedger
    from quarry.labeling.wanted import Wanted
    from quarry.stages.auditing import audit_settings
    from quarry.stages.merging import Merged, MergeRules, merge_labels

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    configuration = configuration_of(snakemake)
    labeling, given, made = configuration.labeling, snakemake.input, snakemake.output
    line = merge_labels(
        batch=given.batch,
        structures=given.structures,
        labels=given.labels,
        iteration=iteration,
        previous=Merged(given.dataset, given.failures, given.outliers, given.audit) if iteration else None,
        output=Merged(made.dataset, made.failures, made.outliers, made.audit),
        rules=MergeRules(
            method_id=manifest_of(snakemake)["method_id"],
            wanted=Wanted.of(configuration.goal),
            max_failed_fraction=labeling.max_failed_fraction,
            outlier_z=labeling.outlier_z,
            audit=audit_settings(configuration, arm, iteration, snakemake.params.rejected),
        ),
        ledger=LabelLedger(snakemake.params.failed),
    )
    log(line)
    if "see " in line:
        tell(f"{arm} iteration {iteration}: {line}")
    for words in sentences(read_audit(snakemake.output.audit)):
        log(words)
    # Every job of the iteration before is finished, and Snakemake looks no more at the files of finished jobs.
    pack_iterations(paths_of(snakemake), [(arm, iteration - 1)] if iteration else [], tell)
