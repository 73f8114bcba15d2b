"""Several users on one label store: a group that may write in its folder may write in all that is made in it.

The umask of whoever makes a folder or file in the store does not matter then: folders get the group and the rights of the
folder above, with setgid; records and claims can be read by whoever can write beside them. Where the group may not write,
others are refused before the start.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from quarry.errors import QuarryError
from quarry.files import add_rights

GROUP, OTHERS = 0o070, 0o007


def make_shared(folder: Path) -> None:
    """Make a folder of the store, and those above it that are missing."""
    if folder.is_dir():
        return
    make_shared(folder.parent)
    above = folder.parent.stat()
    umask = os.umask(0)
    try:
        # Right from the start, so that nobody is refused in between.
        folder.mkdir((0o777 & ~umask) | _handed_down(above))
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    finally:
        os.umask(umask)
    made = folder.stat()
    if made.st_gid != above.st_gid and _handed_down(above) & GROUP:
        with suppress(OSError):
            os.chown(folder, -1, above.st_gid)
    if made.st_mode & stat.S_IWGRP:
        with suppress(OSError):
            add_rights(folder, stat.S_ISGID)


def _handed_down(folder: os.stat_result) -> int:
    """Return the rights that a folder hands down to those in it. One with a sticky bit, as /tmp, is everybody's: none."""
    if folder.st_mode & stat.S_ISVTX:
        return 0
    # A group that this user cannot give to a file has no rights to it.
    groups = GROUP if folder.st_mode & stat.S_ISGID or folder.st_gid in _own_groups() else 0
    return sum(rights for rights in (groups, OTHERS) if folder.st_mode & rights == rights)


def _own_groups() -> set[int]:
    return {os.getegid(), *os.getgroups()}


def rights_of_files(folder: Path) -> int:
    """Return the rights that files in a folder of the store have whatever the umask: who can write beside them reads them."""
    handed_down = _handed_down(folder.stat())
    return (stat.S_IRGRP if handed_down & GROUP else 0) | (stat.S_IROTH if handed_down & OTHERS else 0)


def check_rights(root: str | Path, method_id: str | None = None) -> None:
    """Raise QuarryError if this user could not write or read in the store and in every folder of a method."""
    root = Path(root)
    looked_at = [root, *([] if method_id is None else _looked_at(root / method_id))]
    denied = [path for path in looked_at if not _may(path)]
    if not denied:
        return
    path, more = denied[0], f" and in {len(denied) - 1} more places" if len(denied) > 1 else ""
    state = path.stat()
    group = _group(state.st_gid)
    share = f"chmod -R g+rwX {root} && find {root} -type d -exec chmod g+s {{}} +"
    if state.st_gid not in _own_groups():
        share = f"chgrp -R GROUP {root} && {share} (with a GROUP of both of you)"
    raise QuarryError(
        f"labeling.store: {_user(os.geteuid())} may not {'write in' if path.is_dir() else 'read'} {path} "
        f"({stat.filemode(state.st_mode)} {_user(state.st_uid)} {group}){more}; ask {_user(state.st_uid)} to run: {share}; "
        "or name another folder"
    )


def _looked_at(folder: Path) -> Iterator[Path]:
    """Yield the folders of a method, its claims, and of each folder's records one: they are too many to look at all."""
    for place, folders, files in os.walk(folder):
        yield Path(place)
        # A folder that may not be entered lists nothing.
        wanted = files if Path(place).parent.name == "claims" else files[:1]
        yield from (Path(place) / name for name in wanted if not name.startswith("."))
        folders.sort()


def _may(path: Path) -> bool:
    """Whether this user may do with a folder or file of the store what is to be done; what is gone meanwhile is no obstacle."""
    with suppress(FileNotFoundError):
        wanted = os.R_OK | os.W_OK | os.X_OK if stat.S_ISDIR(path.stat().st_mode) else os.R_OK
        return os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids)
    return True


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group {gid}"
