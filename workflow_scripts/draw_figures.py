"""Draw the figures and the table of the report."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake):
    from quarry.reporting.audit_table import write_audit_table
    from quarry.reporting.classification_plots import plot_accuracy, plot_confusion, write_class_table
    from quarry.reporting.plots import plot_learning_curve, plot_parity, write_iteration_table, write_note
    from quarry.reporting.spectrum_plots import plot_state_learning_curve, plot_state_parity
    from quarry.stages.evaluation import read_predictions

    target, metric = configuration.goal, configuration.stop.metric
    histories = {Path(path).parent.name: path for path in snakemake.input.histories}
    write_audit_table({Path(path).parent.name: path for path in snakemake.input.audits}, snakemake.output.audit)
    predictions, output = read_predictions(snakemake.input.predictions, metric), snakemake.output
    if predictions is None:
        for path in (output.learning_curve, output.parity):
            write_note("No error was measured: test.size is 0, and stop.metric: test.", path)
        write_iteration_table(histories, target, output.iterations)
    elif configuration.classification:
        plot_accuracy(histories, output.learning_curve)
        plot_confusion(predictions, configuration.classification.names, metric, output.parity)
        write_class_table(histories, output.iterations)
    elif configuration.spectrum:
        plot_state_learning_curve(histories, configuration.stop, output.learning_curve)
        plot_state_parity(predictions, configuration.n_states, metric, output.parity)
        write_iteration_table(histories, target, output.iterations)
    else:
        plot_learning_curve(histories, target, configuration.stop, output.learning_curve)
        plot_parity(predictions, target, metric, output.parity)
        write_iteration_table(histories, target, output.iterations)
