"""Draw arm main beside its control arms, and the labels that it saved."""

from quarry.campaign.job import configuration_of, job

with job(snakemake):
    from quarry.reporting.comparison_plots import plot_savings
    from quarry.stages.results import by_arm, compare

    paths = snakemake.input
    comparison = compare(list(paths.main), by_arm(paths.repeats), by_arm(paths.controls))
    plot_savings(comparison, configuration_of(snakemake).target, snakemake.output[0])
