"""Quarry: active-learning labeling campaigns. `snakemake` runs and resumes; config/README.md explains every key."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27.1")

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from quarry.campaign.arguments import DEFAULT_CAMPAIGN
from quarry.campaign.campaign import open_campaign, start_campaign
from quarry.terminal import say

# A campaign file given with --configfile stands alone: the default campaign is read only when there is none.
if not workflow.overwrite_configfiles:

    configfile: str(DEFAULT_CAMPAIGN)


CAMPAIGN = open_campaign(workflow, config, DEFAULT_CAMPAIGN)
PATHS = CAMPAIGN.paths


report: "report/workflow.rst"


wildcard_constraints:
    arm="[a-z_][a-z0-9_]*",
    iteration="[0-9]+",
    job="[0-9a-z_]+",


include: "rules/common.smk"
include: "rules/pool.smk"
include: "rules/query.smk"
include: "rules/label.smk"
include: "rules/learn.smk"
include: "rules/results.smk"
include: "rules/spectrum.smk"
include: "rules/forecast.smk"
include: "rules/verify.smk"


rule all:
    """The campaign: every arm walked to its end, its product, and the figures of the report."""
    default_target: True
    input:
        [walk_arm(arm) for arm in CAMPAIGN.arms],
        products,


rule retry_failed:
    """The campaign, with its failed labels tried again (asked for when the Snakefile is read)."""
    input:
        rules.all.input,


start_campaign(workflow, CAMPAIGN)


onsuccess:
    CAMPAIGN.recovery.pack(say)
    print(closing_words(CAMPAIGN), file=sys.stderr)


onerror:
    print(error_words(CAMPAIGN), file=sys.stderr)
