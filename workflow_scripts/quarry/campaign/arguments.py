"""What stands on Snakemake's command line, checked before Snakemake trips over it or passes over it.

``check_arguments`` is asked by the profiles (``profiles/*/config.yaml``): Snakemake reads those before the campaign file,
and the campaign file before the Snakefile. The others are asked by the Snakefile.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quarry.campaign.invocation import Invocation, kind_of
from quarry.config.campaign_file import ENDINGS, check_campaign_file, check_yaml
from quarry.errors import QuarryError

NUMBERS = {
    "runtime": "minutes or a time with unit, e.g. 120 or 2h",
    "mem_mb": "megabytes, e.g. 8000; or mem with a unit, e.g. mem=8GB",
    "disk_mb": "megabytes, e.g. 8000; or disk with a unit, e.g. disk=8GB",
    "threads": "a whole number, e.g. 4",
}
"""Resources that are numbers, and how they are written."""
NUMBER_NAMES = ("attempt", "threads")
"""What an expression of a resource may name alone."""
DEFAULT_CAMPAIGN = Path(__file__).parents[3] / "config" / "config.yaml"
"""The campaign file of the project, which the Snakefile reads where none is given."""


def check_arguments(options: Any) -> None:
    """Check what Snakemake reads before the Snakefile; a mistake ends the process with one line and exit code 1.

    options: Snakemake's parsed command line (``argparse.Namespace``).
    """
    try:
        check_directory(options.directory, kind_of(vars(options)) is Invocation.RUN)
        check_values(options.config or ())
        check_files(options.configfile or ())
        if not options.configfile and DEFAULT_CAMPAIGN.is_file():
            check_campaign_file(DEFAULT_CAMPAIGN)
    except QuarryError as error:
        sys.exit(f"Quarry: {error}")


def offer_output() -> None:
    """Let ``--logger quarry`` be known, also where Quarry is not installed and its Snakefile is all there is of it."""
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    import snakemake_logger_plugin_quarry as plugin

    LoggerPluginRegistry().register_plugin(plugin.__name__, plugin)


def check_directory(given: Path | None, is_run: bool) -> None:
    """Raise QuarryError for a working directory that is none, or that takes no files.

    given: with ``--directory``; Snakemake makes it where it does not exist. is_run: whether jobs are to run; a folder of
    somebody else's, in which a campaign has been run, may be looked at.
    """
    folder = Path.cwd() if given is None else given.absolute()
    what = f"the working directory {folder}" if given is None else f"--directory {given}"
    try:
        # What exists of it; a link to nothing stands in the way of a folder.
        there = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
        if not there.is_dir():
            kind = "a link to nothing" if there.is_symlink() and not there.exists() else "no folder"
            raise QuarryError(f"{what}: {there} is {kind}; name a folder, which is made if it does not exist")
        if is_run or not (folder / ".snakemake").is_dir():
            # Tried, because the rights do not say it all: file systems are read-only, or take no files at all.
            with tempfile.TemporaryFile(dir=there):
                pass
    except OSError as error:
        message = f"nothing can be written in it ({error.strerror or error})"
        raise QuarryError(f"{what}: {message}; name a folder of your own with --directory") from error


def check_workflow_profile(given: Path | str | None, project: Path) -> None:
    """Raise QuarryError if ``--workflow-profile`` names no profile: Snakemake would run without any, here and not there.

    given: the option. project: folder of the Snakefile.
    """
    if given is None or str(given) == "none":
        return
    # Snakemake has left the folder that it was started in for --directory; the shell still says which it was.
    started = {Path.cwd(), Path(os.environ.get("PWD", "."))}
    places = [folder / inner / given for folder in (*started, project) for inner in ("", "profiles")]
    if not any(place.exists() for place in places):
        found = [path for folder in (*started, project) for path in folder.glob("profiles/*/config.yaml")]
        known = ", ".join(sorted({path.parent.name for path in found}))
        close = difflib.get_close_matches(str(given), known.split(", "), n=1)
        remedy = f"did you mean '{close[0]}'?" if close else "one of your own is named by its whole path"
        raise QuarryError(f"--workflow-profile: there is no profile '{given}' (there are {known}); {remedy}")


def check_files(files: Sequence[Path]) -> None:
    """Raise QuarryError unless ``--configfile`` names no more than one campaign file, and one that can be read."""
    words = [str(file) for file in files if file.suffix not in ENDINGS and not file.exists()]
    if len(files) > 1 and words:
        named = next((str(file) for file in files if str(file) not in words), "FILE")
        raise QuarryError(
            f"--configfile takes every word behind it for a file, also '{words[0]}'; "
            f"write what is to be made before it: snakemake {' '.join(words)} --configfile {named}"
        )
    if len(files) > 1:
        raise QuarryError("--configfile: a campaign file stands alone; give one file, and single values with --config")
    for file in files:
        check_campaign_file(file)


def check_values(values: Sequence[str]) -> None:
    """Raise QuarryError for values that ``--config`` cannot take, or would take otherwise than they are meant."""
    seen: set[str] = set()
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise QuarryError(
                f"--config: '{value}' is no key=value; write values as --config seed=8, and what is to be made before "
                "--config"
            )
        if not re.fullmatch(r"[a-zA-Z_][\w.-]*\w", key):
            raise QuarryError(
                f"--config {value}: '{key}' is no key of a campaign file; write values as --config seed=8"
            )
        if "." in key:
            first, *rest = key.split(".")
            nested = "".join(f"{{{part}: " for part in rest) + text + "}" * len(rest)
            raise QuarryError(f"--config {value}: keys inside a section are written --config '{first}={nested}'")
        if key in seen:
            raise QuarryError(f"--config {value}: {key} is there twice; give all its values at once, or remove one")
        seen.add(key)
        if text.lstrip()[:1] in ("{", "[", "&"):
            check_yaml(text, f"--config {key}", sections_only=False)


def check_settings(settings: Any) -> None:
    """Raise QuarryError for resources or threads that are numbers and are given as text: jobs would fail, hours later.

    settings: Snakemake's resource settings, from the command line and profiles.
    """
    check_resources("--set-resources", settings.overwrite_resources or {})
    check_resources("--default-resources", {"": settings.default_resources or {}})
    threads = settings.overwrite_threads or {}
    check_resources("--set-threads", {rule: {"threads": value} for rule, value in threads.items()})


def check_resources(option: str, by_rule: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise QuarryError for text where a number is due. by_rule: by rule (the empty text: of all rules) and name."""
    for rule, resources in by_rule.items():
        for name, resource in resources.items():
            # As written, before Snakemake computes it for a job.
            written = getattr(resource, "raw", None)
            if name in NUMBERS and isinstance(written, str) and _is_text(written):
                what = rule if name == "threads" else f"{rule}:{name}".lstrip(":")
                raise QuarryError(f"{option} {what}={written}: '{written}' is no number; write {NUMBERS[name]}")


