"""What the campaign will cost. Nothing here depends on the loop: a forecast needs the pool and a few labels."""

from quarry.config.campaign import PROBES_ARM


# Both could make the probes' table; their folder is laid out as an iteration's, so that label_structure labels them.
ruleorder: choose_probes > select_batch


def probe_labels(wildcards):
    """Return the labels that tell the cost, where the campaign has none of its own."""
    if CAMPAIGN.has_facts(CAMPAIGN.arms[0], 0):
        return []
    batch = checkpoints.choose_probes.get().output.batch
    return [PATHS.label(job, PROBES_ARM, 0) for job in CAMPAIGN.jobs(batch)]


def cores_of_run(wildcards):
    """Return the cores that label jobs may use at a time: on a cluster, those of all jobs in the queue."""
    settings, label = workflow.resource_settings, CAMPAIGN.configuration.resources.label
    return settings.cores or settings.nodes * label.threads * label.tasks


checkpoint choose_probes:
    """Choose a few structures of the first batch, spread over its sizes; their labels go into the store."""
    message:
        "choosing structures to measure the cost"
    input:
        structures=PATHS.structures,
    output:
        batch=PATHS.batch(PROBES_ARM, 0),
        planned=PATHS.planned(PROBES_ARM, 0),
        leaves=directory(PATHS.iteration("batch", PROBES_ARM, 0)),
        reused=PATHS.iteration("reused.csv", PROBES_ARM, 0),
    params:
        base=str(CAMPAIGN.base),
        manifest=PATHS.manifest,
        failed=PATHS.failed,
    log:
        PATHS.iteration("logs/choose_probes.log", PROBES_ARM, 0),
    localrule: True
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/choose_probes.py"


rule forecast:
    """Print label jobs, core-hours and time to the end. Without an output, so that it is made anew whenever asked for."""
    message:
        "forecasting the cost of {PATHS.root}"
    input:
        structures=PATHS.structures,
        probes=probe_labels,
    params:
        base=str(CAMPAIGN.base),
        manifest=PATHS.manifest,
        files=PATHS.forecast,
        cores=cores_of_run,
    log:
        f"{PATHS.root}/logs/forecast.log",
    localrule: True
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/forecast.py"
