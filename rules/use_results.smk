"""What uses of the potential leave for a user: numbers and a picture of each, the reference beside the model."""

reference_of_use = {
    "reference": RELAXED_BY_LABELS if REFERENCE_PARTS else [],
    "labels": [PATHS.use_step(f"reference_displaced_{part}.json") for part in REFERENCE_PARTS],
}


rule optimise:
    """Relax a structure on the potential, and by labels: bond lengths."""
    message:
        "comparing minima"
    input:
        **potential_of_use,
        minimum=RELAXED,
        reference=reference_of_use["reference"],
    output:
        result=PATHS.use("optimise.json"),
        picture=result_of_use("optimise"),
    params:
        base=base_folder,
        use="optimise",
    log:
        f"{PATHS.uses}/logs/optimise.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/report_use.py"


rule frequencies:
    """Harmonic vibrations on the potential, and by labels."""
    message:
        "comparing vibrations"
    input:
        **potential_of_use,
        **reference_of_use,
        minimum=RELAXED,
        displaced=DISPLACED,
    output:
        result=PATHS.use("frequencies.json"),
        picture=result_of_use("frequencies"),
    params:
        base=base_folder,
        use="frequencies",
    log:
        f"{PATHS.uses}/logs/frequencies.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/report_use.py"


rule md:
    """A trajectory at constant energy on the potential: how well the energy is kept, and errors along it."""
    message:
        "looking at the trajectory"
    input:
        **potential_of_use,
        minimum=RELAXED,
        trajectory=TRAJECTORY,
        labels=[PATHS.use_step(f"reference_frames_{part}.json") for part in FRAMES],
    output:
        result=PATHS.use("md.json"),
        picture=result_of_use("md"),
    params:
        base=base_folder,
        use="md",
    log:
        f"{PATHS.uses}/logs/md.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/report_use.py"


rule infrared:
    """The infrared spectrum of the potential: harmonic lines, and from the dipole along the trajectory."""
    message:
        "computing the infrared spectrum"
    input:
        **potential_of_use,
        **reference_of_use,
        minimum=RELAXED,
        displaced=DISPLACED,
        trajectory=TRAJECTORY,
        settings=settings_of_uses("infrared"),
    output:
        result=PATHS.use("infrared.json"),
        picture=result_of_use("infrared"),
    params:
        base=base_folder,
        use="infrared",
    log:
        f"{PATHS.uses}/logs/infrared.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/report_use.py"
