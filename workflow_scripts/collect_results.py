"""Write the product of an arm."""

from quarry.campaign.job import job

with job(snakemake) as log:
    from quarry.stages.results import collect_results

    paths = snakemake.input
    collect_results(
        facts_files=list(paths.facts),
        reason=snakemake.params.reason,
        last={name: paths[name] for name in ("dataset", "failures", "outliers", "audit", "model")},
        output=dict(snakemake.output.items()),
        savings=paths.savings or None,
    )
