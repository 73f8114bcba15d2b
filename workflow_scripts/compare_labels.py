"""Compare labels that were computed again with the recorded ones."""

from quarry.campaign.job import configuration_of, job, manifest_of, store_of
from quarry.terminal import tell

with job(snakemake, receipt=False) as log:
    from quarry.stages.verification import compare_labels, forget_disagreeing, require_agreement, summary, write_table

    configuration, table = configuration_of(snakemake), snakemake.params.table
    store = store_of(configuration, manifest_of(snakemake))
    rows = compare_labels(
        configuration.verification, snakemake.rule, snakemake.input.recomputed, snakemake.input.dataset, store
    )
    write_table(table, rows)
    forget_disagreeing(snakemake.input.recomputed, rows)
    for line in summary(rows):
        log(line)
        tell(f"{snakemake.rule}: {line}")
    require_agreement(rows, table)
