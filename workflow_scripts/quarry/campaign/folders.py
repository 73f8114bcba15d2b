"""The folders of a campaign: no two things in one place, and all of them to be written."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from quarry.campaign.paths import CampaignPaths
from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.labeling.sharing import check_rights, make_shared

STATE = Path(".snakemake")
"""Snakemake's own folder in the working directory."""


def check_project(folder: Path) -> None:
    """Raise QuarryError if Snakemake could not run the scripts of a project in this folder."""
    if {"{", "}"} & set(str(folder)):
        raise QuarryError(
            f"the project's folder {folder} has braces in its name, which Snakemake takes for wildcards; give it another name"
        )


def check_arms(configuration: Configuration, paths: CampaignPaths) -> None:
    """Raise QuarryError if an arm has the name of something else in the campaign's folder, or if the label store lies there."""
    taken = sorted(name for name in paths.names | {Path(configuration.labeling.store).name} if name.isidentifier())
    for arm in configuration.arms:
        if arm in taken:
            raise QuarryError(
                f"arms.{arm}: a folder of the campaign has this name; give the arm another, and none of {', '.join(taken)}"
            )
    store, root = Path(configuration.labeling.store).resolve(), Path(paths.root).resolve()
    if store.is_relative_to(root) or root.is_relative_to(store):
        raise QuarryError(
            f"labeling.store: {configuration.labeling.store} and the results in {paths.root} lie one inside the other; "
            "name another folder, e.g. label_store"
        )


def check_folders(configuration: Configuration, paths: CampaignPaths) -> None:
    """Raise QuarryError if the campaign could not write its files; leaves nothing behind."""
    check_writable(STATE, "Snakemake's folder", "start in another folder, or name one with --directory", look=True)
    check_results(paths, look=True)
    check_store(configuration.labeling.store, look=True)
    for key, folder in configuration.labeling.written_folders().items():
        check_writable(folder, f"labeling.{key}:", "correct its permissions, or name another folder", look=True)


def check_results(paths: CampaignPaths, look: bool = False) -> None:
    """Raise QuarryError if results could not be written. look: as in ``check_writable``."""
    check_writable(
        paths.root, "the results folder", "correct its permissions, or start in another folder (--directory)", look
    )


def check_pictures(paths: CampaignPaths) -> None:
    """Raise QuarryError if pictures of the graph could not be written, or the log of their job; leaves nothing behind."""
    for folder in (paths.figures, paths.logs):
        check_writable(
            folder,
            "the folder of pictures" if folder == paths.figures else "the folder of logs",
            "draw them elsewhere: snakemake --dag dot | python -m quarry.status.draw_dag FOLDER",
            look=True,
        )


def check_report_file(path: Path) -> None:
    """Raise QuarryError if Snakemake could not write its report to a file, which it would find when all else is done."""
    if path.suffix not in (".html", ".zip"):
        raise QuarryError(f"--report {path}: the name of a report ends in .html or .zip; name it so")
    if not path.parent.is_dir():
        raise QuarryError(f"--report {path}: there is no folder {path.parent}; make it, or name another file")
    check_writable(path.parent, f"--report {path}: the folder", "name a file elsewhere", look=True)


def check_store(store: str, look: bool = False) -> None:
    """Raise QuarryError if labels could not be published: they would be paid for by every campaign anew.

    look: as in ``check_writable``.
    """
    check_rights(store)
    if not look:
        with suppress(OSError):
            make_shared(Path(store).absolute())
    check_writable(store, "labeling.store:", "correct its permissions, or name another folder", look)


def check_writable(folder: str | Path, what: str, remedy: str, look: bool = False) -> None:
    """Raise QuarryError if no file can be made in a folder, which is made first.

    what, remedy: for the message. look: look only, at the folder or the nearest one above it, and make nothing.
    """
    path = Path(folder)
    try:
        if look:
            nearest = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
            if not nearest.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is a file")
            if not os.access(nearest, os.W_OK | os.X_OK):
                is_read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
                reason = errno.EROFS if is_read_only else errno.EACCES
                raise OSError(reason, os.strerror(reason))
        else:
            path.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=path):
                pass
    except OSError as error:
        raise QuarryError(f"{what} {folder} cannot be written ({error.strerror or error}); {remedy}") from error
