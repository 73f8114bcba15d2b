"""Draw arm main beside its control arms, and the labels that it saved."""

import json
from pathlib import Path

from quarry.campaign.job import configuration_of, job

with job(snakemake):
    from quarry.evaluation.comparison import Comparison
    from quarry.reporting.comparison_plots import plot_savings

    comparison = Comparison.from_json(json.loads(Path(snakemake.input[0]).read_bytes()))
    plot_savings(comparison, configuration_of(snakemake).goal, snakemake.output[0])
