rule sample_candidates:
    """Make the candidates of the iteration from the last model, by the sampler or of what trajectories found."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: sampling candidates"
    input:
        gate=from_previous("facts.json"),
        model=from_previous("model/model.h5"),
        dataset=from_previous("dataset.h5"),
        reference=PATHS.reference,
        trajectories=trajectories,
    output:
        **PATHS.outputs("sample_candidates"),
    params:
        base=base_folder,
    log:
        PATHS.iteration("logs/sample_candidates.log"),
    benchmark:
        PATHS.benchmark("sample_candidates")
    threads: CAMPAIGN.threads_of("sample_candidates")
    resources:
        **CAMPAIGN.beside_main.resource("sample_candidates", behind=1),
        **CAMPAIGN.resources_of("sample_candidates"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/sample_candidates.py"


rule score_pool:
    """Predict every candidate with the last model."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: scoring candidates"
    input:
        gate=from_previous("facts.json"),
        model=from_previous("model/model.h5"),
        dataset=from_previous("dataset.h5"),
        failures=from_previous("failures.csv"),
        structures=candidates,
        features=features_of,
        baseline=baseline_of,
        reference=PATHS.reference,
    output:
        **PATHS.outputs("score_pool"),
    params:
        base=base_folder,
    log:
        PATHS.iteration("logs/score_pool.log"),
    benchmark:
        PATHS.benchmark("score_pool")
    threads: CAMPAIGN.threads_of("score_pool")
    resources:
        **CAMPAIGN.beside_main.resource("score_pool", behind=1),
        **CAMPAIGN.resources_of("score_pool"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/score_pool.py"


rule propose_batch:
    """Let the arm's strategy choose the next structures."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: proposing a batch"
    input:
        scores=scores,
        facts=from_previous("facts.json"),
        dataset=from_previous("dataset.h5"),
        failures=from_previous("failures.csv"),
        structures=candidates,
        features=features_of,
        reference=PATHS.reference,
    output:
        **PATHS.outputs("propose_batch"),
    params:
        base=base_folder,
    log:
        PATHS.iteration("logs/propose_batch.log"),
    benchmark:
        PATHS.benchmark("propose_batch")
    threads: CAMPAIGN.threads_of("propose_batch")
    resources:
        **CAMPAIGN.beside_main.resource("propose_batch", behind=1),
        **CAMPAIGN.resources_of("propose_batch"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/propose_batch.py"


checkpoint select_batch:
    """Write the batch table, the plan and a job input of each label job; put labels that are known in place."""
    message:
        "{wildcards.arm} iteration {wildcards.iteration}: selecting the batch"
    input:
        proposal=proposal,
        failures=from_previous("failures.csv"),
        candidates=candidates,
    output:
        **PATHS.outputs("select_batch"),
        job_inputs=directory(PATHS.job_inputs()),
    params:
        base=base_folder,
        manifest=CAMPAIGN.paths.manifest,
        failed=CAMPAIGN.paths.failed,
        retries=CAMPAIGN.paths.retries,
    log:
        PATHS.iteration("logs/select_batch.log"),
    localrule: True
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/select_batch.py"
