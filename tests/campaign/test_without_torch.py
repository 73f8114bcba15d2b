"""Campaigns where the packages of some models and descriptors are not installed: `make run` brings none of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from quarry.config.extras import EXTRAS
from support.campaigns import CampaignFolder, stand_in_configuration
from support.without_packages import environment_without

ABSENT = (*EXTRAS["torch"].modules, *EXTRAS["soap"].modules, "llvmlite", "sparse", "sympy", "mpmath", "networkx")


@pytest.fixture
def folder(tmp_path) -> CampaignFolder:
    made = CampaignFolder.create(tmp_path / "toy", stand_in_configuration(stop={"rrmse": None, "max_iterations": 1}))
    # Not forked of a process that has imported something already.
    made.forked_jobs = False
    made.environment = environment_without(tmp_path / "site", *ABSENT)
    return made


def test_a_campaign_of_gpr_runs_to_its_report(folder):
    assert not imports(folder, "torch") and not imports(folder, "numba") and imports(folder, "numpy")
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert any("stopped: the budget of max_iterations = 1 is spent" in line for line in outcome.lines), outcome.lines
    assert (folder.results / "overview.html").exists() and (folder.results / "dataset_card.md").exists()
    code = "from quarry.calculator import QuarryCalculator; print(QuarryCalculator('results/toy/model').description)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder.path,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"model": {"kind": "mlp", "uncertainty": "mc_dropout"}}, "model.kind: mlp needs torch and numba, which are "),
        ({"descriptor": {"kind": "soap"}}, "descriptor.kind: soap needs dscribe, which is "),
    ],
)
def test_what_is_not_there_is_said_before_any_job(folder, changes, start):
    folder.configure(stand_in_configuration(**changes))
    for arguments in (("-n",), ()):
        outcome = folder.run(*arguments)
        assert outcome.code == 1 and "Traceback" not in outcome.text, outcome.text[-3000:]
        (line,) = outcome.lines
        assert line.startswith(f"Quarry: {start}") and "not installed; type: " in line, line
        assert not folder.results.exists() and folder.calls() == []
    folder.environment = {}
    there = folder.run("-n")
    assert there.code == 0, f"with the packages it is planned: {there.text[-2000:]}"


def environment(folder: CampaignFolder) -> dict[str, str]:
    return {**os.environ, **folder.environment}


def imports(folder: CampaignFolder, module: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], env=environment(folder), capture_output=True, check=False
    )
    return done.returncode == 0
