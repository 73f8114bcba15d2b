"""Quarry: active-learning labeling campaigns for computational chemistry on clusters.

The rooms of the library, and which way the arrows point (a room imports only from rooms to its left):

csv_tables, devices, errors, files, imports, processes, randomness, terminal, written_numbers <- structures, points,
config <- networks, stopping <- descriptors <- models <- query, labeling, uses <- sampling, evaluation, submission <-
dynamics, spectra <- campaign, reporting <- status <- run_output, product, stages (files in, files out) <-
workflow_scripts/*.py, rules, ``command_line``, ``calculator`` for programs of the user.
``run_output`` is used by the package ``snakemake_logger_plugin_quarry``, which stands beside this one.
One call goes back: ``campaign.preflight`` starts ``stages.preflight`` as another process.

What the Snakefile imports (``quarry.config``, ``quarry.campaign``, ``quarry.stopping``, ``quarry.evaluation.comparison``) is
light: every job on a cluster re-reads the Snakefile.
"""

__version__ = "0.2.0"
