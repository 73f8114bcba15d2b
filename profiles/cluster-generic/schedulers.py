"""How each scheduler is told to run a job, to list the jobs that are not over, and to cancel one."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

STATE = Path(".snakemake/cluster-generic")
"""Records of submitted jobs, in the working directory: the main process and the jobs both see it."""


@dataclass(frozen=True)
class Request:
    """What a job needs. `memory_mb`, `minutes` and `gpus` are None where the rule does not say."""

    name: str
    threads: int
    memory_mb: int | None
    minutes: int | None
    log: str
    shell: str = "/bin/sh"
    gpus: int | None = None

    @property
    def clock(self) -> str:
        """The time limit as hours:minutes:seconds."""
        minutes = self.minutes or 0
        return f"{minutes // 60}:{minutes % 60:02d}:00"


@dataclass(frozen=True)
class Scheduler:
    """One kind of scheduler. `submit` builds a command that reads the job script from its standard input."""

    submit: Callable[[Request], list[str]]
    job_id: str
    queue: list[str]
    active: Callable[[list[str]], bool]
    cancel: list[str]
    empty: str = "$never"

    def parse_job_id(self, output: str) -> str:
        """Return the job id in what the submit command printed, the last one: sites print banners before it.

        Raises ValueError if there is none.
        """
        found = re.findall(self.job_id, output, re.MULTILINE)
        if not found:
            raise ValueError(f"no job id in {output.strip()!r}")
        return str(found[-1])

    def active_jobs(self) -> set[str] | None:
        """Return the numbers of this user's jobs that wait or run; None if the scheduler did not answer."""
        command = [part.replace("USER", getpass.getuser()) for part in self.queue]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)
            return None
        if answer.returncode != 0:
            print(answer.stderr.strip(), file=sys.stderr)
            return set() if re.search(self.empty, answer.stderr) else None
        rows = [line.split() for line in answer.stdout.splitlines() if re.match(r"\s*\d", line)]
        return {number(row[0]) for row in rows if self.active(row)}


def number(job_id: str) -> str:
    """Return the number of a job id without the server's name, which listings cut off."""
    return re.match(r"\d*", job_id.strip()).group()  # type: ignore[union-attr]


def option(template: str, value: object) -> list[str]:
    """Return the words of `template` with `value` filled in; nothing for None."""
    return [] if value is None else template.format(value).split()


def _slurm(job: Request) -> list[str]:
    return [
        *("sbatch", "--parsable", f"--job-name={job.name}", f"--output={job.log}"),
        *("--nodes=1", "--ntasks=1", f"--cpus-per-task={job.threads}"),
        *option("--mem={}M", job.memory_mb),
        *option("--time={}", job.minutes),
        *option("--gpus={}", job.gpus),
    ]


def _qsub(job: Request, *chunk: str) -> list[str]:
    walltime = option("-l walltime={}", job.minutes and job.clock)
    return ["qsub", "-V", "-N", job.name[:15], "-S", job.shell, "-j", "oe", "-o", job.log, *chunk, *walltime]


def _pbs(job: Request) -> list[str]:
    memory = "" if job.memory_mb is None else f":mem={job.memory_mb}mb"
    gpus = "" if job.gpus is None else f":ngpus={job.gpus}"
    return _qsub(job, "-l", f"select=1:ncpus={job.threads}{gpus}{memory}")


def _torque(job: Request) -> list[str]:
    gpus = "" if job.gpus is None else f":gpus={job.gpus}"
    return _qsub(job, "-l", f"nodes=1:ppn={job.threads}{gpus}", *option("-l mem={}mb", job.memory_mb))


def _sge(job: Request) -> list[str]:
    # h_vmem counts per slot. The names of the parallel environment and of the GPUs are the site's own.
    environment = ["-pe", os.environ.get("QUARRY_SGE_PE", "smp"), str(job.threads)] if job.threads > 1 else []
    return [
        *("qsub", "-terse", "-V", "-cwd", "-N", job.name, "-S", job.shell, "-j", "y", "-o", job.log),
        *environment,
        *option("-l h_vmem={}M", job.memory_mb and -(-job.memory_mb // job.threads)),
        *option("-l h_rt={}", job.minutes and job.minutes * 60),
        *option(f"-l {os.environ.get('QUARRY_SGE_GPU', 'gpu')}={{}}", job.gpus),
    ]


def _lsf(job: Request) -> list[str]:
    return [
        *("bsub", "-J", job.name, "-o", job.log, "-n", str(job.threads), "-R", "span[hosts=1]"),
        *option("-M {0}MB -R rusage[mem={0}MB]", job.memory_mb),
        *option("-W {}", job.minutes),
        *option("-gpu num={}", job.gpus),
    ]


def _sge_active(row: list[str]) -> bool:
    # A job in error (Eqw) never starts. The state stands before the date.
    state = next((row[i - 1] for i, word in enumerate(row) if re.fullmatch(r"\d\d/\d\d/\d{4}", word)), "")
    return not state.startswith("E")


_PBS_QUEUE: dict[str, Any] = {
    "job_id": r"^(\d+(?:\[\])?(?:\.\S+)?)\s*$",
    "queue": ["qstat", "-u", "USER"],
    "active": lambda row: row[9] not in "CFX",
    "cancel": ["qdel"],
}
SCHEDULERS = {
    "slurm": Scheduler(
        _slurm,
        r"^(\d+)(?:;\S*)?\s*$",
        ["squeue", "--noheader", "--user=USER", "--format=%i"],
        lambda row: True,
        ["scancel"],
    ),
    "pbs": Scheduler(_pbs, **_PBS_QUEUE),
    "torque": Scheduler(_torque, **_PBS_QUEUE),
    "sge": Scheduler(_sge, r"^(\d+)(?:\.\S+)?\s*$", ["qstat", "-u", "USER"], _sge_active, ["qdel"]),
    "lsf": Scheduler(
        _lsf,
        r"Job <(\d+)>",
        ["bjobs", "-noheader", "-o", "jobid stat"],
        lambda row: row[1] not in ("DONE", "EXIT", "ZOMBI"),
        ["bkill"],
        empty="No unfinished job found",
    ),
}
_SIGNS = {"sbatch": "slurm", "bsub": "lsf", "qconf": "sge", "pbsnodes": "pbs"}


def detect() -> str:
    """Return the scheduler's name: QUARRY_SCHEDULER, or the first one whose commands are in PATH."""
    name = os.environ.get("QUARRY_SCHEDULER")
    name = name or next((name for command, name in _SIGNS.items() if shutil.which(command)), None)
    if name not in SCHEDULERS:
        refuse(f"{name or 'no scheduler found in PATH'}: set QUARRY_SCHEDULER to one of {', '.join(SCHEDULERS)}")
    return name


def refuse(words: str) -> NoReturn:
    """End without a job. The main process reads on standard output why, and decides whether to try again."""
    print(words)
    sys.exit(1)


def record_path(job_id: str) -> Path:
    """Return where the record of a submitted job is kept."""
    return STATE / f"{job_id}.job"


def read_record(job_id: str) -> dict[str, str]:
    """Return a job's scheduler, token and log. Raises FileNotFoundError for a job that was not submitted from here."""
    record: dict[str, str] = json.loads(record_path(job_id).read_text())
    return record


def replace_file(path: Path, content: object) -> None:
    """Write JSON so that readers see the old content or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)
