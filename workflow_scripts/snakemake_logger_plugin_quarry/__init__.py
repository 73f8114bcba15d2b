"""Snakemake's logger plugin ``quarry``, found by the name of this package; profiles switch it on (``logger: quarry``).

Snakemake imports it in each of its processes, so that it imports nothing of Quarry before it is used: which library is used is
the Snakefile's choice.
"""

from __future__ import annotations

from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Shows the campaign instead of Snakemake's steps (``quarry.run_output``)."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        from quarry.run_output.output import RunOutput

        self.output = RunOutput(self.common_settings)

    def follow(self, campaign: Any) -> None:
        """Show a campaign (``quarry.campaign.campaign.Campaign``), which the Snakefile has opened."""
        self.output.follow(campaign)

    def pass_on(self) -> None:
        """Show what Snakemake says, as it says it: for a look at the graph, and a workflow that has rules of its own."""
        self.output.pass_on()

    def emit(self, record: LogRecord) -> None:
        """Show a message of Snakemake's, or leave it to its log file."""
        try:
            self.output.take(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Show what is left, and give the terminal back."""
        self.output.close()
        super().close()
