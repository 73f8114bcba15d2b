"""Profiles are linked where Snakemake looks for them; what is the user's own stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quarry.campaign import link_profiles as program
from quarry.campaign.link_profiles import link_profiles


@pytest.fixture
def profiles(tmp_path) -> Path:
    folder = tmp_path / "project" / "profiles"
    for name in ("default", "slurm", "cluster-generic"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.yaml").write_text(f"# {name}\n")
    (folder / "no-profile").mkdir()
    (folder / "README.md").write_text("text")
    return folder


def links(home: Path) -> dict[str, str]:
    return {p.name: str(p.readlink()) for p in sorted(home.iterdir()) if p.is_symlink()}


def test_every_profile_but_default_is_linked(profiles, tmp_path):
    home = tmp_path / "config" / "snakemake"
    lines = link_profiles(profiles, home)
    assert links(home) == {name: str(profiles / name) for name in ("cluster-generic", "slurm")}
    assert (home / "slurm" / "config.yaml").read_text() == "# slurm\n"
    assert len(lines) == 2 and all("linked to" in line for line in lines)


def test_linking_again_changes_nothing(profiles, tmp_path):
    home = tmp_path / "home"
    link_profiles(profiles, home)
    before = {p.name: p.lstat().st_mtime_ns for p in home.iterdir()}
    assert all(line.endswith("already linked") for line in link_profiles(profiles, home))
    assert {p.name: p.lstat().st_mtime_ns for p in home.iterdir()} == before


def test_a_link_to_a_project_that_moved_is_repaired(profiles, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "slurm").symlink_to(tmp_path / "old project" / "profiles" / "slurm")
    lines = link_profiles(profiles, home)
    assert links(home)["slurm"] == str(profiles / "slurm")
    assert any("pointed nowhere" in line for line in lines)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_the_users_own_stays(profiles, tmp_path, kind):
    home = tmp_path / "home"
    home.mkdir()
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("# mine\n")
    if kind == "folder":
        own.rename(home / "slurm")
    elif kind == "link":
        (home / "slurm").symlink_to(own)
    else:
        (home / "slurm").write_text("# mine\n")
    lines = link_profiles(profiles, home)
    found = home / "slurm" if kind == "file" else home / "slurm" / "config.yaml"
    assert found.read_text() == "# mine\n"
    [line] = [line for line in lines if "left alone" in line]
    assert f"--profile {profiles / 'slurm'}" in line
    assert "cluster-generic" in links(home)


@pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "HOME"])
def test_as_a_program_without_the_library(profiles, tmp_path, variable):
    """`make profiles` runs the file itself; a relative folder gives absolute links."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CONFIG_HOME", "PYTHONPATH")}
    outcome = subprocess.run(
        [sys.executable, "-S", str(Path(program.__file__)), "profiles"],
        cwd=profiles.parent,
        env={**environment, variable: str(tmp_path / "user")},
        capture_output=True,
        text=True,
        check=True,
    )
    home = tmp_path / "user" / ("snakemake" if variable == "XDG_CONFIG_HOME" else ".config/snakemake")
    assert links(home) == {name: str(profiles / name) for name in ("cluster-generic", "slurm")}
    assert outcome.stdout.count("linked to") == 2
