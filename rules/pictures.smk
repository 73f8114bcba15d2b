# No output: the graph is another one whenever the campaign has gone on.
rule dag_pictures:
    """Draw the graph of rules and that of the last iteration's jobs (figures/dag_*.svg); on request."""
    message:
        "drawing the graphs of rules and jobs"
    params:
        figures=CAMPAIGN.paths.figures,
        rules={CAMPAIGN.rule_name(rule): rule for rule in RULES},
    log:
        f"{PATHS.logs}/dag_pictures.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/dag_pictures.py"
