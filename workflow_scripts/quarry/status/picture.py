"""A campaign as one picture in a terminal: a few lines that stay in their place while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from quarry.status.facts import ArmStatus, CampaignStatus
from quarry.status.text import (
    arm_words,
    batch_words,
    end_words,
    job_words,
    lasting_lines,
    state_words,
    status_lines,
    trend_words,
)

REFRESH_S = 2.0
BAR_WIDTH, NAME_WIDTH = 24, 8
FEWEST_WORDS = 40
"""Columns of the terminal that words have beside a bar; where they would be fewer there is no bar."""
MOST_ARMS = 4
"""Arms that have lines of their own; the others are counted."""
MOST_JOBS = 3


def picture(status: CampaignStatus, is_own: bool = False) -> RenderableType:
    """Return the picture. is_own: whether this process itself runs the campaign."""
    return _Picture(status, is_own)


@dataclass(frozen=True)
class _Picture:
    """The picture, which is laid out when it is drawn: a terminal may become narrow meanwhile."""

    status: CampaignStatus
    is_own: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _laid_out(self.status, self.is_own, options.max_width)


def _laid_out(status: CampaignStatus, is_own: bool, width: int) -> RenderableType:
    """Return the picture for a terminal of so many columns."""
    is_wide = width >= NAME_WIDTH + BAR_WIDTH + 2 + FEWEST_WORDS
    has_bar = bool(status.max_labels or status.max_core_hours or any(arm.batch for arm in status.arms))
    rows = Table.grid(padding=(0, 1), expand=True)
    rows.add_column(min_width=NAME_WIDTH, max_width=NAME_WIDTH)
    rows.add_column(no_wrap=True, min_width=BAR_WIDTH if has_bar and is_wide else 0)
    rows.add_column(ratio=1)

    def add(name: str, bar: RenderableType, words: str) -> None:
        rows.add_row(_line(name), bar if is_wide else "", _line(words))

    if status.max_labels:
        left = f"{status.labels} of {status.max_labels} labels"
        add("budget", _bar(status.labels, status.max_labels), left)
    else:
        add("labels", "", str(status.labels))
    arms = _shown(status.arms)
    for arm in arms:
        add(arm.arm, *_bar_and_words(arm))
        if trend := trend_words(arm):
            add("", "", trend)
    if len(status.arms) > len(arms):
        add("", "", f"and {len(status.arms) - len(arms)} more arms")
    hours = f"{status.core_hours:.3g} core-hours"
    hours += f" of {status.max_core_hours:g}" if status.max_core_hours is not None else ""
    add("cost", "" if not status.max_core_hours else _bar(status.core_hours, status.max_core_hours), hours)
    if words := end_words(status):
        add("ends", "", words)
    failed = sum(failure.count for failure in status.failures)
    if failed:
        last = status.failures[0]
        add("failed", "", f"{failed} labels; last: {last.failure_class}: {last.last_message}")
    lines = [job_words(job) for job in sorted(status.jobs, key=lambda job: -(job.elapsed_s or 0.0))]
    shown = lines[:MOST_JOBS] + ([f"and {len(lines) - MOST_JOBS} more"] if len(lines) > MOST_JOBS else [])
    head = _line(
        f"{status.campaign}: Ctrl-C ends the run, the same command goes on"
        if is_own
        else f"{status.campaign}: {state_words(status)}",
        "bold",
    )
    return Group(head, rows, *(_line(line, "dim") for line in shown))


def watch(read: Callable[[], CampaignStatus], console: Console | None = None) -> None:
    """Show a campaign until nobody runs it any more. read: returns its status. Where no picture can be drawn (no terminal, or
    one that takes text alone) it is printed again whenever something has happened.
    """
    console = console or Console()
    status = read()
    if not console.is_terminal or console.is_dumb_terminal:
        before: list[str] = []
        while status.main_process.is_alive:
            lasting = lasting_lines(status)
            if lasting != before:
                console.print("\n".join(status_lines(status)), markup=False, highlight=False, soft_wrap=True)
            before = lasting
            time.sleep(REFRESH_S)
            status = read()
        return
    with Live(picture(status), console=console, auto_refresh=False, transient=True) as live:
        # A terminal that is left at once (kill -9, a lost connection) has its cursor.
        console.show_cursor(True)
        while status.main_process.is_alive:
            time.sleep(REFRESH_S)
            status = read()
            live.update(picture(status), refresh=True)


def _shown(arms: Sequence[ArmStatus]) -> list[ArmStatus]:
    """Return the arms that have lines of their own: the first, and those that have something to do."""
    first, rest = arms[:1], arms[1:]
    return [*first, *sorted(rest, key=lambda arm: arm.iteration_now is None)[: MOST_ARMS - 1]]


def _bar_and_words(arm: ArmStatus) -> tuple[RenderableType, str]:
    if arm.batch is None or arm.iteration_now is None:
        return "", arm_words(arm)
    return _bar(arm.batch.done, arm.batch.labels), f"iteration {arm.iteration_now}: {batch_words(arm.batch)}"


def _line(words: str, style: str = "") -> Text:
    """Return words that stay on a line, as they are: brackets of messages and names are no markup."""
    return Text(" ".join(words.split()), style=style, overflow="ellipsis", no_wrap=True)


def _bar(done: float, total: float) -> RenderableType:
    return ProgressBar(total=max(total, 1e-9), completed=min(done, total), width=BAR_WIDTH)
