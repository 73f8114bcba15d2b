"""Print the card of a campaign's data set: what it is, how it was made, how it is read.

A campaign that is not finished, or is of an earlier version, has none: then it is made of what is there. Nothing is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from quarry.command_line.campaigns import add_folder, paths_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``quarry card``."""
    add_folder(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the card."""
    paths = paths_of(arguments.folder)
    from quarry.product.campaign_data import read_campaign
    from quarry.product.card import card_of

    data = read_campaign(paths)
    written = Path(paths.outputs("describe_dataset")["card"])
    # What lies there is that of an earlier end where the campaign has gone on since.
    if data.is_finished and written.is_file():
        print(written.read_text(), end="")
    else:
        print(card_of(data, []), end="")
    return 0
