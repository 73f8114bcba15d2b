rule label_structure:
    """Label one structure. Its input is a leaf file: a job on a compute node sees no other job."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: labelling {wildcards.job}"
    input:
        PATHS.leaf(),
    output:
        PATHS.label(),
    params:
        manifest=PATHS.manifest,
    log:
        PATHS.iteration("logs/labels/{job}.log"),
    retries: CAMPAIGN.retries
    threads: CAMPAIGN.configuration.resources.label.threads
    resources:
        mem_mb=CAMPAIGN.configuration.resources.label.memory_MB,
        runtime=CAMPAIGN.configuration.resources.label.walltime_min,
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/label_structure.py"


rule merge_labels:
    """Add the batch's labels to the data set; refuse if they are not exactly the batch's."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: merging labels"
    input:
        batch=PATHS.batch(),
        labels=batch_labels,
        structures=PATHS.structures,
        dataset=from_previous("dataset.h5"),
        failures=from_previous("failures.csv"),
    output:
        dataset=PATHS.iteration("dataset.h5"),
        failures=PATHS.iteration("failures.csv"),
    params:
        manifest=PATHS.manifest,
    log:
        PATHS.iteration("logs/merge_labels.log"),
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/merge_labels.py"
