"""Label the structures of one leaf file."""

from quarry.campaign.job import configuration_of, job, manifest_of, store_of, stores_before

with job(snakemake, receipt=False, again=True):
    from quarry.campaign.lease import run_of
    from quarry.campaign.manifest import is_store_of
    from quarry.stages.labeling import label_leaf

    configuration, manifest = configuration_of(snakemake), manifest_of(snakemake)
    store = store_of(configuration, manifest)
    label_leaf(
        configuration,
        leaf=snakemake.input[0],
        output=snakemake.output[0],
        store=store,
        earlier=stores_before(configuration, manifest),
        is_current=lambda: is_store_of(snakemake.params.manifest, store.folder.parent),
        origin={
            "campaign_id": manifest["campaign_id"],
            "campaign": configuration.name,
            "arm": snakemake.wildcards.arm,
            "iteration": int(snakemake.wildcards.iteration),
        },
        run=run_of(snakemake.params.lease),
        base=snakemake.params.base,
        failed=snakemake.params.failed,
        attempts=snakemake.params.attempts,
        threads=configuration.resources.label.threads_of(snakemake.threads),
        memory_MB=snakemake.resources.mem_mb,
        walltime_min=snakemake.resources.runtime,
    )
