"""A step of a use of the potential on the reference's side: labels by the campaign's engine."""

from quarry.campaign.job import configuration_of, job, manifest_of, store_of, stores_before

with job(snakemake, receipt=False, again=True) as log:
    from quarry.campaign.lease import run_of
    from quarry.campaign.manifest import is_store_of
    from quarry.labeling.attempts import Attempts
    from quarry.labeling.labeler import Books
    from quarry.labeling.ledger import LabelLedger
    from quarry.labeling.limits import Allocation
    from quarry.stages import uses
    from quarry.stages.labeling import Sender
    from quarry.stages.reference_labels import ReferenceLabels

    given, made, params = snakemake.input, snakemake.output, snakemake.params
    configuration, manifest = configuration_of(snakemake), manifest_of(snakemake)
    store = store_of(configuration, manifest)
    labels = ReferenceLabels(
        configuration,
        params.base,
        Books(
            store,
            LabelLedger(params.failed),
            Attempts(params.attempts),
            earlier=stores_before(configuration, manifest),
            is_current=lambda: is_store_of(params.manifest, store.folder.parent),
        ),
        Sender(
            {"campaign_id": manifest["campaign_id"], "campaign": configuration.name, "arm": "uses", "iteration": 0},
            run_of(params.lease),
        ),
        Allocation(
            configuration.resources.label.threads_of(snakemake.threads),
            snakemake.resources.mem_mb,
            snakemake.resources.runtime,
        ),
    )
    settings = configuration.uses
    if params.step == "relax":
        uses.relax_by_labels(settings, given.minimum, labels, made[0], log)
    elif params.step == "displace":
        uses.displace_by_labels(settings, given.minimum, labels, int(snakemake.wildcards.part), made[0])
    elif params.step == "hop":
        from quarry.stages.surface_hopping import hop_by_labels

        part, trajectories = int(snakemake.wildcards.part), given.trajectories
        hop_by_labels(settings.surface_hopping, configuration.seed, given.minimum, trajectories, labels, part, made[0])
    else:
        part = int(snakemake.wildcards.part)
        uses.frames_by_labels(settings, given.minimum, given.trajectory, labels, part, made[0])
