"""Write the parts, the card and the metadata of the data set."""

from quarry.campaign.job import job, paths_of

paths = paths_of(snakemake)
with job(snakemake):
    from quarry.product.describing import describe_dataset

    describe_dataset(paths, dict(snakemake.output.items()))
