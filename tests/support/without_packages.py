"""Python processes in which some packages cannot be found, as where they are not installed."""

from __future__ import annotations

import os
from pathlib import Path

SITE = '''"""Hides packages from this process."""
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HIDDEN = {hidden!r}


class WithoutThem(PathFinder):
    """The usual finder, to which some packages are not there."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context=None):
        if context is not None and context.name in HIDDEN:
            return iter(())
        return super().find_distributions(*(() if context is None else (context,)))


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutThem
'''


def environment_without(folder: Path, *packages: str) -> dict[str, str]:
    """Return environment variables under which every Python process finds none of some packages. folder: for a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE.format(hidden=set(packages)))
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
