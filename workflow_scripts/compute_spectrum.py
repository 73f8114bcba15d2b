"""Complete the ensemble by the arm's last model, and write its spectra."""

from quarry.campaign.job import configuration_of, job
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake, configuration.resources.of("score").threads) as log:
    from quarry.stages.arm_models import models_of
    from quarry.stages.spectrum import compute_spectrum

    arm, paths = snakemake.wildcards.arm, snakemake.input
    line, *warnings = compute_spectrum(
        models_of(snakemake, configuration), paths.model, paths.dataset, dict(snakemake.output.items())
    )
    log(line)
    tell(f"{arm}: {line}")
    for warning in warnings:
        log(warning)
        tell(f"{arm}: {warning}")
