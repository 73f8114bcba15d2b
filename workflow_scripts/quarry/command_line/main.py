"""``quarry SUBCOMMAND ...``: what all subcommands have in common."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

from quarry import __version__
from quarry.errors import QuarryError

SUBCOMMANDS = ("status", "export", "card", "new")
"""Modules of this package, each a subcommand of its name.

Each has a docstring whose first line says what it does, ``add_arguments(parser)``, which declares its options, and
``run(arguments)``, which returns the exit code. Its imports are light: what is heavy is imported where it is needed.
"""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end: Ctrl-C, ``kill``, a terminal that is closed."""


class _EndedError(KeyboardInterrupt):
    """Somebody has ended the process by a signal."""


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    A mistake of the user, and a file that cannot be read, give one line on standard error and code 1.

    given: arguments; None: those of the process.
    """
    try:
        if given is None:
            _end_cleanly()
        arguments = _parser().parse_args(given)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except QuarryError as error:
        print(f"Quarry: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever reads it (head, less) has seen enough; the interpreter would say so again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # What the subcommand did not foresee: a folder of somebody else, a name that the disk does not take, a disk that is gone.
        place = "" if error.filename is None else f"{error.filename!s:.300}: "
        print(
            f"Quarry: {place}{error.strerror or error}; look at its name and permissions, and at the disk",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as error:
        return 128 + int(next(iter(error.args), signal.SIGINT))


def _end_cleanly() -> None:
    """Let signals that end the process end it without a traceback and with nothing left behind, a second one at once."""
    for number in ENDING:
        # What is ignored from the beginning (nohup) stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    for other in ENDING:
        if signal.getsignal(other) is not signal.SIG_IGN:
            signal.signal(other, signal.SIG_DFL)
    raise _EndedError(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quarry", description="Looks at labeling campaigns. They are run and resumed by snakemake alone."
    )
    parser.add_argument("--version", action="version", version=f"Quarry {__version__}")
    subparsers = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    for name in SUBCOMMANDS:
        module = import_module(f"quarry.command_line.{name}")
        words = str(module.__doc__).partition("\n")[0]
        subparser = subparsers.add_parser(name, help=words, description=words)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser
