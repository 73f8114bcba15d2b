"""Draw the spectra of arm main, with a measured one where there is one."""

from quarry.campaign.job import job

with job(snakemake):
    from quarry.reporting.spectrum_plots import draw_spectrum

    paths = snakemake.input
    draw_spectrum(paths.table, paths.summary, paths.experiment or None, snakemake.output[0])
