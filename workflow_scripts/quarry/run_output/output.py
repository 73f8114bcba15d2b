"""The messages of a run of Snakemake, on their way to the terminal."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from quarry.campaign.dry_run import dry_run_lines
from quarry.campaign.invocation import Invocation
from quarry.run_output.messages import VARIABLE, Show, how_to_show, must_be_read

if TYPE_CHECKING:
    from quarry.run_output.live import LivePicture


class RunOutput:
    """Shows a run. Until the Snakefile has said what it is for, messages that may not be needed are kept back."""

    def __init__(self, settings: Any) -> None:
        """settings: Snakemake's (``OutputSettings``)."""
        stream = sys.stdout if settings.stdout else sys.stderr
        self.show = how_to_show(settings, stream, os.environ.get(VARIABLE, ""))
        self._handler = ColorizingTextHandler(
            settings.nocolor, stream, DefaultFormatter(settings.quiet, settings.show_failed_logs)
        )
        self._filter = DefaultFilter(
            settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
        )
        self._kept: list[logging.LogRecord] | None = [] if self.show is not Show.SNAKEMAKE else None
        self._campaigns: list[Any] = []
        self._live: LivePicture | None = None
        self._told_dry_run = False

    def follow(self, campaign: Any) -> None:
        """Show a campaign, once the whole Snakefile is read; what was kept back is in Snakemake's log file.

        With rules of the user's own beside it, or another campaign, what Snakemake says is shown.
        """
        self._campaigns.append(campaign)

    def pass_on(self) -> None:
        """Show what Snakemake says from now on, and what was kept back."""
        self.show, kept, self._kept = Show.SNAKEMAKE, self._kept or [], None
        for record in kept:
            self.take(record)

    def take(self, record: logging.LogRecord) -> None:
        """Show a message, keep it back, or leave it to Snakemake's log file."""
        if getattr(record, "event", None) == LogEvent.WORKFLOW_STARTED and self.show is not Show.SNAKEMAKE:
            self._begin()
        if not self._filter.filter(record):
            return
        if self.show is Show.SNAKEMAKE or must_be_read(record):
            self._print(record)
        elif self._kept is not None:
            self._kept.append(record)
        else:
            self._tell_dry_run(record)

    def close(self) -> None:
        """Show what is left, and give the terminal back."""
        if self._live is not None:
            self._live.close()

    def _begin(self) -> None:
        """Show the campaign from now on, and nothing else; or what Snakemake says, where the workflow is more than a campaign."""
        if len(self._campaigns) != 1 or not self._campaigns[0].is_alone():
            self.pass_on()
            return
        self._kept, [campaign] = None, self._campaigns
        if self.show is Show.LIVE and campaign.invocation is Invocation.RUN:
            # Here: most runs draw no picture.
            from quarry.run_output.live import LivePicture

            self._live = LivePicture(campaign.paths)

    def _print(self, record: logging.LogRecord) -> None:
        # A picture takes what is written to the streams and puts it above itself.
        with suppress(BrokenPipeError):
            self._handler.emit(record)

    def _tell_dry_run(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) != LogEvent.RUN_INFO or self._told_dry_run:
            return
        for campaign in self._campaigns:
            if campaign.invocation is Invocation.DRY_RUN:
                self._told_dry_run = True
                for line in dry_run_lines(campaign, getattr(record, "stats", {})):
                    print(line, file=self._handler.stream, flush=True)
