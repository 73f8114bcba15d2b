"""The walk through the loop: whatever is on disk, every checkpoint is asked for in order, and only what is missing is made."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarry.campaign.campaign import Campaign
from quarry.campaign.invocation import Invocation
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.walk import Walk
from quarry.config import load_configuration
from support.campaigns import stand_in_configuration
from support.disk import RULES, write_iteration

ITERATIONS = 3
GATES = ("batch.csv", "facts.json")
ARMS = ("main", "random_0")


class NotMade(Exception):
    """What the engine raises for a checkpoint that is not made yet."""


class Run:
    """A run of the loop on the disk without an engine: what waits is asked for, made, and all arms walk again."""

    def __init__(self, max_iterations: int = ITERATIONS - 1) -> None:
        settings = stand_in_configuration(control={}, stop={"rrmse": None, "max_iterations": max_iterations})
        self.campaign = Campaign(load_configuration(settings, "campaign.yaml"), Path.cwd(), Invocation.RUN)
        self.asked: list[tuple[str, int]] = []
        self.made: list[tuple[str, int]] = []

    def ask(self, arm: str, iteration: int) -> None:
        self.asked.append((arm, iteration))
        if arm != ARMS[0] and iteration == 0:
            first = Path(self.campaign.paths.facts(ARMS[0], 0))
            assert first.exists(), "the labels of iteration 0 are those of the first arm, which must have them"
        for gate in GATES:
            if not Path(self.campaign.paths.iteration(gate, arm, iteration)).exists():
                raise NotMade(arm, iteration)

    def to_its_end(self) -> dict[str, int]:
        walk = Walk(self.campaign, self.ask)
        while True:
            last, waiting = {}, set()
            for arm in self.campaign.arms:
                self.asked.clear()
                try:
                    last[arm] = walk.last(arm)
                    self.check_asked(arm, last[arm])
                except NotMade as wanted:
                    waiting.add(wanted.args)
            if not waiting:
                return last
            for arm, iteration in sorted(waiting):
                make(self.campaign.paths, arm, iteration)
                self.made.append((arm, iteration))

    def check_asked(self, arm: str, last: int) -> None:
        """A walk that came to its end has asked for every iteration that is not sealed, in order, and for none behind it."""
        own = list(dict.fromkeys(t for name, t in self.asked if name == arm))
        assert own == list(range(self.campaign.sealed(arm), last + 1))
        leader = self.campaign.leader(arm)
        if leader:
            wanted = [t for t in range(self.campaign.sealed(leader), last + 1) if self.campaign.has_facts(leader, t)]
            assert set(wanted) <= {t for name, t in self.asked if name == leader}


def make(paths: CampaignPaths, arm: str, iteration: int) -> None:
    write_iteration(paths, arm, iteration, pool_left=30)


def stages() -> Iterator[tuple[str, int, str]]:
    """Every rule of every iteration, in an order in which a run may come to them."""
    for iteration, arm in itertools.product(range(ITERATIONS), ARMS):
        for rule in RULES:
            if iteration or rule not in ("score_pool", "propose_batch"):
                yield arm, iteration, rule


STAGES = list(stages())


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder):
        for iteration, arm in itertools.product(range(ITERATIONS), ARMS):
            make(CampaignPaths("toy"), arm, iteration)
    return folder / "results"


@pytest.fixture
def finished(whole, tmp_path, monkeypatch) -> CampaignPaths:
    """A finished campaign in the working directory."""
    shutil.copytree(whole, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return CampaignPaths("toy")


def cut_off(paths: CampaignPaths, arm: str, iteration: int, rule: str) -> None:
    """Remove what a rule makes and what comes behind it."""
    for name in RULES[rule]:
        path = Path(paths.iteration(name, arm, iteration))
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_from_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run()
    assert run.to_its_end() == dict.fromkeys(ARMS, ITERATIONS - 1)
    assert sorted(run.made) == sorted(itertools.product(ARMS, range(ITERATIONS)))


def test_a_finished_campaign_has_nothing_to_make(finished):
    run = Run()
    assert run.to_its_end() == dict.fromkeys(ARMS, ITERATIONS - 1)
    assert run.made == []


@pytest.mark.parametrize("cut", range(len(STAGES)), ids=["-".join(map(str, stage)) for stage in STAGES])
def test_every_cut(finished, cut):
    """The run broke off before some rule: both arms end where they would, and no assessed iteration is made again."""
    for stage in reversed(STAGES[cut:]):
        cut_off(finished, *stage)
    missing = {stage[:2] for stage in STAGES[cut:]}
    run = Run()
    run.campaign.recovery.repair(lambda line: None)
    assert run.to_its_end() == dict.fromkeys(ARMS, ITERATIONS - 1)
    assert len(run.made) == len(set(run.made)) and set(run.made) == missing


@pytest.mark.parametrize("counts", list(itertools.product(range(ITERATIONS + 1), repeat=2)))
def test_however_far_each_arm_has_come(finished, counts):
    """An arm may have got ahead of the other one."""
    for arm, count in zip(ARMS, counts, strict=True):
        for iteration in range(count, ITERATIONS):
            shutil.rmtree(finished.iteration("", arm, iteration))
    run = Run()
    run.campaign.recovery.repair(lambda line: None)
    assert run.to_its_end() == dict.fromkeys(ARMS, ITERATIONS - 1)
    assert sorted(run.made) == [
        (arm, t) for arm, count in zip(ARMS, counts, strict=True) for t in range(count, ITERATIONS)
    ]


def test_a_tightened_rule_uses_what_is_paid_for_a_loosened_one_goes_on(finished):
    for limit, expected in ((1, ITERATIONS - 1), (ITERATIONS, ITERATIONS)):
        run = Run(limit)
        assert run.to_its_end() == dict.fromkeys(ARMS, expected)
        assert run.made == ([] if limit == 1 else [(arm, ITERATIONS) for arm in ARMS])


def test_a_control_ends_where_its_leader_does(finished):
    """Arm main stopped early; its control, further on disk by whatever way, is not walked beyond what is there."""
    for arm in ARMS:
        shutil.rmtree(finished.iteration("", arm, 2))
    shutil.rmtree(finished.iteration("", ARMS[1], 1))
    run = Run(1)
    assert run.to_its_end() == dict.fromkeys(ARMS, 1)
    assert run.made == [(ARMS[1], 1)]


def test_failed_labels_that_are_to_be_tried_again_open_the_next_iteration(finished, monkeypatch):
    run = Run()
    monkeypatch.setattr(run.campaign, "retry_requests", lambda arm, t: ["again"] if (arm, t) == ("main", 3) else [])
    monkeypatch.setattr(run.campaign, "only_retries", lambda arm, t: t == 3)
    assert run.to_its_end() == {"main": 3, ARMS[1]: 2}
    assert run.made == [("main", 3)]
