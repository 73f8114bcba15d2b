rule write_overview:
    """Write the page that tells a reader what was done, what came out, and what to know before believing it."""
    message:
        f"writing the overview of {CAMPAIGN.paths.root}"
    input:
        unpack(figures),
        **PATHS.outputs("collect_results", "main"),
        facts=lambda wildcards: of_every_iteration("facts.json", "main"),
        labelled=from_last("dataset.h5", "main"),
        predictions=from_last("predictions.h5", "main"),
        savings_of_main=lambda wildcards: PATHS.arm("main", "savings.json") if CAMPAIGN.configuration.controls else [],
    output:
        overview=report(
            PATHS.outputs("write_overview")["overview"],
            category="Campaign",
            labels={"page": "overview"},
            caption="../report/overview.rst",
        ),
    params:
        ended=lambda wildcards: end_of("main"),
        manifest=CAMPAIGN.paths.manifest,
    log:
        f"{PATHS.logs}/write_overview.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/write_overview.py"


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
