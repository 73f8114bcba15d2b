"""``last_run.json``: how a campaign was last run, for whoever looks at its files (``quarry status``).

The manifest holds what may not change; budgets, cores and the log of Snakemake may, from run to run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from quarry.config.campaign import Configuration
from quarry.files import read_file, write_json

LAST_RUN_FORMAT = 1
FINISHED, BROKE_OFF = "finished", "broke_off"
"""How a run ended; a run that was killed or interrupted says nothing."""

KINDS: dict[str, Any] = {
    **dict.fromkeys(("targets", "arms"), list),
    **dict.fromkeys(("started", "working_directory", "store", "log", "end"), str),
    **dict.fromkeys(("max_labels", "max_iterations", "label_cores", "model_cores", "cores", "jobs"), int),
    "max_core_hours": int | float,
}
"""Kinds of what is looked at."""


def begin_run(
    path: str | Path, configuration: Configuration, targets: Sequence[str], machine: Mapping[str, Any]
) -> None:
    """Write down that a run begins.

    targets: of the command line. machine: cores (of this machine), jobs (at once on a cluster, None: jobs run here) and
    log (Snakemake's own log file, None: none).
    """
    stop, label = configuration.stop, configuration.resources.label
    write_json(
        path,
        {
            "format": LAST_RUN_FORMAT,
            "started": _now(),
            "targets": list(targets),
            "working_directory": os.path.relpath(Path.cwd(), Path(path).parent),
            "store": configuration.labeling.store,
            "arms": configuration.arm_names,
            "max_labels": stop.max_labels,
            "max_core_hours": stop.max_core_hours,
            "max_iterations": stop.max_iterations,
            "target_rmse": stop.target_rmse,
            "rrmse": stop.rrmse,
            "label_cores": label.threads * label.tasks,
            "model_cores": configuration.resources.train.threads,
            **machine,
        },
    )


def read_run(path: str | Path) -> dict[str, Any]:
    """Return what is written down of the last run, without what is of another kind than ``begin_run`` writes; nothing of a file
    that is absent or damaged.
    """
    try:
        found = json.loads(read_file(path)[0])
    except (OSError, ValueError):
        return {}
    kept = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in kept if isinstance(value, KINDS.get(key, object))}


def end_run(path: str | Path, how: str) -> None:
    """Write down how a run ended (``FINISHED``, ``BROKE_OFF``); a disk that does not take it ends nothing."""
    with suppress(OSError, ValueError):
        write_json(path, {**json.loads(Path(path).read_bytes()), "ended": _now(), "end": how})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
