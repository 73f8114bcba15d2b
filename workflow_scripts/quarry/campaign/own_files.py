"""What a start may do to files: move aside, remove and date them, inside the campaign's folder and nowhere else.

Everything that changes files outside a job goes through here, so that no path, however it came about (a receipt of another
campaign, a link), reaches into another folder. Standard library only (used at parse time).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from quarry.campaign.paths import MANIFEST
from quarry.errors import QuarryError
from quarry.files import move_aside


class OwnFiles:
    """The files of one campaign. Paths that lead out of its folder raise QuarryError."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def move_aside(self, path: str | Path) -> Path:
        """Rename a damaged file beside itself; return its new path (``quarry.files.move_aside``)."""
        return move_aside(self._own(path))

    def remove(self, path: str | Path) -> None:
        """Remove a file, if it is there. Of a link only the link goes."""
        with suppress(FileNotFoundError):
            self._own(path).unlink()

    def rename(self, source: str | Path, target: str | Path) -> None:
        """Rename a file or folder; both names lie in the campaign's folder."""
        self._own(source).rename(self._own(target))

    def set_time(self, path: str | Path, time_ns: int) -> None:
        """Set a file's modification time (ns); the target of a link, and another name of its content, keep theirs."""
        own = self._own(path)
        status = own.stat(follow_symlinks=False)
        if own.is_file() and not own.is_symlink() and status.st_nlink > 1:
            temporary = own.with_name(f".{own.name}.{os.getpid()}.tmp")
            shutil.copy2(own, temporary)
            os.replace(temporary, own)
        os.utime(own, ns=(status.st_atime_ns, time_ns), follow_symlinks=False)

    def now_ns(self) -> int:
        """Return the time (ns) that the file system gives to a file now: its server may have another clock than this machine."""
        probe = self.root / f".clock.{os.getpid()}.tmp"
        try:
            probe.touch()
            return probe.stat().st_mtime_ns
        finally:
            probe.unlink(missing_ok=True)

    def walk(self, skipped: Callable[[Path], bool] = lambda folder: False) -> Iterator[Path]:
        """Yield the files of the campaign, but those in folders that are skipped.

        Raises QuarryError for a link into another campaign, which a run of this one would change.
        """
        folders = [self.root] if self.root.exists() else []
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        self.check_link(Path(entry.path))
                    if entry.is_dir() and not entry.is_symlink():
                        folders += [folder for folder in [Path(entry.path)] if not skipped(folder)]
                    elif entry.is_file():
                        yield Path(entry.path)

    def has(self, path: str | Path) -> bool:
        """Whether a path lies in the campaign's folder, links looked at: only then it may be changed."""
        # The folder, and not the file: a link that lies in the campaign's folder is its own, what it points to is not.
        return Path(path).parent.resolve().is_relative_to(self.root.resolve())

    def _own(self, path: str | Path) -> Path:
        own = Path(path)
        if not self.has(own):
            raise QuarryError(
                f"{own} leads out of the campaign's folder {self.root} to {own.parent.resolve()}, where nothing is changed; "
                "put a folder of its own in place of the link"
            )
        return own

    def check_link(self, link: Path) -> None:
        """Raise QuarryError if a path is a link into another campaign, which a run of this one would change."""
        target, root = link.resolve(), self.root.resolve()
        other = next((place for place in (target, *target.parents) if (place / MANIFEST).exists()), None)
        if other is not None and other != root:
            raise QuarryError(
                f"{link} is a link into another campaign ({other}), whose files this one would change; put a copy in its place "
                "(cp -aL)"
            )
