"""An export: labels of a campaign as one file in a format of other programs."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from quarry.campaign.paths import CampaignPaths
from quarry.errors import QuarryError, reason_of
from quarry.product.formats.base import Format


def check_target(wanted: Format, target: Path) -> None:
    """Raise QuarryError for a file that is there already, cannot be written or is not of the format; reads no campaign."""
    wanted.check(target)
    if os.path.lexists(target):
        raise _there_already(target)
    if not target.parent.is_dir():
        raise QuarryError(f"--to {target}: there is no folder {target.parent}; make it, or name another file")


def export(paths: CampaignPaths, wanted: Format, target: Path, arm: str, parts: Sequence[str]) -> str:
    """Write an export; return what was taken. The campaign is only read.

    parts: of the split to write; empty: all labels that are not left out. Raises QuarryError as ``check_target`` and
    ``read_campaign``, and for labels that the format cannot hold.
    """
    check_target(wanted, target)
    # Here and not above: the command line reads this module for its help.
    import numpy as np

    from quarry.product.campaign_data import read_campaign

    data = read_campaign(paths, arm)
    rows = data.rows(parts) if parts else np.flatnonzero(data.labelled.used)
    if not len(rows):
        raise QuarryError(
            f"{data.words}; none of them is for {' or '.join(parts) or 'use'}, so nothing is written; "
            "ask for another part, or wait for the next iteration"
        )
    # Its ending says its kind to whoever writes it.
    temporary = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        wanted.write(data, rows, temporary)
        _put(temporary, target)
    except FileExistsError as error:
        raise _there_already(target) from error
    except (OSError, sqlite3.Error) as error:
        raise QuarryError(
            f"--to {target}: cannot be written ({reason_of(error)}); name another file, or make room"
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return f"{data.words}; wrote {len(rows)} of them to {target} ({wanted.words})"


def _there_already(target: Path) -> QuarryError:
    return QuarryError(f"--to {target} is there already; name another file, or remove it")


def _put(temporary: Path, target: Path) -> None:
    """Give a file its name, unless somebody else has written one of that name meanwhile. Raises FileExistsError."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links.
        if os.path.lexists(target):
            raise FileExistsError(f"{target} is there already") from None
        os.replace(temporary, target)
