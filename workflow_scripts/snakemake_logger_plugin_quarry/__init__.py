"""Snakemake's logger plugin ``quarry``, found by the name of this package; profiles switch it on (``logger: quarry``).

Snakemake imports it in each of its processes, and before the Snakefile is read, which chooses the library (a Snakefile from a
repository brings its own). So nothing of Quarry is imported here before the Snakefile has done it, or turns out to be no
Snakefile of Quarry's.
"""

from __future__ import annotations

import sys
from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    """Shows the campaign instead of Snakemake's steps (``quarry.run_output``)."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._output: Any = None
        self._early: list[LogRecord] = []

    @property
    def output(self) -> Any:
        """Where messages go (``RunOutput``), with those that came before there was a library."""
        if self._output is None:
            from quarry.run_output.output import RunOutput

            self._output = RunOutput(self.common_settings)
            early, self._early = self._early, []
            for record in early:
                self._output.take(record)
        return self._output

    def follow(self, campaign: Any) -> None:
        """Show a campaign (``quarry.campaign.campaign.Campaign``), which the Snakefile has opened."""
        self.output.follow(campaign)

    def pass_on(self) -> None:
        """Show what Snakemake says, as it says it: for a look at the graph."""
        self.output.pass_on()

    def emit(self, record: LogRecord) -> None:
        """Show a message of Snakemake's, or leave it to its log file."""
        try:
            if "quarry" in sys.modules or getattr(record, "event", None) == LogEvent.WORKFLOW_STARTED:
                self.output.take(record)
            else:
                self._early.append(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Show what is left, and give the terminal back."""
        if self._early or self._output is not None:
            self.output.close()
        super().close()
