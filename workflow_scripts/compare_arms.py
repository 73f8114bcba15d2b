"""Compare arm main with its control arms."""

from quarry.campaign.job import configuration_of, job

configuration = configuration_of(snakemake)
with job(snakemake) as log:
    from quarry.stages.comparing import compare_arms

    paths = snakemake.input
    found = compare_arms(configuration, list(paths.facts), list(paths.predictions), snakemake.output[0])
    for line in found.words:
        log(line)
