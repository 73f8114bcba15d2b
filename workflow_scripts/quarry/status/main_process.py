"""Whether somebody runs a campaign, by its lease. Other than ``quarry.campaign.lease`` this writes nothing, so that the age of
a heartbeat is by this machine's clock.
"""

from __future__ import annotations

import time
from pathlib import Path

from quarry.campaign.lease import STALE_AFTER_S
from quarry.processes import IDENTITY, is_running, this_process
from quarry.status.facts import MainProcess
from quarry.status.files import object_in, time_of


def main_process(lease: str | Path) -> MainProcess:
    """Return who runs a campaign. lease: its file."""
    owner, touched = object_in(lease), time_of(lease)
    if touched is None or not owner.keys() >= set(IDENTITY):
        return MainProcess("none")
    age_s, here = time.time() - touched, this_process()
    running = False if owner["host"] == here["host"] and owner["boot"] != here["boot"] else is_running(owner)
    unseen = "elsewhere" if abs(age_s) < STALE_AFTER_S else "silent"
    state = {None: unseen, True: "here", False: "dead"}[running]
    pid = owner["pid"] if isinstance(owner["pid"], int) else None
    return MainProcess(state, str(owner["host"]), pid, str(owner.get("started", "")), round(age_s, 1))
