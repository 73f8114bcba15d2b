# What single rules ask for; what several rules share stands in common.smk.


def proposal(wildcards):
    """Return what select_batch waits for: a proposal, or in iteration 0 the first arm's labels, which it reuses."""
    arm, iteration = wildcards.arm, int(wildcards.iteration)
    if iteration > 0:
        wanted = PATHS.iteration("proposal.csv", arm, wildcards.iteration)
        return [] if CAMPAIGN.only_retries(arm, iteration) else wanted
    first = CAMPAIGN.arms[0]
    return [] if arm == first else taken_from_disk(first, 0, PATHS.iteration("dataset.h5", first, 0))


def scores(wildcards):
    """Return the scores of the pool where the arm's strategy looks at them."""
    arm = wildcards.arm
    return PATHS.iteration("scores.h5", arm, wildcards.iteration) if CAMPAIGN.plans[arm].scored else []


def members(wildcards):
    """Return the members of the arm's committee, nothing for a model that is trained by one job."""
    return PATHS.parts("train_member", wildcards.arm, wildcards.iteration, CAMPAIGN.plans[wildcards.arm])


def start_of(wildcards):
    """Return the model that the training begins from, nothing where it begins afresh."""
    model = CAMPAIGN.configuration.arm(wildcards.arm).model
    return from_previous("model/model.h5")(wildcards) if getattr(model, "start", "fresh") == "last" else []


def features_of(wildcards):
    """Return the descriptor of the pool, nothing in a campaign without one."""
    return PATHS.features if CAMPAIGN.configuration.descriptor is not None else []


def normal_modes(wildcards):
    """Return the normal modes that are to be computed for a wigner pool."""
    return PATHS.normal_modes if CAMPAIGN.configuration.computes_modes else []


def pool_labels(wildcards):
    """Return the labels of the whole pool where they are known and a targeted search is measured by them."""
    return PATHS.pool_labels if CAMPAIGN.configuration.knows_pool else []


def recomputed(check, count):
    """Return the recomputed labels of a check. The seed is in their path: with another one, others are computed."""
    return [PATHS.recomputed(check, CAMPAIGN.configuration.verification.seed, number) for number in range(count)]


def probe_labels(wildcards):
    """Return the labels that tell a forecast the cost, where the campaign has none of its own."""
    if CAMPAIGN.has_facts(CAMPAIGN.arms[0], 0):
        return []
    batch = checkpoints.choose_probes.get().output.batch
    return [PATHS.label(job, PROBES_ARM, 0) for job in CAMPAIGN.jobs(batch)]


def cores_of_run(wildcards):
    """Return the cores that label jobs may use at a time: on a cluster, those of all jobs in the queue."""
    settings, label = workflow.resource_settings, CAMPAIGN.configuration.resources.label
    return settings.cores or settings.nodes * label.threads * label.tasks


def facts_before(wildcards):
    """Return the facts of all iterations before the rule's own."""
    earlier = range(int(wildcards.iteration))
    return [taken_from_disk(wildcards.arm, t, PATHS.facts(wildcards.arm, t)) for t in earlier]


def trajectories(wildcards):
    """Return what the iteration's trajectories have found, nothing where candidates come from elsewhere."""
    return PATHS.parts("explore", wildcards.arm, wildcards.iteration, CAMPAIGN.plans[wildcards.arm])


def figures(wildcards):
    """Return the pictures of the campaign by their names."""
    files = [item for rule in CAMPAIGN.drawing_rules for item in PATHS.outputs(rule).items()]
    return {name: path for name, path in files if path.endswith(".svg")}


def settings_of_uses(*sections):
    """Return an input function: what a step of a use depends on; an inspection before the first has no such files."""

    def paths(wildcards):
        names = [f"{section}.settings" for section in sections]
        return [PATHS.use_step(name) for name in names if Path(CAMPAIGN.paths.use_step(name)).exists()]

    return paths


def first_structure(wildcards):
    """Return the file of the structure that uses begin with, nothing where it is a labelled one."""
    named = CAMPAIGN.configuration.uses.structure
    return str(CAMPAIGN.base / named) if named else []


def result_of_use(use):
    """Return the picture of a use, for the report."""
    return report(PATHS.use(f"{use}.svg"), category="Uses", labels={"figure": use}, caption=f"../report/use_{use}.rst")
