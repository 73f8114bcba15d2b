"""Looks at a campaign whose disk is read-only, and at one that runs at this moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarry.command_line.main import main
from quarry.product.formats import formats
from support.campaigns import REPOSITORY, CampaignFolder, kill_group, stand_in_configuration
from support.faults import read_only
from support.label_desk import wait_until

ENDINGS = {name: entry.endings[0] for name, entry in formats().items()}
SHORT = {"rrmse": None, "max_iterations": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> CampaignFolder:
    folder = CampaignFolder.create(tmp_path_factory.mktemp("finished") / "campaign", stand_in_configuration(stop=SHORT))
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    return folder


def content(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Everything below a folder but Snakemake's own logs, and what a dry run keeps for the next one, with times (ns)."""
    own = (".snakemake/log", ".snakemake/iocache")
    found = (path for path in folder.rglob("*") if path.is_file() and not any(name in str(path) for name in own))
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def look_with_quarry(results: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Ask for everything that ``quarry`` reads of a campaign; return the status."""
    to.mkdir()
    known = [
        (name, ending) for name, ending in ENDINGS.items() if all(p.is_installed for _, p in formats()[name].packages)
    ]
    exports = [["export", "--format", name, "--to", str(to / f"a{ending}")] for name, ending in known]
    for command in (["status", "--json"], ["card"], *exports, ["status"]):
        capsys.readouterr()
        assert main([command[0], str(results), *command[1:]]) == 0
        out, err = capsys.readouterr()
        assert out and not err
    assert len(list(to.iterdir())) == len(known)
    return out


@pytest.mark.parametrize("state", ["finished", "half_written"])
def test_a_disk_that_is_read_only_can_be_looked_at(
    state: str, finished: CampaignFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished.copy(tmp_path / "campaign")
    if state == "half_written":
        iteration = folder.results / "main" / "iter_001"
        for file in ("dataset.h5", "facts.json", "cost.json"):
            (iteration / file).unlink()
        for path in folder.results.glob("*.*"):
            if path.name not in ("campaign.json", "last_run.json"):
                path.unlink()
    (folder.path / "pictures").mkdir()
    with read_only(folder.path):
        words = look_with_quarry(folder.results, tmp_path / "to", capsys)
        assert ("toy: finished" in words) == (state == "finished")
        for look in ("--summary", "--dag"):
            outcome = folder.run(look)
            assert outcome.code == 0, outcome.text[-3000:]
        report = folder.run("--report", str(tmp_path / "report.html"))
        assert (report.code == 0) == (state == "finished") == (tmp_path / "report.html").exists(), report.text[-3000:]
        for refused in (["--report", "results/toy/a.html"], ["dag_pictures"], ["-n"], []):
            outcome = folder.run(*refused)
            (line,) = outcome.lines
            assert outcome.code == 1 and "Traceback" not in outcome.text
            assert "Read-only file system" in outcome.text and ";" in line


@pytest.mark.parametrize("name", ["none/a.html", "a.txt"])
def test_a_report_that_cannot_be_written_is_refused_before_it_is_made(name: str, finished: CampaignFolder) -> None:
    outcome = finished.run("--report", name)
    (line,) = outcome.lines
    assert outcome.code == 1 and line.startswith(f"Quarry: --report {name}: ")
    assert "Building DAG" not in outcome.text


@pytest.fixture
def running(finished: CampaignFolder, tmp_path: Path) -> Iterator[CampaignFolder]:
    """A campaign whose process stands still while it labels its third batch."""
    folder = finished.copy(tmp_path / "campaign")
    process = folder.start("--config", "stop={rrmse: null, max_iterations: 2}", forked_jobs=True)
    try:
        wait_until((folder.results / "main" / "iter_002" / "batch.csv").exists)
        os.killpg(process.pid, signal.SIGSTOP)
        # Jobs that have begun end.
        seen: list[dict[Path, tuple[int, bytes]]] = []
        while len(seen) < 2 or seen[-1] != seen[-2]:
            time.sleep(1.0)
            seen.append(content(folder.path))
        yield folder
    finally:
        kill_group(process)


def test_a_campaign_that_runs_can_be_looked_at(
    running: CampaignFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not disturbed, and nothing is written but the pictures and the log of their job."""
    before = content(running.path)
    words = look_with_quarry(running.results, tmp_path / "to", capsys)
    assert "toy: running here" in words and "iteration 2: " in words
    for look, code in (("--summary", 0), ("--dag", 0), ("-n", 0), ("--report", 1), ("--cores=1", 1)):
        more = [str(tmp_path / "report.html")] if look == "--report" else []
        outcome = running.run(look, *more, "--config", "stop={rrmse: null, max_iterations: 2}")
        assert outcome.code == code, outcome.text[-3000:]
        assert "Traceback" not in outcome.text and (code == 0 or len(outcome.lines) == 1), outcome.text[-3000:]
        assert ("being run by process" in outcome.text) == (look == "--cores=1")
    assert content(running.path) == before
    outcome = running.run("dag_pictures", "--config", "stop={rrmse: null, max_iterations: 2}")
    assert outcome.code == 0, outcome.text[-3000:]
    after = content(running.path)
    assert {path.name for path in after if path not in before} == {
        "dag_rules.svg",
        "dag_iteration.svg",
        "dag_pictures.log",
    }
    assert {path: after[path] for path in before} == before
    picture = (running.results / "figures" / "dag_iteration.svg").read_text()
    assert "toy: iteration 2" in picture and "label_structure" in picture


def test_who_watches_a_campaign_sees_it_end(running: CampaignFolder) -> None:
    command = [sys.executable, "-c", "import sys; from quarry.command_line.main import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*command, "status", "results/toy", "--watch"],
        cwd=running.path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline().startswith("toy: running here")
    before = content(running.path)
    owner = json.loads((running.results / ".lease.json").read_text())
    os.kill(owner["pid"], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "toy: broken off" in out
    assert {path: data for path, data in content(running.path).items() if path in before} == before
