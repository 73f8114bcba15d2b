rule train_member:
    """Train one member of the arm's committee; the members do not wait for each other."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: training member {wildcards.member}"
    input:
        start=start_of,
        dataset=PATHS.iteration("dataset.h5"),
        structures=PATHS.structures,
        features=features_of,
        baseline=baseline_of,
        reference=PATHS.reference,
    output:
        **PATHS.outputs("train_member"),
    wildcard_constraints:
        member="[0-9]+",
    params:
        base=base_folder,
    log:
        PATHS.iteration("logs/train_member_{member}.log"),
    benchmark:
        PATHS.benchmark("train_member")
    threads: CAMPAIGN.threads_of("train_member")
    resources:
        **CAMPAIGN.beside_main.resource("train_member"),
        **CAMPAIGN.resources_of("train_member"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/train_member.py"


rule train_model:
    """Train the arm's model on all training labels so far, or join the members of its committee."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: training"
    input:
        members=members,
        start=start_of,
        dataset=PATHS.iteration("dataset.h5"),
        structures=PATHS.structures,
        features=features_of,
        baseline=baseline_of,
        reference=PATHS.reference,
    output:
        **PATHS.outputs("train_model"),
    params:
        base=base_folder,
    log:
        PATHS.iteration("logs/train_model.log"),
    benchmark:
        PATHS.benchmark("train_model")
    threads: CAMPAIGN.threads_of("train_model")
    resources:
        **CAMPAIGN.beside_main.resource("train_model"),
        **CAMPAIGN.resources_of("train_model"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/train_model.py"


rule evaluate_model:
    """Predict the test set (or validation labels) and measure the errors, with bootstrap intervals."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: evaluating"
    input:
        model=PATHS.iteration("model/model.h5"),
        dataset=PATHS.iteration("dataset.h5"),
        audit=PATHS.iteration("audit.csv"),
        features=features_of,
        baseline=baseline_of,
        reference=PATHS.reference,
        previous=from_previous("predictions.h5"),
        structures=candidates,
        truth=pool_labels,
    output:
        **PATHS.outputs("evaluate_model"),
    params:
        base=base_folder,
    log:
        PATHS.iteration("logs/evaluate_model.log"),
    benchmark:
        PATHS.benchmark("evaluate_model")
    threads: CAMPAIGN.threads_of("evaluate_model")
    resources:
        **CAMPAIGN.beside_main.resource("evaluate_model"),
        **CAMPAIGN.resources_of("evaluate_model"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/evaluate_model.py"


checkpoint assess_iteration:
    """Write the facts of an iteration (the stop rules read them) and what it cost."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: assessing"
    input:
        metrics=PATHS.iteration("metrics.json"),
        failures=PATHS.iteration("failures.csv"),
        labels=batch_labels,
        structures=candidates,
    output:
        **PATHS.outputs("assess_iteration"),
    params:
        manifest=CAMPAIGN.paths.manifest,
        failed=CAMPAIGN.paths.failed,
    log:
        PATHS.iteration("logs/assess_iteration.log"),
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/assess_iteration.py"
