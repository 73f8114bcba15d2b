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
        reason=lambda wildcards: stop_message(wildcards.arm),
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


rule draw_figures:
    """Draw the learning curve, the parity plot and the table of iterations for the report."""
    message:
        "drawing the figures of the report"
    input:
        histories=[PATHS.arm(arm, "history.csv") for arm in CAMPAIGN.arms],
        audits=[PATHS.arm(arm, "audit.csv") for arm in CAMPAIGN.arms],
        predictions=from_last("predictions.h5", "main"),
    output:
        learning_curve=report(
            PATHS.outputs("draw_figures")["learning_curve"],
            category="Learning",
            labels={"figure": "learning curve"},
            caption="../report/learning_curve.rst",
        ),
        parity=report(
            PATHS.outputs("draw_figures")["parity"],
            category="Learning",
            labels={"figure": "parity and uncertainty"},
            caption="../report/parity.rst",
        ),
        iterations=report(
            PATHS.outputs("draw_figures")["iterations"],
            category="Iterations",
            labels={"figure": "table of iterations"},
            caption="../report/iterations.rst",
        ),
        audit=report(
            PATHS.outputs("draw_figures")["audit"],
            category="Labels",
            labels={"figure": "audit of the labels"},
            caption="../report/audit.rst",
        ),
    log:
        f"{PATHS.logs}/draw_figures.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/draw_figures.py"


rule draw_savings:
    """Draw arm main beside its control arms, and the labels that it saved."""
    message:
        "drawing the labels saved"
    input:
        PATHS.arm("main", "savings.json"),
    output:
        report(
            PATHS.outputs("draw_savings")["savings"],
            category="Learning",
            labels={"figure": "labels saved against random"},
            caption="../report/savings.rst",
        ),
    log:
        f"{PATHS.logs}/draw_savings.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/draw_savings.py"


rule draw_function:
    """Draw the models of one variable with the points that were added (lecture, figure 4)."""
    message:
        "drawing the models of one variable"
    input:
        models=from_iterations("model/model.h5"),
        datasets=from_iterations("dataset.h5", after=[1]),
        structures=PATHS.structures,
        features=features_of,
        reference=PATHS.reference,
    output:
        report(
            PATHS.outputs("draw_function")["function"],
            category="Learning",
            labels={"figure": "model of one variable"},
            caption="../report/function.rst",
        ),
    params:
        base=base_folder,
    log:
        f"{PATHS.logs}/draw_function.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/draw_function.py"
