"""The checks that need chemistry: run once, in one subprocess of the main process, cached by what they depend on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from quarry import __version__
from quarry.config.baselines import CalculatorBaseline
from quarry.config.campaign import Configuration, drawn_files, inputs_of
from quarry.config.extras import EXTRAS
from quarry.config.installed import REPOSITORY
from quarry.errors import QuarryError
from quarry.files import digest_of, write_json

CACHE = Path(".snakemake/quarry")


def preflight(configuration: Configuration, base: Path, jobs_have_own_environment: bool = False) -> dict[str, Any]:
    """Check everything that can be checked before a job is submitted; return method, method_id and input digests.

    base: folder of the campaign file. jobs_have_own_environment: jobs run in environments that Snakemake makes (conda), so
    that a library of theirs may be missing here. Raises QuarryError with the one line of what is wrong.
    """
    marks = []
    for path in [*inputs_of(configuration, base), *drawn_files(configuration, base)]:
        try:
            stat = path.stat()
        except OSError as error:
            literal = "; * and ~ in a path stand for themselves: write it out" if re.search("[*?~]", str(path)) else ""
            raise QuarryError(
                f"{path} does not exist or cannot be read; paths are relative to the campaign file in {base}{literal}"
            ) from error
        marks.append([str(path), stat.st_size, stat.st_mtime_ns])
    request = {
        # As it was written: a key that is given is more than its default (pool.charge, filters.copies).
        "configuration": configuration.model_dump(mode="json", exclude_unset=True),
        "base": str(base),
        "jobs_have_own_environment": jobs_have_own_environment,
    }
    excluded = {"stop", "resources", "verification", "forecast", "uses"}
    science = [configuration.model_dump(mode="json", exclude=excluded, exclude_unset=unset) for unset in (True, False)]
    # A program may have gone from PATH since, only some engines take several tasks, and finished labels must suffice.
    surroundings = [os.environ.get("PATH"), configuration.resources.label.tasks, configuration.stop.max_labels]
    marks += _classes_of_the_user(configuration, base)
    key = [science, str(base), marks, __version__, _versions(), surroundings, jobs_have_own_environment]
    cache = CACHE / f"preflight-{digest_of(key, 20)}.json"
    try:
        cached: dict[str, Any] = json.loads(cache.read_bytes())
        return cached
    except (OSError, ValueError):
        pass
    result = _run(request)
    # Somebody else's campaign may be looked at, if not run.
    with suppress(OSError):
        write_json(cache, result)
    return result


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """Run the checks in a process of their own, so that chemistry libraries stay out of the main process."""
    process = subprocess.run(
        [sys.executable, "-m", "quarry.stages.preflight"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    try:
        answer = json.loads(process.stdout.strip().rpartition("\n")[2])
    except ValueError as error:
        last = process.stderr.strip().rpartition("\n")[2]
        if absent := re.fullmatch(r"ModuleNotFoundError: No module named '(\w+)(\.\w+)*'", last):
            install = shlex.join([sys.executable, "-m", "pip", "install", str(REPOSITORY)])
            raise QuarryError(f"{absent[1]} is not installed where Snakemake runs; type: {install}") from error
        raise QuarryError(f"the checks before the start failed: {last or f'exit code {process.returncode}'}") from error
    if "error" in answer:
        raise QuarryError(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result


def _classes_of_the_user(configuration: Configuration, base: Path) -> list[list[Any]]:
    """Return marks of the files in which classes and calculators of the user's own are, where these lie as their names say."""
    arms = [configuration.arm(name) for name in configuration.arm_names]
    paths = [arm.model.kind for arm in arms if arm.model.is_user_defined]
    paths += [
        b.calculator for arm in arms if (b := arm.model.baseline) is not None and isinstance(b, CalculatorBaseline)
    ]
    paths += [arm.query.strategy for arm in arms if arm.query.is_user_defined]
    modules = sorted({path.partition(":")[0].replace(".", "/") for path in paths})
    files = [folder / f"{module}.py" for module in modules for folder in (base, Path())]
    found = [(file, file.stat()) for file in files if file.exists()]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in found]


def _versions() -> list[str]:
    """Return the versions that the checks depend on."""
    found = [sys.version]
    optional = [requirement.partition("==")[0] for extra in EXTRAS.values() for requirement in extra.requirements]
    for package in ("pyscf", "pyscf-dispersion", "ase", *optional):
        try:
            found.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            found.append("absent")
    return found


def _environment() -> dict[str, str]:
    library = str(Path(__file__).parents[2])
    path = os.pathsep.join(p for p in (library, os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
