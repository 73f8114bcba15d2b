rule explore:
    """Run a job's share of the iteration's trajectories on the last model's potential (pool.source: dynamics)."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: running trajectories {wildcards.group}"
    input:
        facts=facts_before,
        model=from_previous("model/model.h5"),
        dataset=from_previous("dataset.h5"),
        reference=PATHS.reference,
        modes=normal_modes,
    output:
        **PATHS.outputs("explore"),
    wildcard_constraints:
        group="[0-9]+",
    params:
        base=base_folder,
    log:
        PATHS.iteration("logs/explore_{group}.log"),
    benchmark:
        PATHS.benchmark("explore")
    threads: CAMPAIGN.threads_of("explore")
    resources:
        **CAMPAIGN.resources_of("explore"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/explore.py"
