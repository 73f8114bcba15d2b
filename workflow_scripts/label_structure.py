"""Label the structures of one leaf file."""

from quarry.campaign.job import configuration_of, job, manifest_of, store_of

with job(snakemake, receipt=False):
    from quarry.labeling.engines.registry import make_engine
    from quarry.labeling.labeler import label_leaf

    configuration, manifest = configuration_of(snakemake), manifest_of(snakemake)
    label_leaf(
        leaf=snakemake.input[0],
        output=snakemake.output[0],
        engine=make_engine(configuration.labeling),
        method_id=manifest["method_id"],
        store=store_of(configuration, manifest),
        origin={
            "campaign_id": manifest["campaign_id"],
            "campaign": configuration.name,
            "arm": snakemake.wildcards.arm,
            "iteration": int(snakemake.wildcards.iteration),
        },
        threads=snakemake.threads,
    )
