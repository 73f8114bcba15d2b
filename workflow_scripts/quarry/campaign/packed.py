"""What no rule asks for any more of a finished iteration, in one file: ``packed.zip``, beside what is left of it.

One file per label in each of four places (job input, record, log, Snakemake's record of the job) ends campaigns where a
quota counts files. The archive is a plain zip, which every tool reads (``unzip -p packed.zip labels/ID.json``); the members
are named as the files were, Snakemake's records ``snakemake/<output>``. The same files give the same bytes. Nothing is removed
before the archive is on disk and each member was read back, so that a kill leaves the files, the archive, or both; where
both are, the file counts. Standard library only (used at parse time).
"""

from __future__ import annotations

import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath

from quarry.campaign.iterations import iteration_of
from quarry.campaign.loop import BENCHMARKS, RULES
from quarry.campaign.own_files import OwnFiles
from quarry.campaign.paths import PACKED
from quarry.campaign.state_records import record_path
from quarry.campaign.times import TIMESTAMP
from quarry.files import atomic_path, read_file
from quarry.labeling.record import read_records

LABELS, STAYS = "labels", "batch"
FOLDERS = (LABELS, STAYS, "attempts", "logs", BENCHMARKS)
"""Folders of an iteration that are packed. The second stays, being the output of a checkpoint, with Snakemake's mark in it:
Snakemake removes empty ones.
"""
SNAKEMAKE = "snakemake"
"""Folder of the archive with Snakemake's records."""
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
"""What reading an archive that is not intact raises, beside OSError."""
LITTER_S = 3600
"""Age from which the temporary archive of a packing that was killed is removed."""
EPOCH = (1980, 1, 1, 0, 0, 0)


class Folder:
    """A folder inside an iteration as if nothing of it were packed; any other folder as it is."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        iteration = iteration_of(self.path / "file")
        self._archive = None if iteration is None else iteration / PACKED
        self._prefix = "" if iteration is None else f"{self.path.relative_to(iteration).as_posix()}/"
        self._open: zipfile.ZipFile | None = None

    def names(self) -> list[str]:
        """Return the names of its files, sorted; none of a damaged archive, and no hidden ones (litter of a crash)."""
        found: set[str] = set()
        # The files first: what is packed in between is then in the archive.
        with suppress(OSError), os.scandir(self.path) as entries:
            found.update(entry.name for entry in entries if entry.name[0] != "." and entry.is_file())
        if self._archive is not None:
            inside = (
                name.removeprefix(self._prefix) for name in members(self._archive) if name.startswith(self._prefix)
            )
            found.update(name for name in inside if "/" not in name)
        return sorted(found)

    def read(self, name: str) -> bytes:
        """Return a file's content. Raises FileNotFoundError if there is none, ValueError if the archive is damaged there."""
        try:
            return read_file(self.path / name)[0]
        except (FileNotFoundError, NotADirectoryError):
            if self._archive is None or f"{self._prefix}{name}" not in members(self._archive):
                raise
        try:
            self._open = self._open or zipfile.ZipFile(self._archive)
            return self._open.read(f"{self._prefix}{name}")
        except (*DAMAGE, OSError) as error:
            raise ValueError(f"{self._archive}: {self._prefix}{name} is damaged ({error})") from error


def members(archive: Path) -> frozenset[str]:
    """Return the names of an archive's members; none if it is absent or damaged."""
    try:
        state = archive.stat()
        return _members(str(archive), state.st_mtime_ns, state.st_size)
    except (*DAMAGE, OSError):
        return frozenset()


@lru_cache(maxsize=4096)
def _members(archive: str, mtime_ns: int, size: int) -> frozenset[str]:
    with zipfile.ZipFile(archive) as file:
        return frozenset(file.namelist())


def is_damaged(archive: Path) -> bool:
    """Whether there is an archive whose table of contents, at its end, is not intact.

    Raises OSError if the disk cannot be read.
    """
    try:
        state = archive.stat()
        return not _members(str(archive), state.st_mtime_ns, state.st_size)
    except FileNotFoundError:
        return False
    except DAMAGE:
        return True


def pack(iteration: Path, own: OwnFiles) -> int:
    """Pack what no rule asks for any more of an iteration that is left out of the graph; return how many files went.

    own: the campaign's files. What was packed before stays, but for what lies there anew. Another process may pack the same
    iteration at the same time. Raises OSError if the archive could not be written or read back: then nothing is removed.
    """
    files = dict(_files(iteration))
    if not files or not own.has(iteration / PACKED):
        return 0
    files |= {f"{SNAKEMAKE}/{output}": record for output, record in _records(iteration, files)}
    archive = iteration / PACKED
    own.check_link(archive)
    for litter in iteration.glob(f".{PACKED}.*.tmp"):
        if time.time() - litter.stat().st_mtime > LITTER_S:
            own.remove(litter)
    if is_damaged(archive):
        own.move_aside(archive)
    for name in members(archive):
        if name in files and _is_damaged_label(name, files[name]):
            own.move_aside(files.pop(name))
    try:
        _write(archive, files)
    except FileNotFoundError:
        # Packed by another process in between: what is gone here is in its archive.
        return 0
    for name, path in files.items():
        if name.startswith(f"{SNAKEMAKE}/"):
            path.unlink(missing_ok=True)
        else:
            own.remove(path)
    mark = iteration / STAYS / TIMESTAMP
    if mark.parent.is_dir() and not mark.exists():
        mark.touch()
    for place in (place for name in FOLDERS for place, _, _ in os.walk(iteration / name, topdown=False)):
        with suppress(OSError):
            Path(place).rmdir()
    return len(files)


