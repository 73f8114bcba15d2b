"""Receipts: what each finished job read and wrote (size and hash of every file), and what it cost.

By them a restart distinguishes an intact file from a truncated one before anything is built on it, and a file that is up to
date from one that only looks so by its time. Names are relative to the folder that the receipts account for (an iteration, the
pool, an arm ...), so that a campaign may be copied, renamed or moved, and a receipt never speaks of files elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from quarry.campaign.batch_table import jobs_of, read_batch
from quarry.campaign.loop import BENCHMARKS, outputs_of
from quarry.files import digest_of, read_file, sha256_of, write_json

RECEIPT_FORMAT = 2
HASH_LIMIT_BYTES = 256 * 1024 * 1024
"""Larger files are checked by their size only when a campaign starts."""
LABELS = "labels"
"""Folder whose files, thousands of a batch, a receipt's inputs name by one hash for all."""


def write_receipt(
    path: Path, rule: str, outputs: Iterable[str], cost: dict[str, Any], inputs: Iterable[str] = ()
) -> None:
    """Account for the files among ``outputs`` and ``inputs``; of folders only the names of outputs are kept.

    path: in the folder ``receipts`` of the folder that it accounts for, where all outputs lie.
    """
    base = path.parent.parent
    made = [Path(output) for output in outputs]
    read = sorted({Path(file) for file in inputs if Path(file).is_file()})
    labels = [file for file in read if _name(base, file) == f"{LABELS}/{file.name}"]
    body: dict[str, Any] = {
        "format": RECEIPT_FORMAT,
        "rule": rule,
        "outputs": {_inside(_name(base, file)): _entry(file) for file in made if file.is_file()},
        "folders": [_inside(_name(base, folder)) for folder in made if folder.is_dir()],
        "inputs": {_name(base, file): _entry(file, HASH_LIMIT_BYTES) for file in sorted({*read} - {*labels})},
        "cost": cost,
    }
    if labels:
        body["inputs"][LABELS] = {"sha256": _digest_of_all(labels)}
    write_json(path, {**body, "checksum": digest_of(body)})


@dataclass(frozen=True)
class Account:
    """What a job read and wrote: files with their sizes and hashes, and folders that it made.

    benchmark: where Snakemake writes what the job took, if it does; it counts the file's time among those of the outputs.
    """

    outputs: dict[Path, dict[str, Any]]
    folders: list[Path]
    inputs: dict[Path, dict[str, Any]]
    labels: list[Path]
    labels_digest: str | None
    benchmark: Path

    @property
    def is_true(self) -> bool:
        """Whether every file, read or written, is what it was then."""
        try:
            return all(_is_as(path, entry) for path, entry in [*self.outputs.items(), *self.inputs.items()]) and (
                self.labels_digest is None or _digest_of_all(self.labels) == self.labels_digest
            )
        except OSError:
            return False


def read_receipts(folder: Path) -> list[dict[str, Any]]:
    """Return the intact receipts of a folder as they were written; a damaged one accounts for nothing."""
    return [receipt for path in _files(folder) if (receipt := _read(path)) is not None]


def damaged_receipts(folder: Path) -> list[Path]:
    """Return the receipts of a folder that are damaged themselves."""
    return [path for path in _files(folder) if _read(path) is None]


def accounted(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return the files that the receipts of a folder account for, each with ``bytes`` and ``sha256``."""
    found: dict[Path, dict[str, Any]] = {}
    for path in _files(folder):
        receipt = _read(path)
        if receipt is not None:
            found.update(_outputs(path, receipt))
    return found


def is_other_than_written(path: Path) -> bool:
    """Whether a file of an iteration is not what the receipt of the job that made it says; False where no receipt tells.

    A receipt that is older than the file is that of an earlier making: the job that makes it now writes its own when it ends. So
    damage that leaves the time stamp (of a disk) is found here; that which does not, before the next job is planned.
    """
    for receipt in _files(path.parent / "receipts"):
        found = _read(receipt)
        entry = None if found is None else _outputs(receipt, found).get(path)
        if entry is not None and receipt.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            return not _is_as(path, entry)
    return False


def missing_and_damaged(folder: Path, thorough: bool) -> tuple[list[Path], list[Path]]:
    """Return the files that the receipts of a folder name and that are (absent, not what the receipt says).

    thorough: compare hashes too, not only sizes.
    """
    missing, damaged = [], []
    for path, entry in accounted(folder).items():
        try:
            if not _is_as(path, entry, thorough):
                damaged.append(path)
        except FileNotFoundError:
            missing.append(path)
    return missing, damaged


def accounts(folder: Path) -> list[Account]:
    """Return what the receipts of a folder say of their jobs, but those of earlier versions, which name no inputs."""
    base, found = folder.parent, []
    for path in _files(folder):
        receipt = _read(path)
        if receipt is None or receipt.get("format") != RECEIPT_FORMAT:
            continue
        inputs = dict(receipt["inputs"])
        together = inputs.pop(LABELS, None)
        labels: list[Path] = []
        if together is not None:
            try:
                labels = [base / LABELS / f"{job}.json" for job in jobs_of(read_batch(base / "batch.csv"))]
            except (OSError, ValueError):
                continue
        found.append(
            Account(
                outputs=_outputs(path, receipt),
                folders=[base / name for name in receipt["folders"] if _is_inside(name)],
                inputs={Path(os.path.normpath(base / name)): entry for name, entry in inputs.items()},
                labels=labels,
                labels_digest=together["sha256"] if together else None,
                benchmark=base / BENCHMARKS / f"{path.stem}.tsv",
            )
        )
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        receipt = json.loads(read_file(path)[0])
        return receipt if receipt.pop("checksum") == digest_of(receipt) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _outputs(path: Path, receipt: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Return the outputs of a receipt where it lies now, whatever the campaign was called when it was written."""
    base = path.parent.parent
    entries = receipt["outputs"].items()
    if receipt.get("format") != RECEIPT_FORMAT:
        entries = [(_rebased(path.stem, name), entry) for name, entry in entries]
    return {base / name: entry for name, entry in entries if _is_inside(name)}


def _rebased(receipt: str, name: str) -> str:
    """Return the name in its folder of a file that an earlier version named from the working directory on."""
    known = [output for output in outputs_of(receipt) if f"/{name}".endswith(f"/{output}")]
    return max(known, key=len, default=PurePosixPath(name).name)


def _name(base: Path, file: Path) -> str:
    """Return how a file is named in a receipt: from the folder on, in the words in which both are written (links unlooked at)."""
    return Path(os.path.relpath(file, base)).as_posix()


def _is_inside(name: str) -> bool:
    return not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


def _inside(name: str) -> str:
    if not _is_inside(name):
        raise ValueError(f"{name} does not lie in the folder of its receipt")
    return name


def _entry(file: Path, limit_bytes: float = float("inf")) -> dict[str, Any]:
    """Return size and hash of a file, above a limit its size only."""
    size = file.stat().st_size
    return {"bytes": size, **({"sha256": sha256_of(file)} if size < limit_bytes else {})}


def _is_as(path: Path, entry: dict[str, Any], thorough: bool = True) -> bool:
    """Whether a file is what a receipt says. Raises FileNotFoundError if there is none."""
    size = path.stat().st_size
    looked_into = thorough and size < HASH_LIMIT_BYTES and "sha256" in entry
    return size == entry["bytes"] and (not looked_into or sha256_of(path) == entry["sha256"])


def _digest_of_all(files: Iterable[Path]) -> str:
    """Return one hash for many files with their names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()
