rule compare_arms:
    """Compare arm main with the arms that section control makes: labels saved, with their interval."""
    message:
        "comparing arm main with its control arms"
    input:
        facts=lambda wildcards: of_compared("facts.json"),
        predictions=lambda wildcards: of_compared("predictions.h5"),
    output:
        PATHS.arm("main", "savings.json"),
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
        history=PATHS.arm(file="history.csv"),
        failures=PATHS.arm(file="failures.csv"),
        outliers=PATHS.arm(file="outliers.csv"),
        audit=PATHS.arm(file="audit.csv"),
        dataset=PATHS.arm(file="dataset.h5"),
        extxyz=PATHS.arm(file="dataset.extxyz"),
        model=PATHS.arm(file="model/model.h5"),
    params:
        reason=lambda wildcards: stop_words(wildcards.arm),
    log:
        PATHS.arm(file="logs/collect_results.log"),
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/collect_results.py"


rule publish_results:
    """Put the product of the arm main where a user looks first."""
    message:
        "publishing the results in {PATHS.root}"
    input:
        history=PATHS.arm("main", "history.csv"),
        failures=PATHS.arm("main", "failures.csv"),
        outliers=PATHS.arm("main", "outliers.csv"),
        audit=PATHS.arm("main", "audit.csv"),
        dataset=PATHS.arm("main", "dataset.h5"),
        extxyz=PATHS.arm("main", "dataset.extxyz"),
        model=PATHS.arm("main", "model/model.h5"),
    output:
        history=f"{PATHS.root}/history.csv",
        failures=f"{PATHS.root}/failures.csv",
        outliers=f"{PATHS.root}/outliers.csv",
        audit=f"{PATHS.root}/audit.csv",
        dataset=f"{PATHS.root}/dataset.h5",
        extxyz=f"{PATHS.root}/dataset.extxyz",
        model=f"{PATHS.root}/model/model.h5",
    log:
        f"{PATHS.logs}/publish_results.log",
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
            f"{PATHS.figures}/learning_curve.svg",
            category="Learning",
            labels={"figure": "learning curve"},
            caption="../report/learning_curve.rst",
        ),
        parity=report(
            f"{PATHS.figures}/parity.svg",
            category="Learning",
            labels={"figure": "parity and uncertainty"},
            caption="../report/parity.rst",
        ),
        iterations=report(
            f"{PATHS.figures}/iterations.html",
            category="Iterations",
            labels={"figure": "table of iterations"},
            caption="../report/iterations.rst",
        ),
        audit=report(
            f"{PATHS.figures}/audit.html",
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
            f"{PATHS.figures}/savings.svg",
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
        features=PATHS.features,
    output:
        report(
            f"{PATHS.figures}/function.svg",
            category="Learning",
            labels={"figure": "model of one variable"},
            caption="../report/function.rst",
        ),
    log:
        f"{PATHS.logs}/draw_function.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/draw_function.py"
