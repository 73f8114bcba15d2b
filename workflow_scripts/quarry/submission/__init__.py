"""How jobs reach a cluster and are looked after there, beyond what Snakemake's executor plugins do (docs/upstream.md)."""

BESIDE_MAIN = "beside_main_s"
"""Resource of a job that the main process runs itself: the seconds that it may take there (``quarry.campaign.beside``)."""
