"""The result of a use of the potential, with its picture."""

from quarry.campaign.job import configuration_of, job

with job(snakemake, receipt=False):
    from functools import partial
    from pathlib import Path

    from quarry.calculator import QuarryCalculator
    from quarry.files import write_json
    from quarry.reporting import uses_plots
    from quarry.stages import uses, uses_results

    given, made, use = snakemake.input, snakemake.output, snakemake.params.use
    configuration, base, folder = configuration_of(snakemake), Path(snakemake.params.base), Path(given.model).parent
    calculator = partial(QuarryCalculator, folder, base=base)
    potential = uses.Potential(configuration, base, Path(given.dataset), calculator)
    displacement_A = configuration.uses.frequencies.displacement_A
    compares = configuration.compares_uses
    if use == "optimise":
        result = uses_results.optimise_result(given.minimum, given.reference if compares else None)
        uses_plots.plot_minima(result, made.picture)
    elif use == "surface_hopping":
        from quarry.stages.surface_hopping import hopping_result

        result = hopping_result(configuration.uses.surface_hopping, given.trajectories, given.labels)
        uses_plots.plot_populations(result, made.picture)
    elif use == "md":
        result = uses_results.md_result(potential, given.minimum, given.trajectory, given.labels)
        uses_plots.plot_energy(result, uses.read_trajectory(given.trajectory), made.picture)
    else:
        model = (given.minimum, given.displaced)
        reference = (given.reference, given.labels) if compares else None
        if use == "frequencies":
            result = uses_results.frequencies_result(displacement_A, model, reference)
            uses_plots.plot_frequencies(result, made.picture)
        else:
            result = uses_results.infrared_result(potential, model, given.trajectory, reference)
            uses_plots.plot_infrared(result, made.picture)
    write_json(made.result, {"campaign": configuration.name, **result})
