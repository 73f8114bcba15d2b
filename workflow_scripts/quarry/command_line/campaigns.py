"""Which campaign a subcommand is about."""

from __future__ import annotations

import argparse
from pathlib import Path

from quarry.campaign.paths import MANIFEST, CampaignPaths
from quarry.errors import QuarryError

RESULTS = Path("results")


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Declare the folder of a campaign's results as a positional argument that may be left out."""
    parser.add_argument(
        "folder", nargs="?", type=Path, help="results of a campaign; default: the only one, or last one, in results/"
    )


def paths_of(folder: Path | None) -> CampaignPaths:
    """Return the paths of the campaign in a folder; None: the one in ``results/`` whose manifest is the newest.

    Raises QuarryError if there is no campaign.
    """
    if folder is None:
        manifests = list(RESULTS.glob(f"*/{MANIFEST}"))
        if not manifests:
            raise QuarryError(
                f"no campaign in {RESULTS.resolve()}; name the folder of one: quarry ... path/to/results/NAME"
            )
        folder = max(manifests, key=lambda path: path.stat().st_mtime).parent
    if not folder.is_dir():
        raise QuarryError(f"{folder}: there is no such folder; name the results of a campaign, e.g. results/water")
    if not (folder / MANIFEST).exists():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        hint = (
            f"name one of the campaigns in it: {', '.join(inside)}"
            if inside
            else "name the results of a campaign, e.g. results/water"
        )
        raise QuarryError(
            f"{folder} holds no campaign (no {MANIFEST}): nothing has run there yet, or it is another folder; {hint}"
        )
    return CampaignPaths(folder.resolve().name, str(folder))
