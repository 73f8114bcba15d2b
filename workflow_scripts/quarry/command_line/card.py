"""Print the card of a campaign's data set: what it is, how it was made, how it is read.

A campaign that is not finished, or is of an earlier version, has none: then it is made of what is there. Nothing is written.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quarry.campaign.paths import CampaignPaths
from quarry.command_line.campaigns import add_folder, paths_of
from quarry.files import read_file, sha256_of

if TYPE_CHECKING:
    from quarry.product.campaign_data import CampaignData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``quarry card``."""
    add_folder(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the card."""
    paths = paths_of(arguments.folder)
    from quarry.product.campaign_data import read_campaign
    from quarry.product.card import card_of

    data = read_campaign(paths)
    print(_written(paths, data) or card_of(data, []), end="")
    return 0


def _written(paths: CampaignPaths, data: CampaignData) -> str:
    """Return the card that the campaign has written, with the checksums of its files; empty where it is not of these labels.

    It is that of an earlier end where the campaign has gone on since.
    """
    if not data.is_finished:
        return ""
    history = paths.outputs("collect_results", data.arm)["history"]
    try:
        text = read_file(paths.outputs("describe_dataset")["card"])[0].decode()
        of_now = sha256_of(paths.iteration("dataset.h5", data.arm, data.iteration)), sha256_of(history)
    except (OSError, ValueError):
        return ""
    return text if all(checksum in text for checksum in of_now) else ""
