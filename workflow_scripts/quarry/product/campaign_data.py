"""What a campaign's folder says of its data set, whether the campaign is finished, runs or has crashed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.history import history_of, recorded_end
from quarry.campaign.iterations import iterations_with
from quarry.campaign.manifest import read_manifest
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import is_other_than_written
from quarry.config.campaign import MAIN_ARM
from quarry.config.dataset import DatasetCard
from quarry.csv_tables import read_whole_dicts
from quarry.errors import QuarryError
from quarry.files import read_file
from quarry.product.split import SplitRule, split_of
from quarry.structures.labelled import LabelledSet

Rows = list[dict[str, str]]


@dataclass(frozen=True, eq=False)
class CampaignData:
    """The labels of an arm, and the tables beside them.

    root: folder of the campaign. iteration: the last one whose labels are there. words: what was taken, for people.
    audit, failures: rows of the tables of that iteration. history: of the arm; empty where it is not finished.
    settings: section ``dataset`` of the configuration, as the last run had it.
    """

    root: Path
    manifest: dict[str, Any]
    arm: str
    labelled: LabelledSet
    iteration: int
    is_finished: bool
    words: str
    audit: Rows
    failures: Rows
    history: Rows
    settings: dict[str, Any]

    @cached_property
    def split(self) -> NDArray[np.str_]:
        """The part of each label, shape (n,), as of ``split_of``."""
        return split_of(self.labelled, SplitRule.of_identity(self.manifest["identity"]))

    def rows(self, parts: Sequence[str]) -> NDArray[np.int64]:
        """Return the labels of some parts of the split, ascending."""
        return np.flatnonzero(np.isin(self.split, list(parts)))


def read_campaign(paths: CampaignPaths, arm: str = MAIN_ARM) -> CampaignData:
    """Read the newest labels of an arm that are merged. Nothing is written.

    Raises QuarryError where there is no campaign, no such arm, or no merged label yet.
    """
    manifest = read_manifest(paths.manifest)
    if manifest is None:
        raise QuarryError(f"{paths.root} holds no campaign; name the results of one, e.g. results/water")
    folder = Path(paths.arm(arm))
    if not folder.is_dir():
        arms = [MAIN_ARM, *manifest["identity"].get("arms", {})]
        there = [name for name in arms if Path(paths.arm(name)).is_dir()]
        lack = f"there are {', '.join(there)}" if there else "it has none yet, as no label is merged"
        raise QuarryError(f"{paths.root} has no arm {arm}; {lack}")
    labelled, iteration, damaged = _newest(paths, arm, folder)
    history = history_of(paths, arm)
    is_finished = not damaged and bool(recorded_end(paths, arm, iteration + 1))
    count = f"{len(labelled)} labels of arm {arm}"
    if is_finished:
        words = f"{paths.root}: finished, {count}"
    else:
        words = f"{paths.root}: not finished; took the {count} that are merged (up to iteration {iteration})"
    if damaged:
        words += f"; {damaged} is damaged and was passed over"
    tables = {
        name: _table(columns, paths.iteration(f"{name}.csv", arm, iteration), paths.arm(arm, f"{name}.csv"))
        for name, columns in {"audit": ("severity", "check", "words"), "failures": ("status",)}.items()
    }
    return CampaignData(
        root=Path(paths.root),
        manifest=manifest,
        arm=arm,
        labelled=labelled,
        iteration=iteration,
        is_finished=is_finished,
        words=words,
        audit=tables["audit"],
        failures=tables["failures"],
        history=history if is_finished else [],
        settings=_settings(paths),
    )


def _newest(paths: CampaignPaths, arm: str, folder: Path) -> tuple[LabelledSet, int, str]:
    """Return the newest data set that can be read, its iteration, and the path of a newer one that is damaged or nothing."""
    damaged = ""
    for iteration in reversed(iterations_with(folder, "dataset.h5")):
        path = paths.iteration("dataset.h5", arm, iteration)
        try:
            if is_other_than_written(Path(path)):
                raise ValueError("its receipt says otherwise")
            labelled = LabelledSet.read(path)
        except (OSError, ValueError):
            damaged = damaged or path
            continue
        if len(labelled):
            return labelled, iteration, damaged
    if damaged:
        raise QuarryError(
            f"{damaged} is damaged, and there is none before it; start the campaign again, which makes it anew"
        )
    raise QuarryError(
        f"{paths.root} (arm {arm}) has no merged label yet; its first iteration is not finished; "
        "wait for it, or start the campaign again"
    )


def _table(columns: Sequence[str], *places: str) -> Rows:
    """Return the rows of the first table that can be read and has some columns; none where there is none."""
    for place in places:
        try:
            return read_whole_dicts(place, columns)
        except (OSError, ValueError):
            continue
    return []


def _settings(paths: CampaignPaths) -> dict[str, Any]:
    # Campaigns of other versions had no such section, or had other keys in it: what is known now holds.
    found: dict[str, Any] = {}
    with suppress(OSError, ValueError, AttributeError):
        for key, value in json.loads(read_file(paths.dataset_settings)[0]).items():
            with suppress(ValueError):
                found[key] = DatasetCard.model_validate({key: value}).model_dump()[key]
    return found
