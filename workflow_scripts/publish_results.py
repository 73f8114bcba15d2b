"""Put the product of the arm main where a user looks first."""

from quarry.campaign.job import job
from quarry.files import copy_file

with job(snakemake):
    for name, source in snakemake.input.items():
        copy_file(source, snakemake.output[name])
