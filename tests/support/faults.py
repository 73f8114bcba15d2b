"""Faults of the machine for tests: small and read-only file systems, another file system, damaged files."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED_MEMORY = Path("/dev/shm")


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


def need_mounts() -> None:
    """Skip the test where file systems cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a file system of its own, of this size."""
    need_mounts()
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only, for root too."""
    need_mounts()
    folder.mkdir(parents=True, exist_ok=True)
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until the file system of a folder is full; return the file that fills it."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as handle, contextlib.suppress(OSError):
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while handle.write(b"x" * size):
                    pass
    return path


DAMAGES = {
    "truncated": lambda whole: whole[: len(whole) // 2],
    "zero_length": lambda whole: b"",
    "garbage": lambda whole: b"\x00\xff" * 200,
    "no_json": lambda whole: b"<html>quota exceeded</html>",
    "wrong_number": lambda whole: re.sub(rb'("energy":-?)', rb"\g<1>1", whole, count=1),
    "wrong_checksum": lambda whole: whole.replace(b'"checksum":"', b'"checksum":"0', 1),
}
"""Ways in which the bytes of a record are damaged, by name."""


def damage(path: Path, kind: str) -> bytes:
    """Damage a file; return what is in it now."""
    whole = path.read_bytes()
    bad: bytes = DAMAGES[kind](whole)
    assert bad != whole
    path.write_bytes(bad)
    return bad
