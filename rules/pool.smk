rule compute_normal_modes:
    output:
        PATHS.normal_modes,
    log:
        f"{PATHS.pool}/logs/compute_normal_modes.log",
    conda:
        "../envs/label.yaml"
    threads: CAMPAIGN.configuration.resources.label.threads
    resources:
        mem_mb=CAMPAIGN.configuration.resources.label.memory_MB,
        runtime=CAMPAIGN.configuration.resources.label.walltime_min,
    params:
        base=str(CAMPAIGN.base),
    """Optimise the molecule of a wigner pool and compute its normal modes."""
    message:
        "optimising the molecule and computing its normal modes"
    script:
        "../workflow_scripts/compute_normal_modes.py"


rule build_pool:
    input:
        modes=normal_modes,
    output:
        structures=PATHS.structures,
        reference=PATHS.reference,
    log:
        f"{PATHS.pool}/logs/build_pool.log",
    conda:
        "../envs/learn.yaml"
    threads: CAMPAIGN.configuration.resources.model.threads
    resources:
        mem_mb=CAMPAIGN.configuration.resources.model.memory_MB,
        runtime=CAMPAIGN.configuration.resources.model.walltime_min,
    params:
        base=str(CAMPAIGN.base),
    """Collect all candidates, without duplicates."""
    message:
        "building the pool"
    script:
        "../workflow_scripts/build_pool.py"


rule build_features:
    input:
        structures=PATHS.structures,
        reference=PATHS.reference,
    output:
        PATHS.features,
    log:
        f"{PATHS.pool}/logs/build_features.log",
    conda:
        "../envs/learn.yaml"
    threads: CAMPAIGN.configuration.resources.model.threads
    resources:
        mem_mb=CAMPAIGN.configuration.resources.model.memory_MB,
        runtime=CAMPAIGN.configuration.resources.model.walltime_min,
    """Compute the descriptor of every candidate."""
    message:
        "computing descriptors"
    script:
        "../workflow_scripts/build_features.py"
