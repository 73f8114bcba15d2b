"""Small campaigns in a folder of their own, run as a user runs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io import write

from quarry.campaign.own_files import OwnFiles
from quarry.campaign.packed import Folder, unpack
from quarry.labeling.record import LabelRecord, decode_records
from support.job_processes import quick_python, with_forked_jobs

REPOSITORY = Path(__file__).parents[2]
SNAKEFILE = REPOSITORY / "Snakefile"

WATER = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]])


def stand_in_configuration(**changes: Any) -> dict[str, Any]:
    """A campaign on 60 distorted waters with stand-in labels: 3 iterations of 3."""
    configuration: dict[str, Any] = {
        "name": "toy",
        "seed": 3,
        "pool": {"source": "file", "files": ["pool.extxyz"]},
        "labeling": {"engine": "function", "function": "stand_in:morse", "retries": 0},
        "descriptor": {"kind": "inverse_distances"},
        "query": {"strategy": "uncertainty_clusters", "initial": 3, "batch": {"schedule": "constant", "size": 3}},
        "test": {"size": 3},
        "stop": {"rrmse": None, "max_iterations": 2},
    }
    return {**configuration, **changes}


@dataclass
class Outcome:
    """What a run of Snakemake left behind."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines that Quarry itself printed."""
        return [line for line in self.text.splitlines() if line.startswith("Quarry:")]

    @property
    def nothing_to_do(self) -> bool:
        return "Nothing to be done" in self.text


@dataclass
class CampaignFolder:
    """A working directory with a campaign file, a pool and the stand-in engine."""

    path: Path
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    forked_jobs: bool = True
    """Whether ``run`` forks Snakemake and its jobs from a process that has their imports."""
    snakefile: Path = SNAKEFILE

    @staticmethod
    def create(path: Path, configuration: dict[str, Any] | None = None, size: int = 60) -> CampaignFolder:
        path.mkdir(parents=True, exist_ok=True)
        folder = CampaignFolder(path)
        folder.configure(configuration or stand_in_configuration())
        rng = np.random.default_rng(0)
        write(path / "pool.extxyz", [Atoms("OHH", WATER + rng.normal(0, 0.06, (3, 3))) for _ in range(size)])
        shutil.copy(REPOSITORY / "tests" / "support" / "stand_in.py", path)
        return folder

    def configure(self, configuration: dict[str, Any]) -> None:
        (self.path / "campaign.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))

    def copy(self, path: Path) -> CampaignFolder:
        """Copy the folder with everything in it, modification times included."""
        shutil.copytree(self.path, path, symlinks=True, ignore=shutil.ignore_patterns("log", "background.log"))
        return CampaignFolder(path, list(self.options), dict(self.environment), self.forked_jobs)

    def unpack(self, arms: str = "*") -> CampaignFolder:
        """Put the files of finished iterations back in their places, where they are while a campaign runs."""
        with contextlib.chdir(self.path):
            for archive in Path("results").glob(f"*/{arms}/iter_*/packed.zip"):
                assert unpack(archive.parent, OwnFiles(archive.parents[2])) == []
        return self

    def labels(self, iterations: str = "main/iter_*", name: str | None = None) -> list[LabelRecord]:
        """Return the label records of some iterations, packed or not. name: of another campaign in the folder."""
        results = self.results if name is None else self.results.with_name(name)
        folders = [Folder(iteration / "labels") for iteration in results.glob(iterations)]
        files = [(folder.read(name), name) for folder in folders for name in folder.names()]
        return [record for content, name in files for record in decode_records(content, name)]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *self.arguments(*arguments)]

    def arguments(self, *arguments: str) -> list[str]:
        base = ["-s", str(self.snakefile), "--configfile", "campaign.yaml"]
        cores = (
            []
            if any(
                a in ("-c", "--cores", "--profile", "--workflow-profile") or a.startswith("-c")
                for a in [*arguments, *self.options]
            )
            else ["--cores", "2"]
        )
        return [*base, *cores, *self.options, *arguments]

    def env(self) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith("QUARRY_")}
        # Tests read what Snakemake says of its jobs.
        shown = {"QUARRY_TERMINAL": "snakemake"}
        return {**keep, "XDG_CONFIG_HOME": str(self.path / "xdg"), **shown, **self.environment}

    def run(self, *arguments: str, timeout: float = 300) -> Outcome:
        """Run Snakemake to its end."""
        return self._run(self.arguments(*arguments), timeout)

    def run_as_given(self, *arguments: str, timeout: float = 300) -> Outcome:
        """Run Snakemake with these arguments alone, no campaign file among them."""
        return self._run(["-s", str(self.snakefile), *arguments], timeout)

    def _run(self, arguments: list[str], timeout: float) -> Outcome:
        python = quick_python() if self.forked_jobs else sys.executable
        # A file: what a run leaves behind would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            try:
                done = subprocess.run(
                    [python, "-m", "snakemake", *arguments],
                    cwd=self.path,
                    env=self.env(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                output.seek(0)
                raise AssertionError(f"no end after {timeout} s: {output.read()[-3000:]}") from error
            output.seek(0)
            return Outcome(done.returncode, output.read())

    def start(self, *arguments: str, forked_jobs: bool = False) -> subprocess.Popen[str]:
        """Start Snakemake in a process group of its own. forked_jobs: as of ``run``, of its jobs alone."""
        return self._start(self.arguments(*arguments), forked_jobs)

    def start_as_given(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake with these arguments alone in a process group of its own."""
        return self._start(["-s", str(self.snakefile), *arguments])

    def _start(self, arguments: list[str], forked_jobs: bool = False) -> subprocess.Popen[str]:
        log = open(self.path / "background.log", "a")  # noqa: SIM115 (the child keeps it)
        return subprocess.Popen(
            [*(with_forked_jobs() if forked_jobs else [sys.executable, "-m", "snakemake"]), *arguments],
            cwd=self.path,
            env=self.env(),
            text=True,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def calls(self) -> list[str]:
        """Structure ids of all finished engine calls, in their order."""
        log = self.path / "calls.log"
        return log.read_text().split() if log.exists() else []

    def stored(self) -> set[str]:
        """Structure ids in the label store."""
        return {p.stem for p in (self.path / "label_store").glob("*/??/*.json")}

    @property
    def results(self) -> Path:
        name = yaml.safe_load((self.path / "campaign.yaml").read_text())["name"]
        return self.path / "results" / name

    def products(self) -> dict[str, bytes]:
        """Bytes of everything that must not depend on how often the campaign was interrupted."""
        wanted = ("dataset.h5", "dataset.extxyz", "failures.csv", "model.h5", "facts.json", "batch.csv", "proposal.csv")
        files = sorted(p for p in self.results.rglob("*") if p.name in wanted)
        return {str(p.relative_to(self.results)): p.read_bytes() for p in files}


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a process and all its children at once, as a crash of the machine does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
