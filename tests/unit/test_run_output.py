"""What the terminal shows of a run: the campaign, and Snakemake's errors whole."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

import snakemake_logger_plugin_quarry as plugin
from quarry.campaign.invocation import Invocation
from quarry.run_output.messages import VARIABLE, Show, how_to_show, must_be_read
from quarry.run_output.output import RunOutput
from support.campaigns import REPOSITORY
from support.made_up import MadeUp
from support.pseudo_terminal import in_terminal, text_of


class TestOfTheInterface(TestLogHandlerBase):
    """What the interface of logger plugins asks of each of them."""

    __test__ = True

    def get_log_handler_cls(self) -> type[plugin.LogHandler]:
        return plugin.LogHandler

    def get_log_handler_settings(self) -> None:
        return None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def settings(**changes: Any) -> Any:
    found = MockOutputSettings()
    vars(found).update({"printshellcmds": False, **changes})
    return found


@pytest.mark.parametrize(
    ("changes", "wanted", "stream", "show"),
    [
        ({}, "", Terminal(), Show.LIVE),
        ({}, "", io.StringIO(), Show.PLAIN),
        ({}, "plain", Terminal(), Show.PLAIN),
        ({}, "nonsense", Terminal(), Show.LIVE),
        ({}, "live", io.StringIO(), Show.PLAIN),
        ({}, "snakemake", Terminal(), Show.SNAKEMAKE),
        ({"dryrun": True}, "", Terminal(), Show.PLAIN),
        ({"verbose": True}, "", Terminal(), Show.SNAKEMAKE),
        ({"printshellcmds": True}, "", Terminal(), Show.SNAKEMAKE),
        ({"quiet": {Quietness.PROGRESS}}, "", Terminal(), Show.PLAIN),
        ({"quiet": {Quietness.HOST, Quietness.REASON}}, "", Terminal(), Show.LIVE),
    ],
)
def test_how_a_run_is_shown(changes: dict[str, Any], wanted: str, stream: Any, show: Show) -> None:
    assert how_to_show(settings(**changes), stream, wanted) is show


def test_in_a_terminal_that_takes_text_alone_there_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert how_to_show(settings(), Terminal()) is Show.PLAIN


def record(
    text: str | None, level: int = logging.INFO, event: LogEvent | None = None, **more: Any
) -> logging.LogRecord:
    made = logging.LogRecord("snakemake.logging", level, "x.py", 1, text, (), None)
    vars(made).update({"event": event, **more})
    return made


FAILED = {
    "rule_name": "merge_labels", "rule_msg": "", "jobid": 7, "input": [], "output": ["results/toy/x"], "conda_env": None,
    "shellcmd": None, "aux": {}, "indent": False,
}  # fmt: skip


def test_errors_and_what_a_user_asked_for_are_read() -> None:
    assert must_be_read(record("Error in rule", logging.ERROR, LogEvent.JOB_ERROR))
    assert must_be_read(record("a warning", logging.WARNING))
    assert must_be_read(record("Nothing to be done (all requested files are present and up to date)."))
    assert not must_be_read(record("Select jobs to execute..."))
    assert not must_be_read(record("Nothing to be done", event=LogEvent.PROGRESS))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that makes an output in plain lines, and says what it has shown so far."""
    monkeypatch.setenv(VARIABLE, "plain")

    def make(**changes: Any) -> tuple[RunOutput, Callable[[], str]]:
        output = RunOutput(settings(**changes))

        def so_far() -> str:
            out, err = capfd.readouterr()
            return out + err

        return output, so_far

    return make


def campaign(invocation: Invocation, is_alone: Callable[[], bool] = lambda: True) -> Any:
    return SimpleNamespace(invocation=invocation, paths=None, is_alone=is_alone)


def test_of_a_campaign_steps_are_left_to_the_log_file_and_errors_are_whole(shown: Any, tmp_path: Path) -> None:
    output, so_far = shown()
    log = tmp_path / "merge_labels.log"
    log.write_text("first line of the log\nlast line of the log\n")
    output.take(record("Building DAG of jobs..."))
    output.follow(campaign(Invocation.RUN))
    output.take(record("Workflow has started!", event=LogEvent.WORKFLOW_STARTED))
    output.take(record("Select jobs to execute..."))
    output.take(record("", event=LogEvent.PROGRESS, done=1, total=2))
    assert so_far() == ""
    output.take(record("failed", logging.ERROR, LogEvent.JOB_ERROR, log=[str(log)], **FAILED))
    text = so_far()
    assert "Error in rule merge_labels" in text
    assert "first line of the log\nlast line of the log" in text
    output.close()


