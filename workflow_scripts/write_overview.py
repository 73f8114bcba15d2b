"""Write the overview of the campaign, a page that stands by itself."""

from quarry.campaign.job import configuration_of, job, paths_of

with job(snakemake):
    from quarry.stages.overview.front import write_overview

    figures = {name: path for name, path in snakemake.input.items() if str(path).endswith(".svg")}
    rule, words = snakemake.params.ended
    write_overview(configuration_of(snakemake), paths_of(snakemake), (rule, words), figures, snakemake.output.overview)
