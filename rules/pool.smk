rule compute_normal_modes:
    """Optimise the molecule of a wigner pool and compute its normal modes."""
    message:
        "optimising the molecule and computing its normal modes"
    output:
        PATHS.normal_modes,
    params:
        base=base_folder,
    log:
        f"{PATHS.pool}/logs/compute_normal_modes.log",
    benchmark:
        f"{PATHS.pool}/benchmarks/compute_normal_modes.tsv"
    threads: CAMPAIGN.configuration.resources.label.threads
    resources:
        mem_mb=CAMPAIGN.configuration.resources.label.memory_MB,
        runtime=CAMPAIGN.configuration.resources.label.walltime_min,
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/compute_normal_modes.py"


rule build_pool:
    """Collect the candidates that pass the filters, without duplicates."""
    message:
        "building the pool"
    input:
        modes=normal_modes,
    output:
        **PATHS.outputs("build_pool"),
    params:
        base=base_folder,
    log:
        f"{PATHS.pool}/logs/build_pool.log",
    benchmark:
        PATHS.benchmark("build_pool")
    threads: CAMPAIGN.threads_of("build_pool")
    resources:
        **CAMPAIGN.resources_of("build_pool"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/build_pool.py"


rule build_features:
    """Compute the descriptor of every candidate."""
    message:
        "computing descriptors"
    input:
        structures=PATHS.structures,
        reference=PATHS.reference,
    output:
        **PATHS.outputs("build_features"),
    params:
        base=base_folder,
    log:
        f"{PATHS.pool}/logs/build_features.log",
    benchmark:
        PATHS.benchmark("build_features")
    threads: CAMPAIGN.threads_of("build_features")
    resources:
        **CAMPAIGN.resources_of("build_features"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/build_features.py"


rule build_baseline:
    """Compute what the baselines of all arms say of every candidate (model.baseline)."""
    message:
        "asking the baseline of every candidate"
    input:
        structures=PATHS.structures,
    output:
        **PATHS.outputs("build_baseline"),
    params:
        base=base_folder,
    log:
        f"{PATHS.pool}/logs/build_baseline.log",
    benchmark:
        PATHS.benchmark("build_baseline")
    threads: CAMPAIGN.threads_of("build_baseline")
    resources:
        **CAMPAIGN.resources_of("build_baseline"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/build_baseline.py"


rule collect_pool_labels:
    """Read the labels of the whole pool of a replay campaign, to measure a targeted search by."""
    message:
        "reading the labels of the whole pool"
    input:
        structures=PATHS.structures,
    output:
        **PATHS.outputs("collect_pool_labels"),
    params:
        base=base_folder,
    log:
        f"{PATHS.pool}/logs/collect_pool_labels.log",
    benchmark:
        PATHS.benchmark("collect_pool_labels")
    threads: CAMPAIGN.threads_of("collect_pool_labels")
    resources:
        **CAMPAIGN.resources_of("collect_pool_labels"),
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/collect_pool_labels.py"
