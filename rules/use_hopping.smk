"""On request: `snakemake surface_hopping` runs trajectories that hop between the states of a campaign's model (docs/uses.md)."""

HOPPING = CAMPAIGN.configuration.uses.surface_hopping
HOPPING_BY_LABELS = range(HOPPING.reference_trajectories and len(REFERENCE_PARTS) and HOPPING.reference_trajectories)
HOPPED = PATHS.use("surface_hopping.npz")
# A label a step; one that needs more goes on in its next attempt with the labels that the store has.
HOPPING_MINUTES = min(
    1440, round(HOPPING.length_fs / HOPPING.time_step_fs) * CAMPAIGN.configuration.resources.label.walltime_min
)


rule use_hop:
    """Run trajectories that hop between the model's states."""
    message:
        "running surface hopping on the model"
    input:
        **potential_of_use,
        minimum=RELAXED,
        displaced=DISPLACED,
        settings=settings_of_uses("surface_hopping"),
    output:
        HOPPED,
    params:
        base=base_folder,
        step="hop",
    log:
        f"{PATHS.uses}/logs/surface_hopping_model.log",
    threads: score.threads
    resources:
        **resources_of_use,
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/use_potential.py"


rule use_hop_by_labels:
    """Run one of these trajectories by labels."""
    message:
        "running surface hopping by labels, trajectory {wildcards.part}"
    input:
        minimum=RELAXED,
        trajectories=HOPPED,
        settings=settings_of_uses("surface_hopping"),
    output:
        PATHS.use_step("reference_hopping_{part}.npz"),
    wildcard_constraints:
        part="[0-9]+",
    params:
        **of_reference,
        step="hop",
    log:
        f"{PATHS.uses}/logs/surface_hopping_{{part}}.log",
    retries: CAMPAIGN.retries
    threads: CAMPAIGN.label_cores
    resources:
        **{**resources_of_reference, "runtime": HOPPING_MINUTES},
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/use_reference.py"


rule surface_hopping:
    """Populations of the states against time, those of trajectories by labels beside them."""
    message:
        "counting the populations of states"
    input:
        **potential_of_use,
        trajectories=HOPPED,
        labels=[PATHS.use_step(f"reference_hopping_{part}.npz") for part in HOPPING_BY_LABELS],
    output:
        result=PATHS.use("surface_hopping.json"),
        picture=result_of_use("surface_hopping"),
    params:
        base=base_folder,
        use="surface_hopping",
    log:
        f"{PATHS.uses}/logs/surface_hopping.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/report_use.py"
