"""Draw the figures and the table of the report."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake):
    from quarry.reporting.plots import plot_learning_curve, plot_parity, write_iteration_table
    from quarry.stages.learning import read_predictions

    target, metric = configuration.target, configuration.stop.metric
    histories = {Path(path).parent.name: path for path in snakemake.input.histories}
    plot_learning_curve(histories, target, configuration.stop.rrmse, snakemake.output.learning_curve)
    predictions = read_predictions(snakemake.input.predictions, metric)
    plot_parity(predictions, target, metric, snakemake.output.parity)
    write_iteration_table(histories, target, snakemake.output.iterations)
