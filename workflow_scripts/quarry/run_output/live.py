"""One picture of the campaign at the bottom of the terminal, and above it every line that anybody prints."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from quarry import terminal
from quarry.campaign.paths import CampaignPaths
from quarry.errors import QuarryError
from quarry.status.picture import picture
from quarry.status.reading import read_status

LOOK_S = 0.2
"""Time (s) between two looks for new lines."""
REFRESH_S = 2.0
"""Time (s) between two readings of the campaign, at least; a reading takes no more than a twentieth of the time."""
SHARE = 20
FOLDER = Path(".snakemake", "log")


class LivePicture:
    """The picture, until ``close``.

    Jobs write to the streams that they inherit, and would write into the picture. So the streams lead to a file, whose new
    lines are printed above the picture. A file and no pipe: jobs outlive a main process that is killed, and must be able to go on
    printing.
    """

    def __init__(self, paths: CampaignPaths) -> None:
        self._paths = paths
        self._streams = {
            stream.fileno(): os.dup(stream.fileno()) for stream in (sys.stdout, sys.stderr) if stream.isatty()
        }
        sys.stdout.flush()
        sys.stderr.flush()
        FOLDER.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(".output.log", "quarry.", FOLDER)
        self._file, self._printed = Path(name).absolute(), b""
        self._reader = open(self._file, "rb")  # noqa: SIM115 (open as long as the picture is shown)
        # Appended to, so that nobody writes over another one's lines.
        writer = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        os.close(number)
        for stream in self._streams:
            os.dup2(writer, stream)
        os.close(writer)
        self._terminal = os.fdopen(os.dup(next(reversed(self._streams.values()))), "w", buffering=1)
        self._console = Console(file=self._terminal, force_terminal=True)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()
        # A terminal that is left at once (kill -9, a lost connection) has its cursor.
        self._console.show_cursor(True)
        self._end, self._lock, self._is_open = threading.Event(), threading.Lock(), True
        self._thread = threading.Thread(target=self._follow, name="quarry-picture", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        terminal.before_exit(self.close)

    def close(self) -> None:
        """Print what is left and give the streams back. Again does nothing."""
        self._end.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, original in self._streams.items():
                os.dup2(original, stream)
            self._print_new(to_the_end=True)
            self._live.stop()
            self._reader.close()
            with suppress(OSError):
                # All of it was shown.
                self._file.unlink()
            self._terminal.close()

    def _follow(self) -> None:
        due = 0.0
        while not self._end.wait(LOOK_S):
            with self._lock:
                self._print_new()
                if time.monotonic() < due:
                    continue
                began = time.monotonic()
                with suppress(QuarryError, OSError, ValueError):
                    self._live.update(picture(read_status(self._paths), is_own=True), refresh=True)
                due = time.monotonic() + max(REFRESH_S, SHARE * (time.monotonic() - began))

    def _print_new(self, to_the_end: bool = False) -> None:
        """Print the lines that have come since the last look above the picture. to_the_end: the last one may be no whole one."""
        lines, newline, rest = (self._printed + self._reader.read()).rpartition(b"\n")
        self._printed = b"" if to_the_end else rest
        shown = lines + newline + (rest if to_the_end else b"")
        if shown:
            text = shown.decode(errors="replace").removesuffix("\n")
            self._console.print(Text.from_ansi(text), soft_wrap=True)
