"""A real Slurm cluster for the tests of this folder, and Snakemake runs that leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.job_processes import quick_python

HERE = Path(__file__).parent
NODES = 4


@dataclass(frozen=True)
class SlurmCluster:
    """Four virtual nodes n1 ... n4 with 4 CPUs and 8000 MB each, on this machine. `environment` selects it."""

    environment: dict[str, str]
    nodes: list[str]

    def run(self, *command: str) -> str:
        """Return what a Slurm command prints."""
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def queue(self) -> list[str]:
        """Return the ids of the jobs that wait or run."""
        return self.run("squeue", "--noheader", "--format=%i").split()

    def stop_controller(self) -> None:
        """End slurmctld; running jobs go on."""
        pid = self._state / "run" / "slurmctld.pid"
        os.kill(int(pid.read_text()), signal.SIGTERM)
        end = time.monotonic() + 30
        while self.answers():
            assert time.monotonic() < end, "slurmctld does not end"
            time.sleep(0.1)

    def start_controller(self) -> None:
        """Start slurmctld again, with the state that it had."""
        end = time.monotonic() + 30
        while not self.answers():
            subprocess.run(["slurmctld"], env=self._daemons, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            assert time.monotonic() < end, "slurmctld does not start"
            time.sleep(0.5)

    def kill_node(self, node: str) -> None:
        """Kill the slurmd of a node; the processes of its jobs run on."""
        os.kill(int((self._state / "run" / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)

    def answers(self) -> bool:
        """Return whether the controller answers."""
        ping = subprocess.run(["scontrol", "ping"], env=self.environment, capture_output=True, text=True, check=False)
        return "is UP" in ping.stdout

    @property
    def _state(self) -> Path:
        return Path(self.environment["SLURM_CONF"]).parents[1]

    @property
    def _daemons(self) -> dict[str, str]:
        return {**self.environment, "PATH": f"{self.environment['PATH']}:/usr/sbin:/sbin"}


def free_ports(count: int) -> int:
    """Return the first of `count` neighbouring loopback ports that nobody listens on."""
    for first in range(20000 + os.getpid() % 10000, 60000, count):
        with ExitStack() as sockets, suppress(OSError):
            for port in range(first, first + count):
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise OSError("no free ports")


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Start the cluster and stop it, jobs included, at the end of the session."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [
        name for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if not shutil.which(name, path=path)
    ]
    if missing:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("starting Slurm's daemons needs root")
    # Not tmp_path: the path of munge's socket must stay below 108 characters.
    directory = Path(tempfile.mkdtemp(prefix="quarry-slurm-"))
    settings = {
        "QUARRY_SLURM_DIR": str(directory),
        "QUARRY_SLURM_PORT": str(free_ports(NODES + 1)),
        "QUARRY_SLURM_NODES": str(NODES),
        "QUARRY_SLURM_CPUS": "4",
        "QUARRY_SLURM_MEM_MB": "8000",
    }
    script = [str(HERE / "slurm_cluster.sh")]
    try:
        started = subprocess.run([*script, "start"], env={**os.environ, **settings}, capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        yield SlurmCluster(
            environment={
                **os.environ,
                "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
                "SLURM_CONF": str(directory / "etc" / "slurm.conf"),
                "OMP_NUM_THREADS": "1",
            },
            nodes=[f"n{i}" for i in range(1, NODES + 1)],
        )
    finally:
        subprocess.run([*script, "stop"], env={**os.environ, **settings}, check=True)
        shutil.rmtree(directory)


@dataclass
class Run:
    """A main process of Snakemake in a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """What the run has printed so far."""
        return self.log.read_text()

    def wait(self, timeout_s: float = 120) -> tuple[int, str]:
        """Return exit code and output; a run that takes longer is killed and fails the test."""
        try:
            return self.process.wait(timeout_s), self.output
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"no end after {timeout_s} s:\n{self.output}")

    def wait_until(self, condition: Callable[[], object], what: str, timeout_s: float = 180) -> None:
        """Return when `condition` is true; after `timeout_s` seconds the test fails."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"no {what} after {timeout_s} s:\n{self.output}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start_snakemake(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Return a function that starts Snakemake in a folder: (folder, *options, environment, forked) -> Run.

    forked: it and its jobs are forked from a process that has their imports; not where one of them is to be killed.
    """
    runs: list[Run] = []

    def start(folder: Path, *options: str, environment: dict[str, str], forked: bool = False) -> Run:
        log = tmp_path / f"snakemake-{len(runs)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [quick_python() if forked else sys.executable, "-m", "snakemake", *options],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        runs.append(Run(process, log))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


@pytest.fixture
def run_snakemake(start_snakemake: Callable[..., Run]) -> Callable[..., tuple[int, str]]:
    """Return a function that runs Snakemake to its end: (folder, *options, environment, timeout_s) -> code, output."""

    def run(folder: Path, *options: str, environment: dict[str, str], timeout_s: float = 120) -> tuple[int, str]:
        return start_snakemake(folder, *options, environment=environment).wait(timeout_s)

    return run
