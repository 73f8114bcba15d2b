"""The program of a command line: whether bash can run it, and if not, why."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from quarry.errors import QuarryError

FIRST_WORD = re.compile(r"\s*(?:\w+=\S*\s+)*(?:'([^']+)')?([\w./+-]*)(?=\s|;|$)")
"""Of a command line, after assignments of variables; only a plain word, or the quoted folder that $base stands for before it."""


def check_program(command: str, environment: Mapping[str, str]) -> None:
    """Raise QuarryError if the first word of a command, where it is a plain one, is nothing that bash can run.

    environment: that of the command.
    """
    match = FIRST_WORD.match(command)
    if match is None or not match[2]:
        return
    program = (match[1] or "") + match[2]
    if "/" in program and not Path(program).is_absolute():
        raise QuarryError(
            f"labeling.command: '{program}' is a relative path, but the command runs in a scratch folder; "
            "write $base/... for a program beside the campaign file"
        )
    kind, path = _bash_finds(program, environment)
    if not kind or (path and not os.access(path, os.X_OK)):
        raise QuarryError(f"labeling.command: {_why(program, environment)}")
    if path:
        _check_first_line(Path(path), environment)


def _bash_finds(program: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return what a name is for bash (file, builtin, function ...; empty: nothing), and the path of a file."""
    look = ["bash", "-c", 'type -t -- "$1"; type -P -- "$1"', "bash", program]
    run = subprocess.run(look, env=dict(environment), capture_output=True, text=True, errors="replace", check=False)
    kind, _, path = run.stdout.partition("\n")
    return kind, path.strip() if kind == "file" else ""


def _why(program: str, environment: Mapping[str, str]) -> str:
    """Return why bash cannot run a program, and what to do."""
    places = [""] if "/" in program else environment.get("PATH", "").split(os.pathsep)
    found = next((path for place in places if (path := Path(place, program)).exists()), None)
    if found is None:
        return (
            f"there is no program '{program}' here; install it, load its module with labeling.modules, "
            "or give its whole path"
        )
    if found.is_dir():
        return f"'{found}' is a folder; give the path of the program in it"
    return f"'{found}' may not be executed; run chmod +x {found}, or write the program that reads it before it (python, bash)"


def _check_first_line(path: Path, environment: Mapping[str, str]) -> None:
    """Raise QuarryError if a script names a program in its first line (#!) that is not there."""
    try:
        with open(path, "rb") as handle:
            first = handle.readline(300)
    except OSError:
        return
    if not first.startswith(b"#!"):
        return
    words = first[2:].decode(errors="replace").split()
    if first.endswith(b"\r\n"):
        raise QuarryError(
            f"labeling.command: the lines of {path} end as on Windows, so that its first line names no program; "
            f"run sed -i 's/\\r$//' {path}"
        )
    named = words[1] if len(words) > 1 and Path(words[0]).name == "env" and words[1][:1] != "-" else (words or [""])[0]
    if not named or not _bash_finds(named, environment)[0]:
        raise QuarryError(
            f"labeling.command: {path} asks in its first line for {named or 'no program'}, which is not here; correct the line, "
            "or write the program before the script"
        )
