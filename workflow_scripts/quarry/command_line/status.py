"""Say what a campaign does, what it has cost and found, from its files alone.

It changes nothing.
"""

from __future__ import annotations

import argparse

from quarry.command_line.campaigns import add_folder, paths_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``quarry status``."""
    add_folder(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the status of a campaign."""
    paths = paths_of(arguments.folder)
    print(paths.root)
    return 0
