#!/usr/bin/env python3
"""Submit a job script to the cluster's scheduler and print the job id, or with exit code 1 why it was not taken.

submit.py [OPTION FOR sbatch, qsub OR bsub ...] JOBSCRIPT

The job gets a few lines around it that leave its exit code in a file, where status.py finds it: schedulers forget
finished jobs, and being gone from the queue is not success.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from schedulers import SCHEDULERS, STATE, Request, detect, record_path, refuse, replace_file


def read_properties(script: str) -> dict[str, Any]:
    """Return what Snakemake says about the job in the head of its script."""
    found = re.search(r"^# properties = (.*)$", script, re.MULTILINE)
    if found is None:
        refuse("the job script has no line '# properties = ...'; keep it in your --jobscript")
    properties: dict[str, Any] = json.loads(found.group(1))
    return properties


def whole_number(resources: dict[str, Any], name: str) -> int | None:
    """Return a resource that must be a whole number; None if the rule does not set it."""
    value = resources.get(name)
    if value is None or (isinstance(value, int) and value > 0):
        return value
    refuse(f"resources: {name} must be a positive whole number, not {value!r}")


def reporting_script(script: str, marker: Path) -> str:
    """Wrap the job so that its exit code is in `marker` when it has ended, whole or not at all.

    The comments at the head stay in front: the shell's line and a site's own scheduler directives.
    """
    lines = script.splitlines()
    head = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(
        [
            *lines[:head],
            "(",
            *lines[head:],
            ")",
            "code=$?",
            f"marker={shlex.quote(str(marker))}",
            'echo $code > "$marker.tmp" && mv "$marker.tmp" "$marker" || exit 1',
            "exit $code",
            "",
        ]
    )


def link_tools() -> None:
    """Make status.py and cancel.py reachable from the working directory under the names that the profile gives."""
    for name in ("status.py", "cancel.py"):
        tool, link = Path(__file__).resolve().with_name(name), STATE / name
        if not link.is_symlink() or link.readlink() != tool:
            temporary = link.with_name(f"{name}.{os.getpid()}.tmp")
            temporary.symlink_to(tool)
            temporary.replace(link)


def environment() -> dict[str, str]:
    """Return the environment without the variables of a Slurm job that the main process itself runs in."""
    return {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or not key.startswith("SLURM_")}


def main(arguments: list[str]) -> None:
    """Submit the job script, the last argument; the others are options for the scheduler's submit command."""
    *site_options, jobscript = arguments
    scheduler_name = detect()
    scheduler = SCHEDULERS[scheduler_name]
    script = Path(jobscript).read_text()
    properties = read_properties(script)
    resources = properties.get("resources", {})
    rule = re.sub(r"[^A-Za-z0-9_.-]", "_", str(properties.get("rule") or properties.get("groupid")))
    name = f"{rule}.{properties['jobid']}"
    token = f"{name}.{secrets.token_hex(4)}"
    log = Path("logs/cluster-generic", rule, f"{token}.log").absolute()
    log.parent.mkdir(parents=True, exist_ok=True)
    STATE.mkdir(parents=True, exist_ok=True)
    link_tools()
    request = Request(
        name=name,
        threads=properties.get("threads", 1),
        memory_mb=whole_number(resources, "mem_mb"),
        minutes=whole_number(resources, "runtime"),
        gpus=whole_number(resources, "gpu"),
        log=str(log),
        shell=script.splitlines()[0].removeprefix("#!").strip() if script.startswith("#!") else "/bin/sh",
    )
    submitted = subprocess.run(
        [*scheduler.submit(request), *site_options],
        input=reporting_script(script, (STATE / f"{token}.exit").absolute()),
        capture_output=True,
        text=True,
        env=environment(),
    )
    if submitted.returncode != 0:
        refuse(submitted.stderr.strip() or submitted.stdout.strip() or f"exit code {submitted.returncode}")
    sys.stderr.write(submitted.stderr)
    job_id = scheduler.parse_job_id(submitted.stdout)
    try:
        replace_file(record_path(job_id), {"scheduler": scheduler_name, "token": token, "log": str(log)})
    except OSError:
        # Nobody would see its end.
        subprocess.run([*scheduler.cancel, job_id], stdout=subprocess.DEVNULL, check=False)
        raise
    print(job_id)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        refuse(str(error))
