"""A campaign whose Snakefile comes from a git host, as snakedeploy writes it: from a repository of the test's own, no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration
from support.pseudo_terminal import in_terminal, text_of
from support.without_packages import environment_without

ADDRESS = "https://github.com/example/quarry"
TAG = "v0.2.0"
DEPLOYED = f"""
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"


# declare {ADDRESS} as a module
module quarry:
    snakefile:
        github("example/quarry", path="Snakefile", tag="{TAG}")
    config:
        config


# use all rules from {ADDRESS}
use rule * from quarry
"""
"""What snakedeploy 0.17.1 writes."""
COPIED = ("config", "profiles")
CONFIGURATION = stand_in_configuration(stop={"rrmse": None, "max_labels": 6})
ONE_CORE = ["--cores", "1"]


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    """Environment variables under which git finds the project, with a tag, in a repository on this disk."""
    folder = tmp_path_factory.mktemp("hosted")
    bare = folder / "quarry.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    (folder / "gitconfig").write_text(
        f'[user]\n name = Quarry\n email = quarry@example.org\n[url "{bare.as_uri()}"]\n insteadOf = {ADDRESS}\n'
    )
    environment = {
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "GIT_DIR": str(bare),
        "GIT_WORK_TREE": str(REPOSITORY),
    }
    top = [
        "Snakefile",
        "rules",
        "report",
        "envs",
        "workflow_scripts",
        "config",
        "profiles",
        "LICENSE",
        "pyproject.toml",
    ]
    for command in (["add", *top], ["commit", "--quiet", "-m", "as it is"], ["tag", TAG]):
        subprocess.run(["git", *command], cwd=REPOSITORY, env={**os.environ, **environment}, check=True)
    # An address with a token is another one, which is not on this disk.
    return {
        "GIT_CONFIG_GLOBAL": environment["GIT_CONFIG_GLOBAL"],
        "XDG_CACHE_HOME": str(folder / "cache"),
        "GITHUB_TOKEN": "",
    }


@pytest.fixture(scope="module")
def deployed(hosted, tmp_path_factory):
    """A deployed project with a small campaign in place of the default one; another Quarry is installed, with its plugin."""
    place = tmp_path_factory.mktemp("deployed")
    folder = CampaignFolder.create(place / "project", CONFIGURATION)
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, folder.path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder.path / "campaign.yaml").rename(folder.path / "config" / "config.yaml")
    (folder.path / "pool.extxyz").rename(folder.path / "config" / "pool.extxyz")
    folder.snakefile = folder.path / "workflow" / "Snakefile"
    folder.snakefile.parent.mkdir()
    folder.snakefile.write_text(DEPLOYED)
    other = place / "elsewhere" / "quarry"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('this is another Quarry')\n")
    plugin = "snakemake_logger_plugin_quarry"
    shutil.copytree(REPOSITORY / "workflow_scripts" / plugin, other.parent / plugin)
    folder.environment = {**hosted, "PYTHONPATH": str(other.parent)}
    # Each job begins as on another machine: with Snakemake, and no library.
    folder.forked_jobs = False
    return folder


def test_a_deployed_campaign_runs_to_its_end(deployed):
    """Its files are found from the campaign file on, by main process and jobs, with the library of the tag."""
    command = [sys.executable, "-m", "snakemake", "-s", str(deployed.snakefile), *ONE_CORE]
    environment = {**deployed.env(), "QUARRY_TERMINAL": ""}
    code, written = in_terminal(command, deployed.path, environment)
    text = text_of(written)
    assert code == 0, text[-3000:]
    assert "6 of 6 labels" in text, "the picture of the campaign"
    assert "Select jobs to execute" not in text
    assert len(deployed.calls()) == len(set(deployed.calls())) == 6
    assert (deployed.path / "results/toy/dataset.extxyz").exists()
    again = deployed.run_as_given(*ONE_CORE)
    assert again.nothing_to_do, again.text[-3000:]
    report = deployed.run_as_given("--report", "report.html")
    assert report.code == 0 and "overview" in (deployed.path / "report.html").read_text(), report.text[-3000:]


def test_a_campaign_file_of_the_command_line_stands_alone(deployed):
    """Though the Snakefile of the deployed project has read another one."""
    own = deployed.path / "mine.yaml"
    mine = {**CONFIGURATION, "name": "mine", "pool": {"source": "file", "files": ["config/pool.extxyz"]}}
    del mine["stop"]
    own.write_text(yaml.safe_dump(mine))
    outcome = deployed.run_as_given("-n", "--configfile", own.name, "--config", "stop={max_labels: 6}")
    assert outcome.code == 0 and "results/mine" in outcome.text, outcome.text[-3000:]
    own.write_text(yaml.safe_dump({**mine, "stop": {"max_labels": 6}, "sed": 1}))
    refused = deployed.run_as_given("-n", "--configfile", own.name)
    assert refused.code == 1 and refused.lines == ["Quarry: mine.yaml: sed: unknown key; did you mean 'seed'?"]


def test_what_a_deployed_campaign_lacks_is_one_line(deployed, tmp_path):
    # A project of its own: what was found right once is not looked at again.
    own = tmp_path / "project"
    shutil.copytree(deployed.path, own, ignore=shutil.ignore_patterns(".snakemake", "results", "label_store"))

    def lines(environment, *options):
        folder = CampaignFolder(own, [], {**deployed.environment, **environment}, False, own / "workflow" / "Snakefile")
        outcome = folder.run_as_given("-n", *options)
        assert outcome.code == 1 and "Traceback" not in outcome.text
        return outcome.lines

    absent = environment_without(tmp_path / "without", "h5py")["PYTHONPATH"]
    (line,) = lines({"PYTHONPATH": os.pathsep.join([absent, deployed.environment["PYTHONPATH"]])})
    assert line.startswith("Quarry: h5py is not installed where Snakemake runs; type: ")
    project = Path(line.rpartition(" ")[2])
    assert project.parent.name == "quarry" and (project / "pyproject.toml").exists(), "what pip is to install"
    (line,) = lines({}, "--workflow-profile", "slrum")
    assert line.endswith("(there are cluster-generic, default, slurm); did you mean 'slurm'?")


def test_a_snakefile_by_its_address_alone_is_refused(deployed, tmp_path):
    """There is no repository that its library could be taken from."""
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, directory=str(REPOSITORY), **settings)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/Snakefile"
        own = tmp_path / "Snakefile"
        own.write_text(f'module quarry:\n    snakefile: "{address}"\n    config: {{}}\nuse rule * from quarry\n')
        folder = CampaignFolder(tmp_path, [], deployed.environment, False, own)
        outcome = folder.run_as_given("-n")
        server.shutdown()
    assert outcome.code == 1 and len(outcome.lines) == 1, outcome.text
    assert outcome.lines[0].endswith(" has no library with it; name a checkout, or github(...) with a tag")


@pytest.mark.skipif(
    shutil.which("snakedeploy") is None, reason="snakedeploy is not installed (pipx install snakedeploy)"
)
def test_snakedeploy_writes_what_is_tested_here(hosted, tmp_path):
    command = ["snakedeploy", "deploy-workflow", ADDRESS, str(tmp_path / "project"), "--tag", TAG]
    subprocess.run(command, env={**os.environ, **hosted}, check=True, capture_output=True, timeout=120)
    written = (tmp_path / "project" / "workflow" / "Snakefile").read_text()
    assert written.split() == DEPLOYED.split()
    for name in COPIED:
        files = [path for path in (REPOSITORY / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert all(
            (tmp_path / "project" / path.relative_to(REPOSITORY)).read_bytes() == path.read_bytes() for path in files
        )
    outcome = subprocess.run(
        ["snakemake", "-n"],
        cwd=tmp_path / "project",
        env={**os.environ, **hosted},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert outcome.returncode == 0 and "results/water" in outcome.stdout + outcome.stderr
    assert Path(tmp_path / "project" / "config" / "molecules" / "water.xyz").exists()
