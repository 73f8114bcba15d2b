"""Write the labels of a campaign in a format of other programs.

It works on campaigns that run, have crashed or are finished, and says what it took. It changes nothing in them, and replaces no
file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from quarry.command_line.campaigns import add_folder, paths_of
from quarry.config.campaign import MAIN_ARM
from quarry.product.exporting import check_target, export
from quarry.product.formats import formats

PARTS = ("train", "validation", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``quarry export``."""
    add_folder(parser)
    known = formats()
    words = "; ".join(f"{name}: {entry.words} ({', '.join(entry.endings)})" for name, entry in known.items())
    parser.add_argument("--format", required=True, choices=list(known), help=words)
    parser.add_argument(
        "--to", required=True, type=Path, metavar="FILE", help="the file to write, which must not be there"
    )
    parser.add_argument(
        "--split", action="append", choices=PARTS, default=[], help="this part only (default: all labels)"
    )
    parser.add_argument("--arm", default=MAIN_ARM, help="arm of the campaign (default: main)")


def run(arguments: argparse.Namespace) -> int:
    """Write an export and print what was taken."""
    wanted = formats()[arguments.format]
    check_target(wanted, arguments.to)
    print(export(paths_of(arguments.folder), wanted, arguments.to, arguments.arm, arguments.split))
    return 0
