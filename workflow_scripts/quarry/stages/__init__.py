"""The stages of a campaign: files in, files out; one function per rule, tested without Snakemake."""
