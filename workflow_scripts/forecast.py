"""Print what the rest of the campaign will cost, and write it down."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job, manifest_of, paths_of, store_of
from quarry.files import write_text

configuration = configuration_of(snakemake)
with job(snakemake, receipt=False):
    from quarry.labeling.known import known_labels
    from quarry.labeling.wanted import Wanted
    from quarry.stages.forecast import Seen, encode, make_forecast
    from quarry.stages.forecast_text import forecast_text
    from quarry.stages.planning import make_planner
    from quarry.stopping.own_rules import own_rules

    parameters, paths, base = snakemake.params, paths_of(snakemake), Path(snakemake.params.base)
    store = store_of(configuration, manifest_of(snakemake))
    given = known_labels(configuration.labeling, base, Wanted.of(configuration.goal), store)
    seen = Seen(
        configuration,
        make_planner(configuration, parameters.base, configuration.arm_names[0], 0, paths),
        paths,
        store,
        own_rules(configuration, base),
        lambda structure: given(structure) is not None,
    )
    forecast = make_forecast(seen, snakemake.input.probes, parameters.cores)
    text = forecast_text(forecast, configuration, parameters.cores)
    write_text(parameters.files + ".txt", text)
    write_text(parameters.files + ".json", encode(forecast))
    print("\n" + text, flush=True)
