"""Waiting on a cluster: which model steps run beside the main process, and when the jobs are looked at again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.beside import ALLOWANCE, MAIN_PROCESS, BesideMain, announce_main
from quarry.campaign.campaign import Campaign
from quarry.campaign.gpus import JobGpus
from quarry.campaign.invocation import Invocation
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import write_receipt
from quarry.config.loading import load_configuration
from quarry.processes import start_ticks
from quarry.submission import BESIDE_MAIN, pauses
from quarry.submission.pauses import CLOSING_S, FILES_AT_A_TIME, LOOK_FOR_FILES_S, SETTLE_S, SPACING_S, Pauses
from support.campaigns import REPOSITORY, stand_in_configuration
from support.stages import make_facts

LIMIT_S = 30
CUDA = {"model": {"kind": "gpr", "device": "cuda"}}
RANDOM = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Return a function that makes a campaign: iterations 0 and 1 have 10 and 20 labels, the batch of 2 has 20."""
    monkeypatch.chdir(tmp_path)

    def make(limit_s=LIMIT_S, is_possible=True, **changes):
        changes.setdefault("resources", {"model": {"beside_main_s": limit_s}})
        settings = stand_in_configuration(**changes)
        read = load_configuration(settings, "campaign.yaml")
        made = BesideMain(read, CampaignPaths("toy"), JobGpus(read))
        made.is_possible = lambda rule: is_possible
        return made

    paths = CampaignPaths("toy")
    for iteration, labels in enumerate((10, 20)):
        make_facts(iteration, n_labels=labels).write(paths.facts("main", iteration))
    write_batch(paths.batch("main", 2), [BatchRow(f"s{n}", "train", f"s{n}") for n in range(20)])
    return make


def measure(iteration, rule, *walls_s):
    for part, wall_s in enumerate(walls_s):
        path = CampaignPaths("toy").iteration(f"receipts/{rule}_{part}.json", "main", iteration)
        write_receipt(Path(path), rule, [], {"wall_s": wall_s})


def decide(beside, rule="train_model", iteration=2, attempt=1, behind=0):
    wildcards = SimpleNamespace(arm="main", iteration=f"{iteration:03d}")
    return beside.resource(rule, behind)[BESIDE_MAIN](wildcards, attempt=attempt)


# 20 labels become 40 (a data set that is one behind: 10 become 20): eight times the seconds, at most.
@pytest.mark.parametrize(
    ("rule", "behind", "walls_s", "runs_here"),
    [
        ("train_model", 0, [3.0], True),
        ("train_model", 0, [4.0], False),
        ("score_pool", 1, [3.0], True),
        ("score_pool", 1, [4.0], False),
        ("train_member", 0, [1.0, 1.0, 1.0], True),
        ("train_member", 0, [2.0, 2.0, 2.0], False),
        ("evaluate_model", 0, [], False),
    ],
)
def test_a_step_runs_here_if_its_last_cost_grown_with_the_labels_is_below_the_limit(
    beside, rule, behind, walls_s, runs_here
):
    measure(1, rule, *walls_s)
    measure(0, rule, 1e6)
    measure(1, "another_rule", 1e6)
    assert decide(beside(), rule, behind=behind) == (ALLOWANCE * LIMIT_S if runs_here else None)


def test_what_is_never_run_here(beside):
    measure(1, "train_model", 1.0)
    assert decide(beside()) == ALLOWANCE * LIMIT_S
    assert decide(beside(), attempt=2) is None, "an attempt that failed, or took too long"
    assert decide(beside(limit_s=0)) is None
    assert decide(beside(is_possible=False)) is None
    assert decide(beside(**CUDA)) is None
    assert decide(beside(), iteration=1) is None, "nothing was measured"
    # A score of iteration 1 would be measured in iteration 0, which has none; nor has it labels from before.
    measure(0, "score_pool", 1.0)
    assert decide(beside(), "score_pool", iteration=1, behind=1) is None
    Path(CampaignPaths("toy").facts("main", 1)).write_text("damaged")
    assert decide(beside()) is None


STEP = (
    "import time\nfrom quarry.campaign.beside import keep_within\nkeep_within({}, print)\nprint('runs')\ntime.sleep(60)"
)
LIBRARY = {"PYTHONPATH": str(REPOSITORY / "workflow_scripts")}