def unpack(iteration: Path, own: OwnFiles) -> list[str]:
    """Put back what was packed of an iteration, where there is no newer file; return members that could not be read.

    The files get the time of the batch table, behind which and before all that was made of them they belong.
    A damaged archive is moved aside. Raises OSError if the files cannot be written: then the archive stays.
    """
    archive, lost = iteration / PACKED, []
    if not archive.exists():
        return []
    own.check_link(archive)
    if is_damaged(archive):
        own.move_aside(archive)
        return [PACKED]
    time_ns = _time_of(iteration)
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            path = _place(iteration, name)
            if path is None or (path.exists() and not _is_damaged_label(name, path)):
                continue
            try:
                content = file.read(name)
            except DAMAGE:
                lost.append(name)
                continue
            if path.exists():
                own.move_aside(path)
            _put(path, content)
            if not name.startswith(f"{SNAKEMAKE}/"):
                own.set_time(path, time_ns)
    # Once for all of them, of which there may be thousands.
    os.sync()
    if lost:
        own.move_aside(archive)
    else:
        own.remove(archive)
    return lost


def inputs_and_labels(iteration: Path) -> Iterator[tuple[str, float]]:
    """Yield job inputs and labels that are packed, with the time (s) that they would have if they were not.

    But none newer than what was made of labels, in whatever order files were copied: Snakemake would read what is newer, to
    compare it.
    """
    time_ns = _time_of(iteration)
    for name in RULES["merge_labels"].outputs.values():
        with suppress(OSError):
            time_ns = min(time_ns, (iteration / name).stat().st_mtime_ns)
    for name in members(iteration / PACKED):
        if name.partition("/")[0] in (LABELS, STAYS):
            yield f"{iteration}/{name}", time_ns / 1e9


def packed_record(output: str) -> bytes | None:
    """Return Snakemake's record of an output of a packed iteration, None if there is none that can be read."""
    iteration = iteration_of(output)
    if iteration is None:
        return None
    archive = iteration / PACKED
    try:
        state = archive.stat()
        return _records_in(str(archive), state.st_mtime_ns, state.st_size).get(f"{SNAKEMAKE}/{output}")
    except (*DAMAGE, OSError):
        return None


@lru_cache(maxsize=8)
def _records_in(archive: str, mtime_ns: int, size: int) -> dict[str, bytes]:
    # All at once: Snakemake asks for one after the other when it shows the whole campaign.
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist() if name.startswith(f"{SNAKEMAKE}/")}


def _files(iteration: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of an iteration that are to be packed, by their names in the archive. Links and litter stay."""
    for folder in (iteration / name for name in FOLDERS if not (iteration / name).is_symlink()):
        for place, _, files in os.walk(folder):
            for path in sorted(Path(place, file) for file in files):
                if not path.name.startswith(".") and path.is_file() and not path.is_symlink():
                    yield path.relative_to(iteration).as_posix(), path


def _is_damaged_label(name: str, path: Path) -> bool:
    """Whether the file of a member is a label that cannot be read: then that in the archive is the better one."""
    if not name.startswith(f"{LABELS}/"):
        return False
    try:
        read_records(path)
    except ValueError:
        return True
    return False


def _records(iteration: Path, files: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    """Yield the outputs of an iteration of which Snakemake keeps a record, with the record's path."""
    with suppress(OSError):
        kept = [path for path in iteration.rglob("*") if path.relative_to(iteration).parts[0] not in FOLDERS]
        for path in sorted([*kept, iteration / STAYS, *files.values()]):
            record = record_path(str(path))
            if record.is_file():
                yield str(path), record


def _write(archive: Path, files: dict[str, Path]) -> None:
    """Write files and what the archive had, and read all of it back. Raises OSError if one is not what it was."""
    sources: dict[str, Callable[[], bytes]] = {name: path.read_bytes for name, path in files.items()}
    with atomic_path(archive) as temporary:
        # Looked at after the files were listed: see Folder.names.
        before = zipfile.ZipFile(archive) if archive.exists() else None
        try:
            for name in before.namelist() if before is not None else ():
                sources.setdefault(name, lambda name=name: before.read(name))  # type: ignore[misc, union-attr]
            with zipfile.ZipFile(temporary, "x") as file:
                for name in sorted(sources):
                    file.writestr(_entry(name), sources[name]())
            with zipfile.ZipFile(temporary) as file:
                for name, source in sources.items():
                    if file.read(name) != source():
                        raise OSError(f"{archive}: {name} was not written as it is")
        except DAMAGE as error:
            raise OSError(f"{archive}: {error}") from error
        finally:
            if before is not None:
                before.close()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    return entry


def _place(iteration: Path, name: str) -> Path | None:
    """Return where a member belongs; None for a name that leads elsewhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return None
    if path.parts[0] == SNAKEMAKE:
        return record_path(str(path.relative_to(SNAKEMAKE)))
    return iteration / path if path.parts[0] in FOLDERS else None


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _time_of(iteration: Path) -> int:
    with suppress(OSError):
        return (iteration / "batch.csv").stat().st_mtime_ns
    return 10**9
