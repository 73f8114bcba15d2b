"""What this invocation of Snakemake is for: a real run, a dry run, a look at the graph, or a job."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Set
from contextlib import redirect_stderr
from enum import Enum
from functools import lru_cache
from typing import Any

INSPECTIONS = (
    "report",
    "dag",
    "rulegraph",
    "filegraph",
    "d3dag",
    "summary",
    "detailed_summary",
    "lint",
    "list_rules",
    "list_target_rules",
    "print_compilation",
    "list_changes",
    "list_input_changes",
    "list_params_changes",
    "list_untracked",
    "archive",
    "delete_all_output",
    "delete_temp_output",
    "generate_unit_tests",
    "containerize",
    "cleanup_metadata",
    "unlock",
)
"""Command-line options that look at (or act on) the whole graph and run no job."""

LOOKING_RULES = frozenset({"dag_pictures"})
"""Rules that, asked for alone, look at the whole graph and change nothing of the campaign."""
_looking: set[str] = set()
"""Their names in this workflow, as it is read: each module may give them a prefix of its own."""

VARIABLE = "QUARRY_INVOCATION"
"""Environment variable that states the invocation where there is no command line (Snakemake's API)."""


COMMAND = "QUARRY_COMMAND"
"""Environment variable by which the main process tells jobs its own command line: a list in JSON."""


class Invocation(Enum):
    """run: takes the lease, repairs damaged files, seals finished iterations. dry_run: seals, changes nothing.
    inspection: shows the whole graph, changes nothing. job: a single job, here or on a compute node.
    """

    RUN = "run"
    DRY_RUN = "dry_run"
    INSPECTION = "inspection"
    JOB = "job"


def invocation_of(workflow: Any, rule_name: Callable[[str], str] = str) -> tuple[Invocation, tuple[str, ...]]:
    """Return what this invocation is for, and its targets; jobs of a main process are told its command line (``COMMAND``).

    workflow: the object of that name in the Snakefile. rule_name: returns the name that a rule has in the workflow.
    """
    if not workflow.is_main_process:
        return Invocation.JOB, ()
    if VARIABLE in os.environ:
        return Invocation(os.environ[VARIABLE]), ()
    given = command_line()
    os.environ[COMMAND] = json.dumps(sys.argv[1:])
    _looking.update(map(rule_name, LOOKING_RULES))
    return kind_of(given, _looking), tuple(map(str, given.get("targets") or ()))


def command_line() -> dict[str, Any]:
    """Return Snakemake's options of this process by name; empty where there is no command line of Snakemake's."""
    return _options(tuple(sys.argv[1:]))


@lru_cache(maxsize=1)
def _options(arguments: tuple[str, ...]) -> dict[str, Any]:
    # To make Snakemake's parser takes a fifth of a second.
    try:
        from snakemake.cli import get_argument_parser

        # Not snakemake.cli.parse_args: it looks for profiles in the working directory, which may have changed by now.
        with redirect_stderr(io.StringIO()):
            return vars(get_argument_parser().parse_args(arguments))
    except (Exception, SystemExit):
        return {}


def kind_of(given: Mapping[str, Any], looking: Set[str] = LOOKING_RULES) -> Invocation:
    """Return what an invocation with these options is for. looking: names of ``LOOKING_RULES`` in the workflow."""
    if given.get("report_after_run"):
        return Invocation.RUN
    if any(given.get(name) for name in INSPECTIONS):
        return Invocation.INSPECTION
    if given.get("dryrun"):
        return Invocation.DRY_RUN
    asked = set(given.get("targets") or ())
    return Invocation.INSPECTION if asked and asked <= looking else Invocation.RUN
