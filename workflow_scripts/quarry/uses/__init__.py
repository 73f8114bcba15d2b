"""What a potential is used for: minima, vibrations, trajectories, infrared spectra. Free of campaigns and Snakemake."""
