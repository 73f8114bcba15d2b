"""Quarry: active-learning labeling campaigns. `snakemake` runs and resumes; config/README.md explains every key."""

import os
import runpy
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27.1")

if isinstance(workflow.current_basedir, os.PathLike):
    sys.path.insert(0, str(Path(workflow.current_basedir) / "workflow_scripts"))
else:
    # Read from a git repository (github(...), as snakedeploy writes it): Snakemake has this file and no library beside it.
    runpy.run_path(workflow.source_path("workflow_scripts/quarry/campaign/checkout.py"))["check_out"](workflow)

from quarry.campaign.arguments import DEFAULT_CAMPAIGN
from quarry.campaign.opening import open_campaign, reads_default_campaign, start_campaign
from quarry.campaign.paths import CampaignPaths

# A campaign file given with --configfile stands alone: the default campaign is read only when there is none.
if reads_default_campaign(workflow):

    configfile: str(DEFAULT_CAMPAIGN)


CAMPAIGN = open_campaign(workflow, config)
# What rules name: as a module of another Snakefile, Snakemake puts the module's prefix before it. CAMPAIGN.paths has it.
PATHS = CampaignPaths(CAMPAIGN.configuration.name)
# Of a Snakefile that has rules of its own before it takes those of a module, the first of its own stays the default.
IS_DEFAULT = workflow.default_target is None


report: "report/workflow.rst"


wildcard_constraints:
    arm="[a-z_][a-z0-9_]*",
    iteration="[0-9]+",
    job="[0-9a-z_]+",


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/pool.smk"
include: "rules/dynamics.smk"
include: "rules/query.smk"
include: "rules/label.smk"
include: "rules/learn.smk"
include: "rules/results.smk"
include: "rules/report.smk"
include: "rules/spectrum.smk"
include: "rules/forecast.smk"
include: "rules/verify.smk"
include: "rules/uses.smk"
include: "rules/use_hopping.smk"
include: "rules/use_results.smk"
include: "rules/pictures.smk"


whole_campaign = [*[walk_arm(arm) for arm in CAMPAIGN.arms], products]


rule all:
    """The campaign: every arm walked to its end, its product, and the figures of the report."""
    default_target: IS_DEFAULT
    input:
        whole_campaign,


rule retry_failed:
    """The campaign, with its failed labels tried again (asked for when the Snakefile is read)."""
    input:
        whole_campaign,


start_campaign(workflow, CAMPAIGN)


onsuccess:
    close_finished(CAMPAIGN)


onerror:
    close_unfinished(CAMPAIGN)
