"""Draw the graph of the campaign's rules and that of the last iteration's jobs."""

import json
import os
import subprocess
import sys
from pathlib import Path

from quarry.campaign.invocation import COMMAND
from quarry.campaign.job import job
from quarry.errors import QuarryError
from quarry.terminal import tell

with job(snakemake, receipt=False):
    from quarry.status.draw_dag import draw_dag

    parameters = snakemake.params
    if COMMAND not in os.environ:
        raise QuarryError(
            "dag_pictures draws what a command line asks for, and there is none; run snakemake dag_pictures"
        )
    given = json.loads(os.environ[COMMAND])
    command = [sys.executable, "-m", "snakemake", "--dag", "dot", *(word for word in given if word != snakemake.rule)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if process.returncode:
        last = process.stderr.strip().rpartition("\n")[2]
        raise QuarryError(f"snakemake --dag has failed: {last}; run it by itself to see more")
    name = Path(parameters.figures).parent.name
    for path in draw_dag(process.stdout, parameters.figures, name, parameters.rules):
        tell(f"drawn: {path}")
