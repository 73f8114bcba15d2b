"""Leases whose time tells nothing, that were copied with their campaign, or that are no files."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from quarry.campaign import lease as lease_module
from quarry.campaign.lease import STALE_AFTER_S, Lease
from quarry.errors import QuarryError
from support.leases import check_refused, check_taken, foreign, holder


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "results" / "toy" / ".lease.json"


class TestClocks:
    """The time of a lease is its file server's, and may be of the future: a wrong clock, a backup that was put back."""

    @pytest.fixture(autouse=True)
    def short_watch(self, monkeypatch):
        monkeypatch.setattr(lease_module, "WATCH_S", 0.5)
        monkeypatch.setattr(lease_module, "LOOK_S", 0.02)

    def test_a_dead_lease_of_the_future_is_taken_over(self, path, capsys):
        foreign(path, age_s=-10 * 365 * 86400, host="elsewhere")
        check_taken(path)
        assert "lies in the future; waiting for its owner's heartbeat" in capsys.readouterr().err

    def test_a_living_one_is_not(self, path, monkeypatch):
        foreign(path, age_s=-86400, host="elsewhere", pid=1234)
        sleep = time.sleep

        def beat(seconds):
            sleep(seconds)
            moment = time.time() + 86400
            os.utime(path, (moment, moment))

        monkeypatch.setattr(time, "sleep", beat)
        check_refused(path, "process 1234 on elsewhere")

    def test_one_that_vanishes_meanwhile_was_given_back(self, path, monkeypatch):
        foreign(path, age_s=-86400, host="elsewhere")
        monkeypatch.setattr(time, "sleep", lambda seconds: path.unlink(missing_ok=True))
        check_taken(path)

    def test_this_machines_clock_does_not_matter(self, path, monkeypatch):
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now - 86400)
        foreign(path, host="elsewhere", pid=1234)
        os.utime(path, (now, now))
        check_refused(path, "process 1234 on elsewhere")
        os.utime(path, (now - STALE_AFTER_S - 30,) * 2)
        check_taken(path)

    @pytest.mark.parametrize("age_s", [1000, -86400])
    def test_what_a_crash_left_while_it_broke_a_lease_is_removed(self, path, age_s):
        foreign(path, ticks="1")
        breaker = path.with_name(f"{path.name}.breaking")
        breaker.write_text("{}")
        os.utime(breaker, (time.time() - age_s,) * 2)
        check_taken(path)


class TestCopies:
    def test_a_copy_is_nobodys_although_the_owner_of_the_original_lives(self, path):
        """cp -a results/toy results/copy while toy is run."""
        with holder(path):
            copy = path.parent.with_name("copy")
            shutil.copytree(path.parent, copy)
            check_taken(copy / path.name)
            check_refused(path)

    def test_a_renamed_folder_is_still_its_owners(self, path):
        with holder(path) as process:
            path.parent.rename(path.parent.with_name("renamed"))
            check_refused(path.parent.with_name("renamed") / path.name, f"process {process.pid} ")

    def test_another_name_for_the_folder_too(self, path):
        with holder(path) as process:
            path.parents[1].with_name("link").symlink_to(path.parents[1])
            check_refused(path.parents[1].with_name("link") / "toy" / path.name, f"process {process.pid} ")

    def test_a_copy_that_another_machine_made_waits_for_the_heartbeat_to_age(self, path):
        foreign(path, host="elsewhere", folder=["/results/other", 1])
        check_refused(path, "on elsewhere")

    def test_a_lease_of_an_earlier_version_does_not_say_its_folder(self, path):
        owner = foreign(path)
        del owner["folder"]
        path.write_text(json.dumps(owner))
        check_refused(path, f"process {os.getpid()} ")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_something_else_in_its_place_is_named(path, make):
    path.parent.mkdir(parents=True)
    make(path)
    with pytest.raises(QuarryError, match=r"cannot tell whether this campaign is being run .* remove .*lease.json"):
        Lease(path).acquire()
