"""The job graph of a campaign through Snakemake's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
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
    jobs = [
        dict(
            rule=job.rule.name,
            wildcards=dict(job.wildcards.items()),
            needed=bool(graph.needrun(job)),
            outputs=list(map(str, job.output)),
            needs=[[other.rule.name, dict(other.wildcards.items())] for other in graph.dependencies[job]],
        )
        for job in graph.jobs
    ]
print("GRAPH " + json.dumps(jobs))
"""


@dataclass(frozen=True)
class Job:
    """A job of the graph. needed: whether it must run. needs: rule and wildcards of the jobs before it."""

    rule: str
    wildcards: dict[str, str]
    needed: bool
    outputs: list[str]
    needs: list[tuple[str, dict[str, str]]]


def graph_of(
    folder: CampaignFolder, invocation: str = "dry_run", *targets: str
) -> list[tuple[str, dict[str, str], bool]]:
    """Return (rule, wildcards, must run) of every job in the graph (``jobs_of``)."""
    return [(job.rule, job.wildcards, job.needed) for job in jobs_of(folder, invocation, *targets)]


def jobs_of(folder: CampaignFolder, invocation: str = "dry_run", *targets: str) -> list[Job]:
    """Return every job in the graph that Snakemake's API builds for a dry run.

    In a process of its own: the API changes the working directory and keeps state between workflows.
    """
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
    return [Job(**job) for job in json.loads(line[6:])]


def rules_to_run(folder: CampaignFolder, *targets: str) -> Counter[str]:
    """Return how many jobs of each rule a real run would start with."""
    return Counter(rule for rule, _, needed in graph_of(folder, "dry_run", *targets) if needed)


def all_rules(folder: CampaignFolder) -> Counter[str]:
    """Return how many jobs of each rule the whole campaign has, finished ones included."""
    return Counter(rule for rule, _, _ in graph_of(folder, "inspection"))


def touch(path: Path) -> None:
    """Make a file newer than everything."""
    os.utime(path)
