"""How jobs reach a cluster and are looked after there, beyond what Snakemake's executor plugins do (docs/upstream.md)."""
