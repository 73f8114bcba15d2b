"""A command in a pseudo-terminal, as somebody sees it who sits before one."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def in_terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], kill_after_s: float = 0.0
) -> tuple[int, str]:
    """Run a command, or kill it after a time (s); return its exit code and all that it wrote, with its control sequences."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    if kill_after_s:
        time.sleep(kill_after_s)
        process.send_signal(signal.SIGKILL)
    written = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(main)
    return process.wait(), written.decode()


def text_of(written: str) -> str:
    """Return what was written without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "\n")
