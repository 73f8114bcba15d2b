rule compare_arms:
    """Compare arm main with the arms that section control makes: labels saved, with their interval."""
    message:
        "comparing arm main with its control arms"
    input:
        facts=lambda wildcards: of_compared("facts.json"),
        predictions=lambda wildcards: of_compared("predictions.h5"),
    output:
        **PATHS.outputs("compare_arms", "main"),
    log:
        PATHS.arm("main", "logs/compare_arms.log"),
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/compare_arms.py"


rule collect_results:
    """Write the product of an arm: history, failures, data set and model."""
    message:
        "{wildcards.arm}: collecting results"
    input:
        facts=all_facts,
        savings=lambda wildcards: (
            PATHS.arm("main", "savings.json") if wildcards.arm == "main" and CAMPAIGN.configuration.controls else []
        ),
        dataset=from_last("dataset.h5"),
        failures=from_last("failures.csv"),
        outliers=from_last("outliers.csv"),
        audit=from_last("audit.csv"),
        model=from_last("model/model.h5"),
    output:
        **PATHS.outputs("collect_results"),
    params:
        reason=lambda wildcards: end_of(wildcards.arm)[1],
    log:
        PATHS.arm(file="logs/collect_results.log"),
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/collect_results.py"


rule describe_model:
    """Write what whoever uses an arm's model must know: what it is, what it has seen, its errors."""
    message:
        "{wildcards.arm}: describing the model"
    input:
        model=from_product("model/model.h5"),
        dataset=from_product("dataset.h5"),
        facts=all_facts,
    output:
        **PATHS.outputs("describe_model"),
    params:
        base=base_folder,
        # Read where a model that an earlier version trained has no descriptor in its file.
        features=CAMPAIGN.paths.features,
        manifest=CAMPAIGN.paths.manifest,
    log:
        PATHS.arm(file="logs/describe_model.log"),
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/describe_model.py"


rule publish_results:
    """Put the product of the arm main where a user looks first."""
    message:
        f"publishing the results in {CAMPAIGN.paths.root}"
    input:
        **PATHS.outputs("collect_results", "main"),
    output:
        **PATHS.outputs("publish_results"),
    log:
        f"{PATHS.logs}/publish_results.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/publish_results.py"


rule publish_model:
    """Put what belongs to the model of the arm main beside it."""
    message:
        f"publishing the model in {CAMPAIGN.paths.root}/model"
    input:
        **PATHS.outputs("describe_model", "main"),
    output:
        **PATHS.outputs("publish_model"),
    log:
        f"{PATHS.logs}/publish_model.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/publish_results.py"


rule describe_dataset:
    """Put the parts of the data set, its card and its metadata beside it."""
    message:
        f"describing the data set in {CAMPAIGN.paths.root}"
    input:
        **PATHS.outputs("publish_results"),
        # What its author says of it; an inspection before the first run has no such file.
        settings=lambda wildcards: [PATHS.dataset_settings] if Path(CAMPAIGN.paths.dataset_settings).exists() else [],
    output:
        **PATHS.outputs("describe_dataset"),
    params:
        manifest=CAMPAIGN.paths.manifest,
    log:
        f"{PATHS.logs}/describe_dataset.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/describe_dataset.py"
