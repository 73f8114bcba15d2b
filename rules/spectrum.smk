"""Spectra of target excitations; nothing asks for them in other campaigns."""


rule compute_spectrum:
    """Complete the ensemble by the arm's last model, and broaden its lines: ML-NEA, QC-NEA, single point."""
    message:
        "{wildcards.arm}: computing spectra"
    input:
        model=from_product("model/model.h5"),
        dataset=from_product("dataset.h5"),
        structures=PATHS.structures,
        features=features_of,
        reference=PATHS.reference,
        # How lines are broadened; an inspection before the first run has no such file.
        settings=lambda wildcards: [PATHS.spectrum_settings] if Path(CAMPAIGN.paths.spectrum_settings).exists() else [],
    output:
        **PATHS.outputs("compute_spectrum"),
    params:
        base=base_folder,
    log:
        PATHS.arm(file="logs/compute_spectrum.log"),
    benchmark:
        PATHS.benchmark("compute_spectrum")
    threads: CAMPAIGN.threads_of("compute_spectrum")
    resources:
        **CAMPAIGN.resources_of("compute_spectrum"),
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/compute_spectrum.py"


rule publish_spectrum:
    """Put the spectra of the arm main where a user looks first."""
    message:
        f"publishing the spectra in {CAMPAIGN.paths.root}"
    input:
        **PATHS.outputs("compute_spectrum", "main"),
    output:
        **PATHS.outputs("publish_spectrum"),
    log:
        f"{PATHS.logs}/publish_spectrum.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/publish_results.py"


rule draw_spectrum:
    """Draw the spectra of arm main with the ensemble's statistical error, and a measured one."""
    message:
        "drawing the spectra"
    input:
        table=PATHS.arm("main", "cross-section/spectra.csv"),
        summary=PATHS.arm("main", "cross-section/summary.json"),
        experiment=lambda wildcards: (
            str(CAMPAIGN.base / CAMPAIGN.configuration.spectrum.experiment)
            if CAMPAIGN.configuration.spectrum.experiment
            else []
        ),
    output:
        report(
            PATHS.outputs("draw_spectrum")["spectrum"],
            category="Spectrum",
            labels={"figure": "absorption spectra"},
            caption="../report/spectrum.rst",
        ),
    log:
        f"{PATHS.logs}/draw_spectrum.log",
    localrule: True
    conda:
        "../envs/learn.yaml"
    script:
        "../workflow_scripts/draw_spectrum.py"
