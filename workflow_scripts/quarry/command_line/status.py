"""Say what a campaign does, what it has cost and found, from its files alone.

It changes nothing, and works while the campaign runs, here or elsewhere.
"""

from __future__ import annotations

import argparse
import json
import time

from quarry.command_line.campaigns import add_folder, paths_of
from quarry.status.reading import read_status
from quarry.status.text import status_lines

REFRESH_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``quarry status``."""
    add_folder(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead (docs/status.md)")
    parser.add_argument("--watch", action="store_true", help="go on until nobody runs the campaign any more")


def run(arguments: argparse.Namespace) -> int:
    """Print the status of a campaign."""
    paths = paths_of(arguments.folder)
    if arguments.watch and not arguments.json:
        from quarry.status.picture import watch

        watch(lambda: read_status(paths))
    while True:
        status = read_status(paths)
        print(json.dumps(status.to_json()) if arguments.json else "\n".join(status_lines(status)), flush=True)
        if not (arguments.watch and arguments.json and status.main_process.is_alive):
            return 0
        time.sleep(REFRESH_S)
