"""Campaign files of ``quarry new`` run as they are: a dry run finds nothing wrong with them."""

import subprocess

import pytest

from quarry.command_line.main import main
from quarry.command_line.new import TASKS
from support.campaigns import REPOSITORY
from support.job_processes import quick_python
from support.new_campaigns import write_structures


@pytest.mark.parametrize("task", TASKS)
def test_a_new_campaign_runs_as_it_is(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    molecule = write_structures(tmp_path)[task]
    assert main(["new", "--task", task, "--molecule", molecule, "--to", "mine.yaml"]) == 0
    command = [quick_python(), "-m", "snakemake", "-s", REPOSITORY / "Snakefile", "-n", "--configfile", "mine.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
