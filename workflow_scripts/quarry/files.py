"""Files that are intact or absent: temporary file, fsync, rename. Standard library only (used at parse time)."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of a file system that could do what it was asked for, but not now."""
NOT_TAKEN = (*NO_ROOM, errno.EFBIG)
"""Errors of writing, which do not say to which file."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced to disk and renamed to ``path``.

    A reader sees the old file, no file or the whole new file, also after a crash of the machine. An error of the disk names
    the file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    except OSError as error:
        if error.errno in NOT_TAKEN and error.filename in (None, str(temporary)):
            error.filename = str(target)
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` so that ``path`` is intact or absent."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8) so that ``path`` is intact or absent."""
    write_bytes(path, text.encode())


def copy_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file so that the target is intact or absent, with a new modification time.

    Not synced to disk: a copy lost in a crash is made again from its source, and thousands are made at once.
    """
    temporary = Path(target).with_name(f".{Path(target).name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


class NotAFileError(ValueError):
    """A folder, a pipe, a device or a link to nothing stands where a file belongs. The message says what."""


def read_file(path: str | os.PathLike[str]) -> tuple[bytes, os.stat_result]:
    """Return a file's content and state; never waits, as reading a pipe does. Raises NotAFileError for what is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and Path(path).is_symlink():
            raise NotAFileError("a link to nothing") from error
        if error.errno == errno.ENXIO:
            raise NotAFileError("a socket or device") from error
        raise
    try:
        # Of the open file: NFS asks the server for the time stamp of a file that is opened.
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise NotAFileError("a folder" if stat.S_ISDIR(state.st_mode) else "a pipe or device")
        with open(descriptor, "rb", closefd=False) as handle:
            return handle.read(), state
    finally:
        os.close(descriptor)


def publish_once(path: str | os.PathLike[str], data: bytes, rights: int = 0) -> bool:
    """Write ``data`` to ``path`` only if nothing is there yet; return whether this call wrote it.

    rights: bits of the mode that the file has whatever the umask.
    The name appears by a hard link of a synced file, which is exclusive on NFS too. File systems without hard links
    get an exclusive create, which is exclusive as well, though a crash in mid-write may leave a short file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        add_rights(temporary, rights)
        _sync(temporary)
        try:
            os.link(temporary, target)
        except FileExistsError:
            # The reply to a link may be lost on NFS and the request repeated: then the name is ours all the same.
            return temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            try:
                with open(target, "xb") as handle:
                    add_rights(target, rights)
                    handle.write(data)
                    handle.flush()
                    os.fsync(handle.fileno())
            except FileExistsError:
                return False
        _sync(target.parent)
        return True
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def add_rights(path: str | os.PathLike[str], rights: int) -> None:
    """Add bits to the mode of a file or folder of this user's."""
    target = Path(path)
    mode = stat.S_IMODE(target.stat().st_mode)
    if rights & ~mode:
        target.chmod(mode | rights)


@contextmanager
def locked(path: str | os.PathLike[str], wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a file, which is removed afterwards; where files cannot be locked, go on without.

    The lock ends with the process that holds it, whatever kills it, and children that it forked do not hold it. wait:
    called once with the holder's name, where the lock has to be waited for.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(target, wait)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                target.unlink()
            os.close(descriptor)


def _lock(path: Path, wait: Callable[[str], None]) -> int | None:
    """Return the descriptor of a file that is locked now, or None where that cannot be done."""
    told = False
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if not told:
                    wait(os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process")
                    told = True
                fcntl.lockf(descriptor, fcntl.LOCK_EX)
            state = os.fstat(descriptor)
            # Who held it before has removed it: a lock of a file without a name keeps nobody out.
            if os.path.samestat(state, path.stat()):
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} of {socket.gethostname()}".encode(), 0)
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)


def move_aside(path: str | os.PathLike[str]) -> Path:
    """Rename a damaged file to ``<name>.damaged[.N]`` (evidence is kept, nothing is overwritten); return the new path.

    Raises OSError if it cannot be renamed, or if there are 10,000 such files.
    """
    source = Path(path)
    for number in range(10_000):
        target = source.with_name(f"{source.name}.damaged" + (f".{number}" if number else ""))
        if not os.path.lexists(target):
            os.rename(source, target)
            return target
    raise OSError(f"{source}: too many damaged copies beside it; look at them and remove them")


def canonical_json(data: Any) -> str:
    """Return JSON with sorted keys and no spaces: the same data gives the same bytes."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write readable JSON with sorted keys; the same data gives the same bytes."""
    write_text(path, readable_json(data))


def readable_json(data: Any) -> str:
    """Return JSON with sorted keys for people to read."""
    return json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n"


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes (hexadecimal)."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of(data: Any, length: int = 64) -> str:
    """Return the first ``length`` hexadecimal digits of the SHA-256 of ``data`` as canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:length]
