"""The job graph of a campaign through Snakemake's API."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from support.campaigns import SNAKEFILE, CampaignFolder

PROGRAM = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, RerunTrigger, ResourceSettings
snakefile, targets = Path(sys.argv[1]), sys.argv[2:]
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    workflow = api.workflow(
        snakefile=snakefile,
        resource_settings=ResourceSettings(cores=2),
        config_settings=ConfigSettings(configfiles=[Path("campaign.yaml")]),
    )
    dag = workflow.dag(DAGSettings(targets=set(targets), rerun_triggers={RerunTrigger.MTIME, RerunTrigger.INPUT}))
    dag.execute_workflow(executor="dryrun")
    graph = workflow._workflow.dag
    jobs = [[job.rule.name, dict(job.wildcards.items()), bool(graph.needrun(job))] for job in graph.jobs]
print("GRAPH " + json.dumps(jobs))
"""


def graph_of(
    folder: CampaignFolder, invocation: str = "dry_run", *targets: str
) -> list[tuple[str, dict[str, str], bool]]:
    """Return (rule, wildcards, must run) of every job in the graph that Snakemake's API builds for a dry run.

    In a process of its own: the API changes the working directory and keeps state between workflows.
    """
    import json

    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SNAKEFILE), *targets],
        cwd=folder.path,
        env={**os.environ, "QUARRY_INVOCATION": invocation},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    line = next((x for x in process.stdout.splitlines() if x.startswith("GRAPH ")), None)
    assert line is not None, process.stdout[-2000:] + process.stderr[-2000:]
    return [(rule, wildcards, needed) for rule, wildcards, needed in json.loads(line[6:])]


def rules_to_run(folder: CampaignFolder, *targets: str) -> Counter[str]:
    """Return how many jobs of each rule a real run would start with."""
    return Counter(rule for rule, _, needed in graph_of(folder, "dry_run", *targets) if needed)


def all_rules(folder: CampaignFolder) -> Counter[str]:
    """Return how many jobs of each rule the whole campaign has, finished ones included."""
    return Counter(rule for rule, _, _ in graph_of(folder, "inspection"))


def touch(path: Path) -> None:
    """Make a file newer than everything."""
    os.utime(path)
