"""Label the structures of one job input."""

from quarry.campaign.job import configuration_of, job, manifest_of, store_of, stores_before

with job(snakemake, receipt=False, again=True):
    from quarry.campaign.lease import run_of
    from quarry.campaign.manifest import is_store_of
    from quarry.labeling.attempts import Attempts
    from quarry.labeling.labeler import Books
    from quarry.labeling.ledger import LabelLedger
    from quarry.labeling.limits import Allocation
    from quarry.stages.labeling import Sender, label_job_input

    configuration, manifest = configuration_of(snakemake), manifest_of(snakemake)
    store = store_of(configuration, manifest)
    books = Books(
        store,
        LabelLedger(snakemake.params.failed),
        Attempts(snakemake.params.attempts),
        earlier=stores_before(configuration, manifest),
        is_current=lambda: is_store_of(snakemake.params.manifest, store.folder.parent),
    )
    origin = {
        "campaign_id": manifest["campaign_id"],
        "campaign": configuration.name,
        "arm": snakemake.wildcards.arm,
        "iteration": int(snakemake.wildcards.iteration),
    }
    threads = configuration.resources.label.threads_of(snakemake.threads)
    label_job_input(
        configuration,
        base=snakemake.params.base,
        job_input=snakemake.input[0],
        output=snakemake.output[0],
        books=books,
        sender=Sender(origin, run_of(snakemake.params.lease)),
        allocation=Allocation(threads, snakemake.resources.mem_mb, snakemake.resources.runtime),
    )
