"""Input functions. `walk_arm` expands the loop (quarry.campaign.walk)."""

from quarry.campaign.closing import close_finished, close_unfinished
from quarry.campaign.invocation import Invocation
from quarry.campaign.loop import RULES, padded
from quarry.campaign.walk import Walk
from quarry.terminal import say
from quarry.errors import QuarryError


def base_folder(wildcards):
    """Return the folder of the campaign file. (As plain text, braces in its name would be wildcards.)"""
    return str(CAMPAIGN.base)


def taken_from_disk(arm, iteration, path):
    """Return a path; if its iteration is sealed, do not look for the rule that made it."""
    return before_update(path) if CAMPAIGN.is_sealed(arm, iteration) else path


def ask(arm, iteration):
    """Ask for the checkpoints of an iteration, in order."""
    checkpoints.select_batch.get(arm=arm, iteration=padded(iteration))
    checkpoints.assess_iteration.get(arm=arm, iteration=padded(iteration))


WALK = Walk(CAMPAIGN, ask)


def last_iteration(arm):
    """Return the last iteration of an arm. A stop rule that fails is one line; Snakemake then ends the jobs of a run."""
    try:
        return WALK.last(arm)
    except QuarryError as error:
        say(str(error))
        sys.exit(1)


def walk_arm(arm):
    """Return the input function that carries an arm to its end."""

    def walk(wildcards):
        last = last_iteration(arm)
        return taken_from_disk(arm, last, PATHS.facts(arm, last))

    return walk


def from_last(file, arm=None):
    """Return an input function: a file of the last iteration of an arm (of the rule's own arm where none is named)."""

    def path(wildcards):
        name = arm or wildcards.arm
        last = last_iteration(name)
        return taken_from_disk(name, last, PATHS.iteration(file, name, last))

    return path


def of_every_iteration(file, arm):
    """Return a file of every iteration of an arm."""
    return [taken_from_disk(arm, t, PATHS.iteration(file, arm, t)) for t in range(last_iteration(arm) + 1)]


def all_facts(wildcards):
    """Return the facts of every iteration of the rule's arm."""
    return of_every_iteration("facts.json", wildcards.arm)


def of_compared(file):
    """Return a file of every iteration of arm main and of the arms that it is compared with."""
    return [path for arm in ["main", *CAMPAIGN.configuration.compared] for path in of_every_iteration(file, arm)]


def from_previous(file):
    """Return an input function: a file of the previous iteration, nothing in iteration 0."""

    def path(wildcards):
        before = int(wildcards.iteration) - 1
        if before < 0:
            return []
        return taken_from_disk(wildcards.arm, before, PATHS.iteration(file, wildcards.arm, before))

    return path


def candidates(wildcards):
    """Return the structures that an iteration chooses from: the pool, or those that a sampler made for it."""
    arm, iteration = wildcards.arm, int(wildcards.iteration)
    if iteration == 0 or not CAMPAIGN.plans[arm].sampled or CAMPAIGN.only_retries(arm, iteration):
        return PATHS.structures
    return PATHS.iteration("candidates.h5", arm, wildcards.iteration)


def batch_labels(wildcards):
    """Return the label files of a batch."""
    batch = checkpoints.select_batch.get(arm=wildcards.arm, iteration=wildcards.iteration).output.batch
    return [PATHS.label(job, wildcards.arm, wildcards.iteration) for job in CAMPAIGN.jobs(batch)]


def baseline_of(wildcards):
    """Return what the baselines say of the pool, nothing for an arm whose model has none."""
    return PATHS.baseline if CAMPAIGN.configuration.arm(wildcards.arm).model.baseline is not None else []


def from_iterations(file, after=()):
    """Return an input function: a file of the first two and the last iterations of arm main, and of ``after`` each."""

    def paths(wildcards):
        last = last_iteration("main")
        steps = {min(step + more, last) for step in (0, 1, last) for more in (0, *after)}
        return [taken_from_disk("main", step, PATHS.iteration(file, "main", step)) for step in sorted(steps)]

    return paths


def end_of(arm):
    """Return the stop rule that ended an arm, and why in words; empty where none did."""
    reason = CAMPAIGN.stop_reason(arm, last_iteration(arm))
    return ["", ""] if reason is None else [reason.rule, reason.words]


def products(wildcards):
    """Return the files that a campaign leaves for its user."""
    spectrum = bool(CAMPAIGN.configuration.spectrum)
    of_arm = ["collect_results", "describe_model"] + ["compute_spectrum"] * spectrum
    of_campaign = (
        ["publish_results", "describe_dataset", "publish_model"]
        + ["publish_spectrum"] * spectrum
        + CAMPAIGN.drawing_rules
    )
    # The report has the uses of the potential that are there.
    uses = [PATHS.use(f"{use}.svg") for use in CAMPAIGN.shown_uses]
    arms = [path for arm in CAMPAIGN.arms for rule in of_arm for path in PATHS.outputs(rule, arm).values()]
    return arms + [path for rule in of_campaign for path in PATHS.outputs(rule).values()] + uses


def from_product(file, arm=None):
    """Return an input function: a file of an arm's product (of the rule's own arm where none is named).

    A job takes it as it is and does not look for the rules that made it.
    """

    def path(wildcards):
        found = PATHS.arm(arm or wildcards.arm, file)
        return before_update(found) if CAMPAIGN.invocation is Invocation.JOB else found

    return path
