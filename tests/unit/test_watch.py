"""``quarry status --watch`` in terminals of any kind and in none, and how ``quarry`` ends when it is asked to."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from quarry.status import picture
from quarry.status.facts import CampaignStatus
from quarry.status.reading import read_status
from support.campaigns import REPOSITORY
from support.data_sets import campaign_of, of_all_kinds
from support.made_up import MadeUp


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    monkeypatch.setattr(picture, "REFRESH_S", 0.0)
    made = MadeUp(tmp_path, max_labels=30)
    made.begin_run()
    made.iteration(0, 4, 0.5)
    made.batch(1, ["aa1", "ab2", "ac3"], predicted_s=120.0)
    made.lease(5.0, host="node17", boot="another")
    return made


def watched(statuses: Sequence[CampaignStatus], console: Console) -> None:
    """Watch a campaign that is in these states at one look after the other, and then ended."""
    ended = replace(statuses[-1], main_process=replace(statuses[-1].main_process, state="none"))
    looks = iter([*statuses, ended])
    picture.watch(lambda: next(looks), console)


def test_a_terminal_that_takes_text_alone_is_told_in_lines(campaign: MadeUp) -> None:
    written = io.StringIO()
    watched([read_status(campaign.paths)], Console(file=written, force_terminal=True, _environ={"TERM": "dumb"}))
    assert "4 of 30 allowed" in written.getvalue()
    assert "\x1b" not in written.getvalue()


def test_a_file_gets_a_campaign_again_when_something_has_happened(campaign: MadeUp) -> None:
    """And not because its heartbeat or a job has become older."""
    first, written = read_status(campaign.paths), io.StringIO()
    older = replace(first, main_process=replace(first.main_process, heartbeat_age_s=12.3), expected_end=None)
    campaign.label("aa1")
    campaign.fail("ab2", "no basis for Xe")
    watched([first, older, older, read_status(campaign.paths)], Console(file=written, width=300))
    text = written.getvalue()
    assert text.count("toy: running elsewhere") == 2
    assert text.count("0 of 3 done") == text.count("2 of 3 done") == 1
    assert "no basis for Xe" in text


def started(code: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


COMMAND = "import sys\nfrom quarry.command_line.main import main\nsys.exit(main())"
WRITES = """
import sys, time
from quarry.product.formats import hdf5
from quarry.product.formats.base import Format
def write(data, rows, path):
    path.write_text("half")
    time.sleep(60)
hdf5.FORMAT = Format("hdf5", "slow", (".h5",), write)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_ended_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    campaign_of(tmp_path / "mine", of_all_kinds())
    (tmp_path / "to").mkdir()
    process = started(WRITES + COMMAND, tmp_path, "export", "mine", "--format", "hdf5", "--to", "to/a.h5")
    wait_for(lambda: any((tmp_path / "to").iterdir()))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert list((tmp_path / "to").iterdir()) == []


def test_whoever_watches_ends_it_once_or_twice(campaign: MadeUp) -> None:
    lease = Path(campaign.paths.lease)
    watchers = [started(COMMAND, campaign.folder, "status", "results/toy", "--watch") for _ in range(2)]
    for watcher in watchers:
        assert watcher.stdout is not None
        assert watcher.stdout.readline().startswith("toy: running elsewhere")
        os.utime(lease)
    before = campaign.state()
    for watcher, times in zip(watchers, (1, 2), strict=True):
        for _ in range(times):
            watcher.send_signal(signal.SIGINT)
        _, err = watcher.communicate(timeout=60)
        # A second one ends a process at once.
        assert watcher.returncode in (130, -signal.SIGINT)
        assert err == ""
    assert campaign.state() == before


def test_ended_before_it_has_begun_it_says_nothing(tmp_path: Path) -> None:
    early = (
        "import os, signal, quarry.command_line.main as command\n"
        "command._parser = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
    )
    process = started(early + COMMAND, tmp_path, "status")
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", 130)


@pytest.mark.parametrize("gone", [True, False])
def test_results_that_are_removed_while_somebody_watches_are_one_line(gone: bool, campaign: MadeUp) -> None:
    process = started(COMMAND, campaign.folder, "status", "results/toy", "--watch")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("toy: running elsewhere")
    results = Path(campaign.paths.root)
    results.rename(results.with_name("other"))
    if not gone:
        # Somebody else's, of the same name, which nobody runs.
        results.mkdir()
        (results / "campaign.json").write_bytes(results.with_name("other").joinpath("campaign.json").read_bytes())
    out, err = process.communicate(timeout=60)
    if gone:
        assert (process.returncode, err.count("\n")) == (1, 1)
        assert err.startswith("Quarry: results/toy: campaign.json is absent")
    else:
        assert (process.returncode, err) == (0, "")
        assert "toy: not finished, and nobody runs it" in out
