"""The profiles: one setting whatever the spelling, and what cluster-generic tells PBS, Torque, SGE, LSF and Slurm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from quarry.submission.commands import link_submit
from support.job_processes import quick_python

PROFILES = Path(__file__).parents[2] / "profiles"
CLUSTER = ["slurm", "cluster-generic"]
INVARIANTS = {
    "nolock": True,
    "rerun-triggers": ["mtime", "input"],
    "rerun-incomplete": True,
    "scheduler": "greedy",
    "keep-going": True,
    "show-failed-logs": True,
}


def read(profile):
    return yaml.safe_load((PROFILES / profile / "config.yaml").read_text())


# --- the settings


@pytest.mark.parametrize("profile", ["default", *CLUSTER])
def test_every_profile_says_what_a_campaign_relies_on(profile):
    settings = read(profile)
    assert {key: settings[key] for key in INVARIANTS} == INVARIANTS


@pytest.mark.parametrize("profile", CLUSTER)
def test_default_overrides_nothing_of_a_cluster_profile(profile):
    # `--profile X` loads profiles/default too, and default wins.
    default, other = read("default"), read(profile)
    assert {key: other.get(key) for key in default} == default
    assert not {"cores", "jobs", "executor"} & set(default)


SHOW_SETTINGS = """
import enum, json, sys
from snakemake.cli import parse_args

def plain(value):
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return str(value) if isinstance(value, enum.Enum) else getattr(value, "__dict__", str(value))

settings = vars(parse_args(sys.argv[1:])[1])
for how in ("profile", "workflow_profile", "snakefile", "directory"):
    del settings[how]
print(json.dumps(settings, default=plain, sort_keys=True))
"""


@pytest.fixture
def settings(tmp_path):
    """Return a function: the settings that Snakemake takes from options, started beside the profiles or elsewhere."""
    home = tmp_path / "workflow"
    shutil.copytree(PROFILES, home / "profiles")
    (home / "Snakefile").write_text("rule all:\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    user = tmp_path / "configuration" / "snakemake"
    user.mkdir(parents=True)
    for profile in CLUSTER:
        (user / profile).symlink_to(home / "profiles" / profile)
    script = tmp_path / "show_settings.py"
    script.write_text(SHOW_SETTINGS)
    environment = {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}
    environment["XDG_CONFIG_HOME"] = str(user.parent)

    def ask(*options, folder="workflow"):
        command = [quick_python(), str(script), *options]
        answer = subprocess.run(command, cwd=tmp_path / folder, env=environment, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    return ask


@pytest.mark.parametrize("profile", CLUSTER)
def test_all_spellings_of_a_profile_give_the_same_settings(profile, settings):
    expected = settings("--workflow-profile", profile)
    assert expected["executor"] == profile
    assert expected["jobs"] == 200
    assert expected["default_resources"]["_data"]["mem_mb"]["raw"] == 2000
    for spelling in (["--profile", profile], ["--profile", f"profiles/{profile}"]):
        assert settings(*spelling) == expected, spelling
    from_elsewhere = ["-s", "../workflow/Snakefile", "--directory", "."]
    for spelling in (["--workflow-profile", profile], ["--profile", profile]):
        assert settings(*spelling, *from_elsewhere, folder="elsewhere") == expected, spelling


def test_without_options_the_run_is_local_and_sets_no_cores(settings):
    local = settings()
    assert local["executor"] is None
    assert local["cores"] is None
    assert local["jobs"] is None
    assert local["nolock"] is True


# --- cluster-generic: the commands

PROPERTIES = {
    "type": "single",
    "rule": "label_structure",
    "jobid": 12,
    "threads": 4,
    "resources": {"mem_mb": 6000, "runtime": 150, "tmpdir": "/tmp"},
}
ANSWERS = {
    "slurm": "123;cluster\n",
    "pbs": "123.server.site.org\n",
    "torque": "123.server.site.org\n",
    "sge": "123\n",
    "lsf": "Job <123> is submitted to queue <normal>.\n",
}
SUBMIT = {"slurm": "sbatch", "pbs": "qsub", "torque": "qsub", "sge": "qsub", "lsf": "bsub"}
LIST = {"slurm": "squeue", "pbs": "qstat", "torque": "qstat", "sge": "qstat", "lsf": "bjobs"}
CANCEL = {"slurm": "scancel", "pbs": "qdel", "torque": "qdel", "sge": "qdel", "lsf": "bkill"}
NAME = "--job-name=label_structure.12"
NEEDS = {
    "slurm": [NAME, "--nodes=1", "--ntasks=1", "--cpus-per-task=4", "--mem=6000M", "--time=150"],
    "pbs": ["-N label_structure -S /bin/sh -j oe", "-l select=1:ncpus=4:mem=6000mb -l walltime=2:30:00"],
    "torque": ["-l nodes=1:ppn=4 -l mem=6000mb -l walltime=2:30:00"],
    "sge": ["-terse", "-S /bin/sh -j y", "-pe smp 4 -l h_vmem=1500M -l h_rt=9000"],
    "lsf": ["-J label_structure.12", "-n 4 -R span[hosts=1] -M 6000MB -R rusage[mem=6000MB] -W 150"],
}
PBS_LISTING = """
server:
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
122.server.si*  user     workq    label_stru  11111   1   4    6gb 02:30 C 00:10
{}.server.si*  user     workq    label_stru  12345   1   4    6gb 02:30 {} 00:10
"""
SGE_LISTING = """
job-ID  prior   name       user         state submit/start at     queue       slots ja-task-ID
-----------------------------------------------------------------------------------------------
    {} 0.55500 my job     user         {}    11/20/2026 10:00:00 all.q@node1     4
