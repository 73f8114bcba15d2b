"""The command ``quarry``: subcommands that read what a campaign has left; campaigns are run by ``snakemake`` alone."""
