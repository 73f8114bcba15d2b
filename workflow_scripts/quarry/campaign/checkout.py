"""The project's files where Snakemake reads its Snakefile from a git repository (``github(...)``, as snakedeploy writes it).

Snakemake then fetches rules and scripts one by one, and nothing beside them: the library is taken from Snakemake's own clone
of the repository, at the commit of the Snakefile. The Snakefile runs this file before it can import the library: standard
library only, and GitPython, which Snakemake needs.
"""

from __future__ import annotations

import importlib
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any


def check_out(workflow: Any) -> None:
    """Write down the project's files of the commit that its Snakefile is read from, and put the library on the path.

    Each commit is written once, into Snakemake's cache of sources, which jobs on other machines have as well. Another library
    that is loaded already ends the process with one line and exit code 1.

    workflow: the Snakefile's object; the Snakefile that is being read comes from a repository.
    """
    source = workflow.current_basedir
    if not hasattr(source, "hosted_repo"):
        sys.exit(
            f"Quarry: the Snakefile at {source} has no library with it; name a checkout, or github(...) with a tag"
        )
    repository, origin = source.hosted_repo.repo, f"https://{source.host}/{source.repo}"
    commit = repository.commit(source.ref).hexsha
    folder = Path(workflow.sourcecache.cache_path) / "quarry" / commit
    if not folder.exists():
        _write(repository, f"{commit}:{source.path}", folder)
    library = folder / "workflow_scripts"
    sys.path.insert(0, str(library))
    importlib.import_module("quarry")
    found = Path(str(sys.modules["quarry"].__file__)).parents[1]
    if found.resolve() != library.resolve():
        sys.exit(
            f"Quarry: the library in {found} is loaded already, and the Snakefile of {origin} at {source.ref} has its own; "
            "name one tag in all modules"
        )


def _write(repository: Any, tree: str, folder: Path) -> None:
    """Write the files of a tree of git's; another process may do the same at this time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as place:
        archive, files = Path(place) / "files.tar", Path(place) / "files"
        with archive.open("wb") as stream:
            repository.archive(stream, tree, format="tar")
        with tarfile.open(archive) as content:
            content.extractall(files, filter="data")
        try:
            files.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