def test_a_look_at_the_graph_shows_what_snakemake_says(shown: Any) -> None:
    output, so_far = shown()
    output.take(record("Building DAG of jobs..."))
    assert so_far() == ""
    output.pass_on()
    output.take(record("Select jobs to execute..."))
    assert so_far().splitlines() == ["Building DAG of jobs...", "Select jobs to execute..."]


def test_a_workflow_that_is_not_quarrys_shows_what_snakemake_says(shown: Any) -> None:
    output, so_far = shown(quiet={Quietness.HOST})
    output.take(record("Building DAG of jobs..."))
    output.take(record("Workflow has started!", event=LogEvent.WORKFLOW_STARTED, quietness=Quietness.HOST))
    output.take(record("Select jobs to execute..."))
    assert so_far().splitlines() == ["Building DAG of jobs...", "Select jobs to execute..."]


@pytest.mark.parametrize("campaigns", [1, 2])
def test_a_workflow_that_is_more_than_a_campaign_shows_what_snakemake_says(shown: Any, campaigns: int) -> None:
    """Rules of the user's own, which are known when the whole Snakefile is read; or several campaigns."""
    output, so_far = shown(quiet={Quietness.HOST})
    whole_snakefile_is_read = False
    output.take(record("Building DAG of jobs..."))
    for _ in range(campaigns):
        output.follow(campaign(Invocation.RUN, lambda: campaigns > 1 or not whole_snakefile_is_read))
    output.take(record("Using shell: /usr/bin/bash"))
    whole_snakefile_is_read = True
    output.take(record("Workflow has started!", event=LogEvent.WORKFLOW_STARTED, quietness=Quietness.HOST))
    output.take(record("Select jobs to execute..."))
    assert so_far().splitlines() == [
        "Building DAG of jobs...",
        "Using shell: /usr/bin/bash",
        "Select jobs to execute...",
    ]


class OtherOutput(RunOutput):
    pass


def test_the_plugin_waits_for_the_library_of_the_snakefile(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before it is not lost; and an installed library is not loaded in place of another."""
    _, so_far = shown()
    installed = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "quarry"}
    for name in installed:
        monkeypatch.delitem(sys.modules, name)
    handler = plugin.LogHandler(settings(), None)
    handler.emit(record("an early warning", logging.WARNING))
    assert "quarry" not in sys.modules and so_far() == ""
    for name, module in installed.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("quarry.run_output.output.RunOutput", OtherOutput)
    handler.emit(record("a later one", logging.WARNING))
    assert isinstance(handler.output, OtherOutput)
    assert so_far().splitlines() == ["an early warning", "a later one"]
    handler.close()


def test_the_plugin_imports_nothing_of_quarry_before_it_is_used() -> None:
    code = (
        "import sys, snakemake_logger_plugin_quarry\n"
        "assert not {name.partition('.')[0] for name in sys.modules} & {'quarry', 'rich'}"
    )
    environment = {"PYTHONPATH": str(REPOSITORY / "workflow_scripts")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


LIVE = """
import os, subprocess, sys, time
from quarry.campaign.paths import CampaignPaths
from quarry.run_output.live import LivePicture
picture = LivePicture(CampaignPaths("toy", "results/toy"))
print("a line of this process", file=sys.stderr, flush=True)
subprocess.run([sys.executable, "-c", "print('a line of a job')"])
time.sleep({wait})
picture.close()
picture.close()
print("after it", file=sys.stderr)
"""


def picture_in_terminal(folder: Path, wait: float, kill_after_s: float = 0.0) -> str:
    """Run a picture in a pseudo-terminal; return what it wrote there."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")}
    return in_terminal([sys.executable, "-c", LIVE.format(wait=wait)], folder, environment, kill_after_s)[1]


def test_a_picture_keeps_every_line_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, max_labels=30)
    made.begin_run()
    made.iteration(0, 4, 0.5)
    made.batch(1, ["aa1", "ab2"], predicted_s=1.0)
    made.lease()
    written = picture_in_terminal(tmp_path, 4.0)
    lines = [line for line in text_of(written).splitlines() if line.strip()]
    for line in ("a line of this process", "a line of a job", "after it"):
        assert lines.count(line) == 1
    assert "4 of 30 labels" in written
    assert "iteration 1: 0 of 2 done" in written
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")
    assert list((tmp_path / ".snakemake" / "log").iterdir()) == []


def test_a_picture_whose_process_is_killed_leaves_the_cursor(tmp_path: Path) -> None:
    MadeUp(tmp_path, max_labels=30).begin_run()
    written = picture_in_terminal(tmp_path, 60.0, kill_after_s=8.0)
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l") >= 0
    (left,) = (tmp_path / ".snakemake" / "log").iterdir()
    assert left.read_text() == "a line of this process\na line of a job\n"
