"""Campaigns on cluster-generic without a cluster: the submit command is found, and one that is not there is told at once."""

from __future__ import annotations

import pytest

from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration

SBATCH = """#!/bin/sh
echo "sbatch: error: invalid partition specified: nowhere" >&2
exit 1
"""


@pytest.fixture
def folder(tmp_path):
    folder = CampaignFolder.create(tmp_path / "campaign", stand_in_configuration())
    sbatch = folder.path / "sbatch"
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    folder.options = ["--workflow-profile", str(REPOSITORY / "profiles" / "cluster-generic")]
    folder.environment = {"PATH": f"{folder.path}:/usr/bin:/bin", "QUARRY_SCHEDULER": "slurm"}
    return folder


def test_a_campaign_reaches_the_scheduler_and_tells_what_it_answers(folder):
    outcome = folder.run(timeout=60)
    assert outcome.code == 1
    assert "the scheduler will never take such a job: 'invalid partition specified: nowhere'" in outcome.text


def test_a_submit_command_that_is_not_there_ends_the_run(folder):
    outcome = folder.run("--cluster-generic-submit-cmd", "submit_to_nowhere", timeout=60)
    assert outcome.code == 1
    assert (
        "the scheduler will never take such a job: 'exit code 127 of the submit command: the shell cannot run what"
        in outcome.text
    )
