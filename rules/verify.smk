"""On request: `snakemake verify` computes a random sample of the labels again, `snakemake check_rotations` rotated copies,
`snakemake check_forces` displaced ones."""

from quarry.config.verification import LABELS_OF_A_JOB


rule recompute_label:
    """Compute one label of the product again, or that of a rotated and translated copy. The store is not asked or told."""
    message:
        "{wildcards.check}: computing label {wildcards.number} of the sample"
    input:
        dataset=from_product("dataset.h5", "main"),
    output:
        PATHS.recomputed(),
    params:
        base=base_folder,
    log:
        f"{PATHS.verification}/logs/{{check}}_seed_{{seed}}_{{number}}.log",
    wildcard_constraints:
        check="|".join(LABELS_OF_A_JOB),
        seed="[0-9]+",
        number="[0-9]+",
    retries: CAMPAIGN.retries
    threads: CAMPAIGN.label_cores
    resources:
        **CAMPAIGN.label_places,
        mem_mb=CAMPAIGN.configuration.resources.label.memory_MB,
        runtime=lambda wildcards: (
            LABELS_OF_A_JOB[wildcards.check] * CAMPAIGN.configuration.resources.label.walltime_min
        ),
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/recompute_label.py"


# No output: the tables are written and the verdict is spoken in every run, and a table with differences is not removed.
rule verify:
    """Compare a random sample of the labels with the same labels computed again; fail if any differs."""
    message:
        "comparing recomputed labels with the recorded ones"
    input:
        recomputed=recomputed("verify", CAMPAIGN.configuration.verification.sample)
        + recomputed("check_forces", CAMPAIGN.displaced_copies),
        dataset=from_product("dataset.h5", "main"),
    params:
        manifest=CAMPAIGN.paths.manifest,
        table=f"{CAMPAIGN.paths.verification}/verify.csv",
    log:
        f"{PATHS.verification}/logs/verify.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/compare_labels.py"


rule check_forces:
    """Compare the energies of two displaced copies of labelled structures with the forces; fail if any differs."""
    message:
        "comparing the energies of displaced copies with the forces"
    input:
        recomputed=recomputed("check_forces", CAMPAIGN.displaced_copies),
        dataset=from_product("dataset.h5", "main"),
    params:
        manifest=CAMPAIGN.paths.manifest,
        table=f"{CAMPAIGN.paths.verification}/check_forces.csv",
    log:
        f"{PATHS.verification}/logs/check_forces.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/compare_labels.py"


rule check_rotations:
    """Compare labels of rotated and translated copies with those of the structures; fail if any differs."""
    message:
        "comparing labels of rotated and translated copies"
    input:
        recomputed=recomputed("check_rotations", CAMPAIGN.configuration.verification.copies),
        dataset=from_product("dataset.h5", "main"),
    params:
        manifest=CAMPAIGN.paths.manifest,
        table=f"{CAMPAIGN.paths.verification}/check_rotations.csv",
    log:
        f"{PATHS.verification}/logs/check_rotations.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/compare_labels.py"
