"""A campaign without one good label may be changed freely: its files are set aside, and it begins anew.

What no label stands for is not worth another name, and the cause of all its failures is often an argument of the method.
Standard library only (used at parse time).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from quarry.campaign.batch_table import read_batch
from quarry.campaign.iterations import iteration_folders
from quarry.campaign.own_files import OwnFiles
from quarry.campaign.packed import Folder
from quarry.campaign.paths import CampaignPaths
from quarry.config.targets import target_of
from quarry.labeling.record import LabelRecord, decode_records
from quarry.labeling.store import place_of
from quarry.labeling.wanted import Wanted


def has_label(paths: CampaignPaths, store: str, manifest: dict[str, Any]) -> bool:
    """Return whether one label of a campaign has succeeded, in any arm, merged or not.

    store: the label store; a label there that the campaign has asked for counts, also if its job died before it said so.
    manifest: of the campaign as it is on disk. A label that lacks what that campaign's target needs does not count: nobody
    could learn from it (it stays in the store).
    """
    wanted = _wanted(manifest["identity"])
    return any(wanted.judged(record).ok for record in _records(paths, Path(store) / manifest["method_id"]))


def set_aside(paths: CampaignPaths) -> Path:
    """Move every file of the campaign into a new folder inside its own, which is returned. Manifest and lease stay, too."""
    root, aside, own = Path(paths.root), Path(paths.set_aside), OwnFiles(paths.root)
    taken = [int(folder.name) for folder in aside.glob("*") if folder.name.isdigit()]
    folder = aside / str(max(taken, default=0) + 1)
    folder.mkdir(parents=True)
    shutil.copyfile(paths.manifest, folder / Path(paths.manifest).name)
    stay = {Path(path).name for path in (paths.manifest, paths.lease, paths.set_aside)}
    for entry in sorted(root.iterdir()):
        if entry.name not in stay:
            own.rename(entry, folder / entry.name)
    return folder


def _records(paths: CampaignPaths, method: Path) -> Iterator[LabelRecord]:
    """Yield the records that there are of a campaign's labels. method: the folder of its method in the store."""
    asked: set[str] = set()
    iterations = iteration_folders(paths.root)
    for iteration in iterations:
        with suppress(OSError, ValueError):
            asked |= {row.structure_id for row in read_batch(iteration / "batch.csv")}
    folders = [*(Folder(iteration / "labels") for iteration in iterations), Folder(paths.failed)]
    files = [(folder, name) for folder in folders for name in folder.names()]
    stored = [place_of(method, structure_id) for structure_id in sorted(asked)]
    for folder, name in [*files, *((Folder(path.parent), path.name) for path in stored)]:
        # A file that is absent or damaged holds no label.
        with suppress(OSError, ValueError):
            yield from decode_records(folder.read(name), folder.path / name)


def _wanted(identity: dict[str, Any]) -> Wanted:
    classes = identity.get("classification")
    properties = (classes["property"],) if classes else target_of(identity["target"]).labels
    return Wanted(properties, (identity.get("spectrum") or {}).get("n_states") or 0)
