"""Receipts: what each finished job wrote (size and hash of every file) and what it cost.

They let a restart tell a whole file from a truncated one before anything is built on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from quarry.files import digest_of, sha256_of, write_json

HASH_LIMIT_BYTES = 256 * 1024 * 1024
"""Larger files are checked by their size only when a campaign starts."""


def write_receipt(path: Path, rule: str, outputs: Iterable[str], cost: dict[str, Any]) -> None:
    """Account for the files among ``outputs`` (folders are left out)."""
    files = [Path(o) for o in outputs if Path(o).is_file()]
    entries = {f.as_posix(): {"bytes": f.stat().st_size, "sha256": sha256_of(f)} for f in files}
    body = {"rule": rule, "outputs": entries, "cost": cost}
    write_json(path, {**body, "checksum": digest_of(body)})


def _read(path: Path) -> dict[str, Any] | None:
    try:
        receipt = json.loads(path.read_bytes())
        return receipt if receipt.pop("checksum") == digest_of(receipt) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_receipts(folder: Path) -> list[dict[str, Any]]:
    """Return the whole receipts of a folder; a damaged one accounts for nothing."""
    return [receipt for path in sorted(folder.glob("*.json")) if (receipt := _read(path)) is not None]


def damaged_receipts(folder: Path) -> list[Path]:
    """Return the receipts of a folder that are damaged themselves."""
    return [path for path in sorted(folder.glob("*.json")) if _read(path) is None]


def missing_and_damaged(folder: Path, thorough: bool) -> tuple[list[Path], list[Path]]:
    """Return the files that the receipts of a folder name and that are (absent, not what the receipt says).

    thorough: compare hashes too, not only sizes.
    """
    missing, damaged = [], []
    for receipt in read_receipts(folder):
        for name, entry in receipt["outputs"].items():
            path = Path(name)
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                missing.append(path)
                continue
            if size != entry["bytes"] or (thorough and size < HASH_LIMIT_BYTES and sha256_of(path) != entry["sha256"]):
                damaged.append(path)
    return missing, damaged