def _is_text(written: str) -> bool:
    """Whether Snakemake finds no expression in a resource, but text."""
    try:
        found = ast.parse(written.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return True
    if isinstance(found, ast.Name):
        return found.id not in NUMBER_NAMES
    return isinstance(found, ast.Constant) and not isinstance(found.value, int | float)


def check_rules(workflow: Any, targets: Sequence[str]) -> None:
    """Raise QuarryError for a name on the command line that is no rule.

    workflow: the object of that name in the Snakefile, with all rules. targets: of the command line.
    """
    rules = list(workflow.rules)
    names = [rule.name for rule in rules]
    plain = [rule.name for rule in rules if not rule.has_wildcards()]
    check_targets(targets, plain, [rule.name for rule in rules if not rule.output])
    check_names("--set-resources", workflow.resource_settings.overwrite_resources or (), names)
    check_names("--set-threads", workflow.resource_settings.overwrite_threads or (), names)


def check_targets(targets: Iterable[str], known: Sequence[str], usual: Sequence[str]) -> None:
    """Raise QuarryError for a target that is none. known: rules that are one. usual: those to name if none is similar."""
    for target in targets:
        if _is_path(target) or target in known:
            continue
        if Path(target).suffix in ENDINGS:
            raise QuarryError(f"'{target}' is no target; a campaign file is given with --configfile {target}")
        raise QuarryError(f"there is no target '{target}'; {_meant(target, known, usual)}")


def check_names(option: str, given: Iterable[str], rules: Sequence[str]) -> None:
    """Raise QuarryError for a name that an option gives and that is no rule: Snakemake passes over some."""
    for name in given:
        if not _is_path(name) and name not in rules:
            raise QuarryError(f"{option}: there is no rule '{name}'; {_meant(name, rules, sorted(rules))}")


def _is_path(name: str) -> bool:
    return "/" in name


def _meant(name: str, known: Sequence[str], usual: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(usual)}"
