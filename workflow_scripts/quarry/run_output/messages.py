"""Which of Snakemake's messages a user must read."""

from __future__ import annotations

import logging
import os
from enum import Enum
from typing import Any, TextIO

VARIABLE = "QUARRY_TERMINAL"
"""Environment variable that says how a run is shown: one of ``Show``."""
SAID = (
    "Nothing to be done",
    "Complete log(s):",
    "Trying to restart job",
    "Removing output files of failed job",
    "Will exit after finishing",
    "Shutting down",
    "Terminating processes on user request",
    "Elapsed time:",
)
"""Beginnings of messages that are neither warnings nor errors and that a user must read, in the words of Snakemake 9.27."""


TEXT_ONLY = ("dumb", "unknown")
"""Terminals (``TERM``) in which nothing can be drawn, such as an editor's."""


class Show(Enum):
    """live: one picture that stays in its place. plain: lines. snakemake: everything that Snakemake says, as it says it."""

    LIVE = "live"
    PLAIN = "plain"
    SNAKEMAKE = "snakemake"


def how_to_show(settings: Any, stream: TextIO, wanted: str = "") -> Show:
    """Return how a run is shown.

    settings: Snakemake's (verbose, quiet, dryrun, debug_dag, printshellcmds). stream: where it goes. wanted: what the
    environment variable says, if anything; without a terminal that can be drawn in there is no picture all the same.
    """
    quiet = {str(getattr(word, "name", word)).lower() for word in settings.quiet or ()}
    full = settings.verbose or settings.debug_dag or settings.printshellcmds or "all" in quiet
    if wanted in {show.value for show in Show}:
        show = Show(wanted)
    else:
        show = Show.SNAKEMAKE if full else Show.PLAIN if "progress" in quiet else Show.LIVE
    is_terminal = stream.isatty() and os.environ.get("TERM", "").lower() not in TEXT_ONLY
    is_picture = show is Show.LIVE and not settings.dryrun and is_terminal
    return Show.PLAIN if show is Show.LIVE and not is_picture else show


def must_be_read(record: logging.LogRecord) -> bool:
    """Whether a message is to be shown where a campaign is: warnings and errors whole, and what ``SAID`` names."""
    if record.levelno >= logging.WARNING:
        return True
    event = getattr(record, "event", None)
    return event is None and record.levelno >= logging.INFO and str(record.msg).startswith(SAID)
