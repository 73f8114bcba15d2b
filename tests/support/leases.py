"""Leases of this process and of others, and what a start makes of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarry.campaign import lease as lease_module
from quarry.campaign.lease import Lease
from quarry.errors import QuarryError

LIBRARY = Path(lease_module.__file__).parents[2]
HOLDER = """
import sys
from quarry.campaign.lease import Lease
Lease(sys.argv[1]).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def foreign(path: Path, age_s: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Write a lease of another owner with its heartbeat ``age_s`` seconds ago."""
    owner = {**Lease(path).owner, "token": "0" * 16, **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(owner, sort_keys=True))
    os.utime(path, (time.time() - age_s,) * 2)
    return owner


def check_taken(path: Path) -> None:
    lease = Lease(path)
    lease.acquire()
    try:
        assert json.loads(path.read_text()) == lease.owner
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    finally:
        lease.release()
    assert not path.exists()


def check_refused(path: Path, *words: str) -> None:
    before = path.read_bytes()
    with pytest.raises(QuarryError) as caught:
        Lease(path).acquire()
    message = str(caught.value)
    assert "\n" not in message and str(path.parent) in message
    assert [w for w in words if w not in message] == []
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
