"""On request: `snakemake optimise`, `frequencies`, `md` and `infrared` use the potential of arm main (docs/uses.md). What they
take from the reference are labels by the campaign's engine, which the label store keeps."""

REFERENCE_PARTS = range(CAMPAIGN.configuration.uses.reference_jobs) if CAMPAIGN.configuration.compares_uses else []
# A job of the reference is given the time of so many labels; one that needs more goes on in its next attempt.
REFERENCE_LABELS = 10

RELAXED = PATHS.use_step("model_minimum.json")
RELAXED_BY_LABELS = PATHS.use_step("reference_minimum.json")
DISPLACED = PATHS.use_step("model_displaced.json")
TRAJECTORY = PATHS.use_step("trajectory.npz")
FRAMES = range(CAMPAIGN.configuration.uses.md.reference_frames and len(REFERENCE_PARTS))


potential_of_use = {
    "model": from_product("model/model.h5", "main"),
    "description": from_product("model/model.json", "main"),
    "training": from_product("model/training.h5", "main"),
    "dataset": from_product("dataset.h5", "main"),
}
of_reference = {
    "base": base_folder,
    "manifest": CAMPAIGN.paths.manifest,
    "lease": CAMPAIGN.paths.lease,
    "failed": CAMPAIGN.paths.failed,
    "attempts": CAMPAIGN.paths.use_step("attempts"),
}
score = CAMPAIGN.configuration.resources.of("score")
resources_of_use = {"mem_mb": score.memory_MB, "runtime": score.walltime_min}
resources_of_reference = {
    **CAMPAIGN.label_places,
    "mem_mb": CAMPAIGN.configuration.resources.label.memory_MB,
    "runtime": REFERENCE_LABELS * CAMPAIGN.configuration.resources.label.walltime_min,
}


rule use_relax:
    """Relax the structure on the potential."""
    message:
        "relaxing on the potential"
    input:
        **potential_of_use,
        structure=first_structure,
        settings=settings_of_uses("start", "optimise"),
    output:
        RELAXED,
    params:
        base=base_folder,
        step="relax",
    log:
        f"{PATHS.uses}/logs/model_minimum.log",
    threads: score.threads
    resources:
        **resources_of_use,
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/use_potential.py"


rule use_displace:
    """Compute the potential's forces at displaced geometries of its minimum."""
    message:
        "computing vibrations on the potential"
    input:
        **potential_of_use,
        minimum=RELAXED,
        settings=settings_of_uses("frequencies"),
    output:
        DISPLACED,
    params:
        base=base_folder,
        step="displace",
    log:
        f"{PATHS.uses}/logs/model_displaced.log",
    threads: score.threads
    resources:
        **resources_of_use,
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/use_potential.py"


rule use_run:
    """Run a trajectory on the potential."""
    message:
        "running a trajectory on the potential"
    input:
        **potential_of_use,
        minimum=RELAXED,
        settings=settings_of_uses("md"),
    output:
        trajectory=TRAJECTORY,
        frames=PATHS.use("md.extxyz"),
    params:
        base=base_folder,
        step="run",
    log:
        f"{PATHS.uses}/logs/trajectory.log",
    threads: score.threads
    resources:
        **resources_of_use,
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/use_potential.py"


rule use_relax_by_labels:
    """Relax the potential's minimum by labels, one a step."""
    message:
        "relaxing by the labels' method"
    input:
        minimum=RELAXED,
    output:
        RELAXED_BY_LABELS,
    params:
        **of_reference,
        step="relax",
    log:
        f"{PATHS.uses}/logs/reference_minimum.log",
    retries: CAMPAIGN.retries
    threads: CAMPAIGN.label_cores
    resources:
        **resources_of_reference,
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/use_reference.py"


rule use_displace_by_labels:
    """Label a part of the displaced geometries of the reference's minimum."""
    message:
        "labelling displaced geometries, part {wildcards.part}"
    input:
        minimum=RELAXED_BY_LABELS,
        settings=settings_of_uses("start", "frequencies"),
    output:
        PATHS.use_step("reference_displaced_{part}.json"),
    wildcard_constraints:
        part="[0-9]+",
    params:
        **of_reference,
        step="displace",
    log:
        f"{PATHS.uses}/logs/reference_displaced_{{part}}.log",
    retries: CAMPAIGN.retries
    threads: CAMPAIGN.label_cores
    resources:
        **resources_of_reference,
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/use_reference.py"


rule use_label_frames:
    """Label a part of the frames of the trajectory that are compared with the reference."""
    message:
        "labelling frames of the trajectory, part {wildcards.part}"
    input:
        minimum=RELAXED,
        trajectory=TRAJECTORY,
        settings=settings_of_uses("start"),
    output:
        PATHS.use_step("reference_frames_{part}.json"),
    wildcard_constraints:
        part="[0-9]+",
    params:
        **of_reference,
        step="frames",
    log:
        f"{PATHS.uses}/logs/reference_frames_{{part}}.log",
    retries: CAMPAIGN.retries
    threads: CAMPAIGN.label_cores
    resources:
        **resources_of_reference,
    conda:
        "../envs/label.yaml"
    script:
        "../workflow_scripts/use_reference.py"
