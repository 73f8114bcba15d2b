"""What the campaign will cost. Nothing here depends on the loop: a forecast needs the pool and a few labels."""

from quarry.config.campaign import PROBES_ARM


# Both could make the probes' table; their folder is laid out as an iteration's, so that label_structure labels them.
ruleorder: choose_probes > select_batch


checkpoint choose_probes:
    """Choose a few structures of the first batch, spread over its sizes; their labels go into the store."""
    message:
        "choosing structures to measure the cost"
    input:
        structures=PATHS.structures,
    output:
        **PATHS.outputs("select_batch", PROBES_ARM, 0),
        job_inputs=directory(PATHS.job_inputs(PROBES_ARM, 0)),
    params:
        base=base_folder,
        manifest=CAMPAIGN.paths.manifest,
        failed=CAMPAIGN.paths.failed,
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
        f"forecasting the cost of {CAMPAIGN.paths.root}"
    input:
        structures=PATHS.structures,
        probes=probe_labels,
    params:
        base=base_folder,
        manifest=CAMPAIGN.paths.manifest,
        files=CAMPAIGN.paths.forecast,
        cores=cores_of_run,
    log:
        f"{PATHS.logs}/forecast.log",
    localrule: True
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/forecast.py"
