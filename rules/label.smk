rule label_structure:
    """Label the structures of a job input (one, or labeling.structures_per_job): the job sees no other job."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: labelling {wildcards.job}"
    input:
        PATHS.job_input(),
    output:
        PATHS.label(),
    params:
        base=base_folder,
        manifest=CAMPAIGN.paths.manifest,
        lease=CAMPAIGN.paths.lease,
        failed=CAMPAIGN.paths.failed,
        attempts=CAMPAIGN.paths.attempts(),
    log:
        PATHS.iteration("logs/labels/{job}.log"),
    retries: CAMPAIGN.retries
    threads: CAMPAIGN.label_cores
    resources:
        **CAMPAIGN.label_places,
        mem_mb=CAMPAIGN.label_memory_MB,
        runtime=CAMPAIGN.label_walltime_min,
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/label_structure.py"


rule merge_labels:
    """Add the batch's labels to the data set; refuse if they are not exactly the batch's; audit all of them."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: merging labels"
    input:
        batch=PATHS.batch(),
        labels=batch_labels,
        structures=PATHS.iteration("batch.h5"),
        dataset=from_previous("dataset.h5"),
        failures=from_previous("failures.csv"),
        outliers=from_previous("outliers.csv"),
        audit=from_previous("audit.csv"),
    output:
        **PATHS.outputs("merge_labels"),
    params:
        manifest=CAMPAIGN.paths.manifest,
        rejected=CAMPAIGN.paths.rejected,
        failed=CAMPAIGN.paths.failed,
    log:
        PATHS.iteration("logs/merge_labels.log"),
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/merge_labels.py"
