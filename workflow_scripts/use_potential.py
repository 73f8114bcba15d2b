"""A step of a use of the potential on the model's side."""

from quarry.campaign.job import configuration_of, job

with job(snakemake, receipt=False) as log:
    from functools import partial
    from pathlib import Path

    from quarry.calculator import QuarryCalculator
    from quarry.stages import uses

    given, made = snakemake.input, snakemake.output
    base, folder = Path(snakemake.params.base), Path(given.model).parent
    calculator = partial(QuarryCalculator, folder, base=base)
    potential = uses.Potential(configuration_of(snakemake), base, Path(given.dataset), calculator)
    if snakemake.params.step == "relax":
        uses.relax_on_model(potential, made[0], log)
    elif snakemake.params.step == "displace":
        uses.displace_on_model(potential, given.minimum, made[0])
    elif snakemake.params.step == "hop":
        from quarry.stages.surface_hopping import hop_on_model

        hop_on_model(potential, given.minimum, given.displaced, made[0], log)
    else:
        uses.run_on_model(potential, given.minimum, made.trajectory, made.frames, log)
