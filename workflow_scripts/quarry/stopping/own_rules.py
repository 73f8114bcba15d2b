"""User-defined stop rules, by import path (read at parse time: nothing heavy here)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.imports import call_user_code, check_arguments, load
from quarry.stopping.progress import Progress
from quarry.stopping.rules import StopRule


def own_rules(configuration: Configuration, base: Path | None = None) -> list[StopRule]:
    """Return the rules that ``stop.rules`` names. base: folder that import paths are looked for in first.

    Raises QuarryError if one cannot be imported, or does not take its arguments.
    """
    return [
        _rule(f"stop.rules[{n}]", rule.rule, rule.arguments, base) for n, rule in enumerate(configuration.stop.rules)
    ]


def _rule(key: str, path: str, arguments: dict[str, object], base: Path | None) -> StopRule:
    found = load(path, key, base)
    is_class = inspect.isclass(found)
    check_arguments(found, arguments, path, f"{key}.arguments", by_place=0 if is_class else 1)
    ask = partial(found, **arguments)
    if is_class:
        ask = call_user_code(ask, f"{key}: {path} cannot be made")
    if not callable(ask):
        raise QuarryError(f"{key}: objects of {path} cannot be called with the progress; give the class __call__")
    return StopRule(path, partial(_ask, ask, key, path))


def _ask(ask: Callable[[Progress], object], key: str, path: str, progress: Progress) -> str | None:
    """Return what a rule says. Raises QuarryError where it fails, or says something that is no text."""
    message = call_user_code(lambda: ask(progress), f"{key}: {path} failed")
    if message is None or isinstance(message, str):
        return " ".join(message.split()) if message else None
    raise QuarryError(
        f"{key}: {path} must return why the campaign stops, a text, or None, not {type(message).__name__}"
    )