"""
LISTINGS = {
    "slurm": "{}\n",
    "pbs": PBS_LISTING,
    "torque": PBS_LISTING,
    "sge": SGE_LISTING,
    "lsf": "{} {}\n",
}
RUNNING = {"slurm": "", "pbs": "R", "torque": "R", "sge": "r", "lsf": "RUN"}
OVER = {"pbs": "C", "torque": "C", "sge": "Eqw", "lsf": "EXIT"}


class Site:
    """A machine with the commands of one scheduler, which note how they are called and answer what a test says."""

    def __init__(self, folder, scheduler):
        self.folder, self.scheduler, self.state = folder, scheduler, folder / ".snakemake" / "cluster-generic"
        for command in {SUBMIT[scheduler], LIST[scheduler], CANCEL[scheduler]}:
            script = folder / "bin" / command
            script.parent.mkdir(exist_ok=True)
            script.write_text(
                f'#!/bin/sh\necho "$@" > {folder}/{command}.call\n[ {command} = {SUBMIT[scheduler]} ] && '
                f"cat > {folder}/{command}.stdin\ncat {folder}/{command}.error >&2 2>/dev/null && exit 1\n"
                f"cat {folder}/{command}.answer 2>/dev/null; exit 0\n"
            )
            script.chmod(0o755)
        self.answer(SUBMIT[scheduler], ANSWERS[scheduler])
        (folder / "job.sh").write_text(
            f"#!/bin/sh\n# properties = {json.dumps(PROPERTIES)}\nsh work.sh && exit 0 || exit 1\n"
        )

    def answer(self, command, text):
        (self.folder / f"{command}.answer").write_text(text)

    def fails(self, command, message):
        (self.folder / f"{command}.error").write_text(message)

    def call(self, command):
        return (self.folder / f"{command}.call").read_text().strip()

    def tool(self, name, *arguments):
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        environment["QUARRY_SCHEDULER"] = self.scheduler
        command = [str(PROFILES / "cluster-generic" / name), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def submit(self, *options):
        answer = self.tool("submit.py", *options, "job.sh")
        assert answer.returncode == 0, answer.stderr
        self.job = answer.stdout.strip()
        return self.job

    def run_job(self, work):
        """Run what was submitted, as a compute node does: in another folder, the script on standard input."""
        (self.folder / "work.sh").write_text(work)
        script = (self.folder / f"{SUBMIT[self.scheduler]}.stdin").read_text()
        return subprocess.run(["sh"], input=script, text=True, cwd=self.folder).returncode

    def status(self, grace=1000):
        answer = self.tool("status.py", "--cache", "0", "--grace", str(grace), self.job)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    def list_job(self, state):
        self.answer(LIST[self.scheduler], LISTINGS[self.scheduler].format("123", state))

    def list_nothing(self):
        self.answer(LIST[self.scheduler], "")


@pytest.fixture(params=list(SUBMIT))
def site(request, tmp_path):
    return Site(tmp_path, request.param)


@pytest.fixture
def submitted(site):
    site.submit()
    return site


def test_submit_asks_for_what_the_rule_needs(site):
    assert site.submit("-q", "long") == ("123.server.site.org" if site.scheduler in ("pbs", "torque") else "123")
    call = site.call(SUBMIT[site.scheduler])
    assert [need for need in NEEDS[site.scheduler] if need not in call] == []
    assert call.endswith("-q long")
    log = next(word for word in call.replace("=", " ").split() if word.endswith(".log"))
    assert Path(log).is_relative_to(site.folder / "logs" / "cluster-generic" / "label_structure")
    assert Path(log).parent.is_dir()


GPUS = {
    "slurm": "--gpus=2",
    "pbs": "-l select=1:ncpus=4:ngpus=2:mem=6000mb",
    "torque": "-l nodes=1:ppn=4:gpus=2",
    "sge": "-l gpu=2",
    "lsf": "-gpu num=2",
}


def test_gpus_are_asked_for_where_a_job_wants_some(site):
    site.submit()
    assert "gpu" not in site.call(SUBMIT[site.scheduler]).replace(str(site.folder), "")
    properties = {**PROPERTIES, "resources": {**PROPERTIES["resources"], "gpu": 2}}
    script = site.folder / "job.sh"
    script.write_text(script.read_text().replace(json.dumps(PROPERTIES), json.dumps(properties)))
    site.submit()
    assert GPUS[site.scheduler] in site.call(SUBMIT[site.scheduler])


def test_a_refused_submission_is_an_error(site):
    site.fails(SUBMIT[site.scheduler], "no such queue")
    answer = site.tool("submit.py", "job.sh")
    assert answer.returncode == 1
    assert answer.stdout == "no such queue\n", "the main process reads there why"


def test_a_job_whose_record_cannot_be_written_is_cancelled(site):
    """Its end would never be seen, and the next attempt would be a second job."""
    submit = site.folder / "bin" / SUBMIT[site.scheduler]
    submit.write_text(submit.read_text().replace("exit 0", f"rm -r {site.state}; exit 0"))
    answer = site.tool("submit.py", "job.sh")
    assert answer.returncode == 1 and "No such file" in answer.stdout
    assert site.call(CANCEL[site.scheduler]).startswith("123")


def test_no_scheduler_is_one_clear_line(tmp_path):
    site = Site(tmp_path, "slurm")
    site.scheduler = "cron"
    answer = site.tool("submit.py", "job.sh")
    assert answer.returncode != 0
    assert answer.stdout.splitlines() == ["cron: set QUARRY_SCHEDULER to one of slurm, pbs, torque, sge, lsf"]


@pytest.mark.parametrize(
    ("commands", "name"),
    [(["sbatch", "qsub"], "slurm"), (["qsub", "qconf"], "sge"), (["qsub", "pbsnodes"], "pbs"), (["bsub"], "lsf")],
)
def test_the_scheduler_is_found_by_its_commands(commands, name, tmp_path):
    for command in commands:
        (tmp_path / command).touch(mode=0o755)
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(PROFILES / "cluster-generic")}
    found = subprocess.run(
        [sys.executable, "-c", "import schedulers; print(schedulers.detect())"], env=environment, capture_output=True
    )
    assert found.stdout.decode().strip() == name


# --- cluster-generic: the end of a job


def test_only_the_job_itself_makes_a_success(submitted):
    submitted.list_nothing()
    assert submitted.status() == "running"
    assert submitted.run_job("true") == 0
    assert submitted.status() == "success"
    assert not [path for path in submitted.state.iterdir() if path.suffix in (".exit", ".job", ".missing")]
    assert submitted.status() == "failed", "an end is told once; what is not known is no success"


def test_a_job_that_fails_says_so_while_the_queue_is_silent(submitted):
    submitted.fails(LIST[submitted.scheduler], "cannot contact the server")
    assert submitted.run_job("false") == 1
    assert submitted.status() == "failed"


def test_a_silent_queue_is_not_a_failure(submitted):
    submitted.fails(LIST[submitted.scheduler], "cannot contact the server")
    assert [submitted.status(grace=0) for _ in range(3)] == ["running"] * 3


def test_a_listed_job_runs(submitted):
    submitted.list_job(RUNNING[submitted.scheduler])
    assert submitted.status(grace=0) == "running"


def test_a_job_gone_from_the_queue_has_failed_after_the_time_of_grace(submitted):
    submitted.list_nothing()
    assert submitted.status() == "running"
    submitted.list_job(RUNNING[submitted.scheduler])
    assert submitted.status() == "running"
    assert not list(submitted.state.glob("*.missing")), "back in the queue: the time of grace starts anew"
    submitted.list_nothing()
    assert submitted.status() == "running"
    (missing,) = submitted.state.glob("*.missing")
    missing.write_text(str(json.loads(missing.read_text()) - 1000))
    assert submitted.status() == "failed"


def test_a_job_listed_as_over_is_gone(submitted):
    if submitted.scheduler not in OVER:
        pytest.skip("squeue lists only jobs that wait or run")
    submitted.list_job(OVER[submitted.scheduler])
    assert submitted.status(grace=0) == "failed"


def test_an_exit_code_of_an_earlier_job_with_the_same_id_does_not_count(submitted):
    assert submitted.run_job("true") == 0
    submitted.submit()
    submitted.list_job(RUNNING[submitted.scheduler])
    assert submitted.status() == "running"


def test_a_job_that_cannot_leave_its_exit_code_fails(submitted):
    assert submitted.run_job(f"rm -r {submitted.state}") == 1


def test_lsf_says_that_the_queue_is_empty_with_an_error(tmp_path):
    site = Site(tmp_path, "lsf")
    site.submit()
    site.fails("bjobs", "No unfinished job found")
    assert site.status(grace=0) == "failed"


def test_a_record_that_cannot_be_read_is_not_a_failure(submitted):
    (record,) = submitted.state.glob("*.job")
    record.write_text("{")
    assert submitted.status() == "running"


def test_cancel_reaches_the_scheduler(submitted):
    submitted.tool("cancel.py", submitted.job)
    assert submitted.call(CANCEL[submitted.scheduler]) == submitted.job


def test_cancel_all_reaches_every_job_whose_end_was_not_told(submitted):
    submitted.run_job("true")
    assert submitted.status() == "success"
    submitted.answer(SUBMIT[submitted.scheduler], ANSWERS[submitted.scheduler].replace("123", "124"))
    left = submitted.submit()
    submitted.tool("cancel.py", "--all")
    assert submitted.call(CANCEL[submitted.scheduler]) == left


def test_the_profile_finds_its_commands_in_the_working_directory(submitted, monkeypatch):
    profile = read("cluster-generic")
    monkeypatch.chdir(submitted.folder)
    for _ in range(2):
        link_submit(PROFILES.parent)
    for key in ("cluster-generic-submit-cmd", "cluster-generic-status-cmd", "cluster-generic-cancel-cmd"):
        tool = submitted.folder / profile[key].split()[0]
        assert tool.resolve() == PROFILES / "cluster-generic" / tool.name
        assert os.access(tool, os.X_OK)
