"""What the terminal shows of a run: the campaign, and of Snakemake's messages those that a user must read.

Everything else is in Snakemake's own log file (``.snakemake/log``). Used by the package ``snakemake_logger_plugin_quarry``.
"""
