"""The history of an arm, a row for each iteration, as far as it can be read. Standard library only (used at parse time)."""

from __future__ import annotations

from quarry.campaign.paths import CampaignPaths
from quarry.csv_tables import read_whole_dicts


def history_of(paths: CampaignPaths, arm: str) -> list[dict[str, str]]:
    """Return the rows of an arm's history; none where there is none, or a damaged one; a row that is cut off is left out."""
    try:
        return read_whole_dicts(paths.outputs("collect_results", arm)["history"])
    except (OSError, ValueError):
        return []


def recorded_end(paths: CampaignPaths, arm: str, iterations: int) -> str:
    """Return why an arm ended by its history; empty if it has not, or the history is not of all its iterations."""
    rows = history_of(paths, arm)
    return rows[-1].get("stop_reason") or "" if len(rows) == iterations > 0 else ""
