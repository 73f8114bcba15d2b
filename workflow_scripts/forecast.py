"""Print what the rest of the campaign will cost, and write it down."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job, manifest_of, paths_of, store_of
from quarry.files import write_text

configuration = configuration_of(snakemake)
with job(snakemake, receipt=False):
    from quarry.stages.forecast import encode, make_forecast
    from quarry.stages.forecast_text import forecast_text
    from quarry.stages.planning import make_planner
    from quarry.stopping.own_rules import own_rules

    parameters, paths = snakemake.params, paths_of(snakemake)
    forecast = make_forecast(
        configuration,
        make_planner(configuration, parameters.base, configuration.arm_names[0], 0, paths),
        paths,
        snakemake.input.probes,
        store_of(configuration, manifest_of(snakemake)),
        parameters.cores,
        own_rules(configuration, Path(parameters.base)),
    )
    text = forecast_text(forecast, configuration, parameters.cores)
    write_text(parameters.files + ".txt", text)
    write_text(parameters.files + ".json", encode(forecast))
    print("\n" + text, flush=True)