def test_a_step_that_takes_too_long_here_ends_and_says_so():
    command = [sys.executable, "-uc", STEP.format(0.1)]
    ended = subprocess.run(command, env=LIBRARY, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1, ended.stderr
    assert "tried again as a job of the cluster" in ended.stdout


def test_a_step_ends_with_the_main_process():
    command = ["sh", "-c", '"$0" -uc "$1"; true', sys.executable, STEP.format(60)]
    with subprocess.Popen(command, env=LIBRARY, stdout=subprocess.PIPE, start_new_session=True) as main:
        assert main.stdout.readline() == b"runs\n"
        began = time.monotonic()
        main.kill()
        assert main.stdout.read() == b"", "its end closes the pipe"
    assert time.monotonic() - began < 30


def test_a_step_whose_main_process_is_gone_before_it_has_imported_anything_ends_too():
    with subprocess.Popen(["sleep", "60"]) as gone:
        started = start_ticks(gone.pid)
        gone.kill()
    command = [sys.executable, "-uc", STEP.format(60)]
    began = time.monotonic()
    ended = subprocess.run(command, env=LIBRARY | {MAIN_PROCESS: f"{gone.pid} {started}"}, timeout=50, check=False)
    assert ended.returncode == 1 and time.monotonic() - began < 40


def test_a_main_process_announces_itself(monkeypatch):
    monkeypatch.delenv(MAIN_PROCESS, raising=False)
    announce_main()
    assert os.environ[MAIN_PROCESS] == f"{os.getpid()} {start_ticks(os.getpid())}"
    monkeypatch.delenv(MAIN_PROCESS)


# --- when to look again


class Jobs:
    """Jobs in the queue, by name, and a clock that the test turns."""

    def __init__(self, count):
        self.clock = 0.0
        self.infos = [SubmittedJobInfo(SimpleNamespace(output=[f"{n}"]), external_jobid=str(n)) for n in range(count)]
        self.written: set[int] = set()
        self.stats = 0
        self.pauses = Pauses(self._has_outputs, lambda: self.clock)

    def _has_outputs(self, job_info):
        self.stats += 1
        return int(job_info.external_jobid) in self.written

    def pause(self, usual_s=65.0, least_s=15.0, ends=None):
        """Return how long a pause is. ends: numbers of the jobs whose files are there, by the second of the pause."""
        began = self.clock
        self.pauses.begin(self.infos, usual_s, least_s)
        while not self.pauses.is_over(self.infos):
            self.clock += 0.5
            self.written |= (ends or {}).get(self.clock - began, set())
        return self.clock - began


def test_without_files_the_pause_is_the_usual_one():
    assert Jobs(3).pause() == 65
    assert Jobs(0).pause(15) == 15


def test_when_all_files_are_there_a_look_follows_soon():
    jobs = Jobs(2)
    assert 30 <= jobs.pause(least_s=60, ends={20.0: {0}, 30.0: {1}}) <= 30 + LOOK_FOR_FILES_S + SETTLE_S + 0.5


def test_when_some_files_are_there_a_look_follows_at_the_plugins_least_pause():
    assert Jobs(2).pause(ends={3.0: {0}}) == 15
    assert 20 <= Jobs(2).pause(ends={20.0: {0}}) <= 20 + LOOK_FOR_FILES_S


def test_looks_keep_a_distance():
    assert Jobs(1).pause(ends={0.5: {0}}) == SPACING_S


def test_files_of_jobs_that_do_not_end_are_believed_a_few_times():
    """A look that still finds the job running is followed by short pauses, then by the usual ones."""
    jobs = Jobs(1)
    jobs.pause(ends={10.0: {0}})
    assert [jobs.pause() for _ in range(5)] == [*CLOSING_S, 65, 65]
    jobs.infos.append(Jobs(2).infos[1])
    assert jobs.pause() == 65, "and they no longer call for looks at others"
    assert jobs.pause(least_s=80, ends={10.0: {1}}) < 20, "which call for themselves"


def test_files_are_looked_for_sparingly():
    jobs = Jobs(1000)
    assert jobs.pause(usual_s=60) == 60
    assert jobs.stats <= (60 / LOOK_FOR_FILES_S + 1) * FILES_AT_A_TIME
    assert {pauses.has_outputs(job_info) for job_info in jobs.infos} == {False}


def test_a_job_has_its_outputs_when_all_are_there(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    job_info = SubmittedJobInfo(SimpleNamespace(output=list(map(str, paths))))
    seen = [pauses.has_outputs(job_info)]
    for path in paths:
        path.touch()
        seen.append(pauses.has_outputs(job_info))
    assert seen == [False, False, True]
    assert not pauses.has_outputs(SubmittedJobInfo(SimpleNamespace())), "a group of jobs"


def test_a_model_job_gets_more_with_every_attempt():
    """Nothing tells whether a killed job lacked memory or time."""
    settings = stand_in_configuration(resources={"model": {"memory_MB": 1500, "walltime_min": 20}})
    settings["labeling"]["growth"] = 1.5
    campaign = Campaign(load_configuration(settings, "campaign.yaml"), Path(), Invocation.RUN)
    asked = campaign.resources_of("train_model")
    assert [asked["mem_mb"](None, attempt) for attempt in (1, 2, 3)] == [1500, 2250, 3375]
    assert [asked["runtime"](None, attempt) for attempt in (1, 2, 3)] == [20, 30, 45]
    assert "gpu" not in asked


def campaign_with(**resources):
    settings = stand_in_configuration(resources=resources)
    return Campaign(load_configuration(settings, "campaign.yaml"), Path(), Invocation.RUN)


def test_resources_are_those_of_the_stage():
    """What a stage does not say comes from ``model``, then from the default; GPUs stand only where they are asked for."""
    campaign = campaign_with(
        model={"threads": 4, "memory_MB": 9000},
        train={"gpus": 2, "memory_MB": 5000},
        explore={"threads": 3},
        label={"gpus": 1},
    )
    assert [campaign.threads_of(rule) for rule in ("build_features", "train_member", "score_pool")] == [4, 4, 4]
    assert campaign.threads_of("sample_candidates") == 3
    memory = {
        rule: campaign.resources_of(rule)["mem_mb"](None, 1)
        for rule in ("build_pool", "train_model", "evaluate_model", "sample_candidates")
    }
    assert memory == {"build_pool": 9000, "train_model": 5000, "evaluate_model": 9000, "sample_candidates": 2000}
    assert campaign.resources_of("train_model")["gpu"] == 2 and campaign.label_places == {"gpu": 1}
    assert all("gpu" not in campaign.resources_of(rule) for rule in ("build_pool", "score_pool", "sample_candidates"))
    assert campaign_with(label={"tasks": 1}).label_places == {}


MODEL_RULES = ("train_member", "train_model", "evaluate_model", "score_pool", "sample_candidates", "compute_spectrum")
OTHER_RULES = ("build_pool", "build_features", "collect_pool_labels", "propose_batch")


def gpus_of(campaign, arm="main"):
    """What Snakemake gets for each rule; a function's None is left out by it."""
    asked = {rule: campaign.resources_of(rule).get("gpu") for rule in (*MODEL_RULES, *OTHER_RULES)}
    wildcards = SimpleNamespace(arm=arm)
    return {rule: found(wildcards) if callable(found) else found for rule, found in asked.items()}


def test_gpus_are_what_the_model_of_the_arm_says():
    """There and only there: not where the pool is made or a batch is drawn, and not in an arm with another model."""
    arms = {"slow": {"model": {"kind": "gpr", "device": "cpu"}}}
    settings = stand_in_configuration(**CUDA, arms=arms)
    campaign = Campaign(load_configuration(settings, "campaign.yaml"), Path(), Invocation.RUN)
    assert gpus_of(campaign) == {**dict.fromkeys(MODEL_RULES, 1), **dict.fromkeys(OTHER_RULES)}
    assert set(gpus_of(campaign, "slow").values()) == {None}
    assert set(gpus_of(campaign_with()).values()) == {None}
    assert campaign.label_places == {}


def test_gpus_of_the_configuration_win():
    settings = stand_in_configuration(**CUDA, resources={"train": {"gpus": 4}, "score": {"gpus": 0}})
    found = gpus_of(Campaign(load_configuration(settings, "campaign.yaml"), Path(), Invocation.RUN))
    assert (found["train_model"], found["train_member"]) == (4, 4)
    assert (found["evaluate_model"], found["score_pool"], found["compute_spectrum"]) == (None, None, None)
    assert found["sample_candidates"] == 1, "nothing is said of stage explore"


def test_gpus_of_a_model_of_the_users_own():
    """Its class is looked at by the checks before the start, which say what it needs."""
    settings = stand_in_configuration(model={"kind": "own:Model"}, query=RANDOM)
    campaign = Campaign(load_configuration(settings, "campaign.yaml"), Path(), Invocation.RUN)
    assert set(gpus_of(campaign).values()) == {None}
    campaign.gpus.of_own_models = {"main": 2}
    assert gpus_of(campaign) == {**dict.fromkeys(MODEL_RULES, 2), **dict.fromkeys(OTHER_RULES)}


def test_a_job_that_asks_for_gpus_is_not_run_beside_the_main_process(beside):
    measure(1, "train_model", 1.0)
    measure(1, "evaluate_model", 1.0)
    assert decide(beside()) is not None
    on_gpus = beside(resources={"train": {"gpus": 1}})
    assert decide(on_gpus) is None and decide(on_gpus, "evaluate_model") is not None
