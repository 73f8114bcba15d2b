"""Values given with ``--config``: Snakemake leaves everything inside braces as text."""

from __future__ import annotations

from typing import Any


def apply_types(config: dict[str, Any], given: dict[str, Any]) -> None:
    """Give the values of ``--config key='{a: 1, b: {c: True}}'`` the types that Snakemake gives to top-level ones.

    config: the merged configuration, changed in place. given: what the command line gave. Numbers, True, False and
    null are recognised; ``true`` and ``false`` stay text, as they do at Snakemake's top level, and are refused later.
    """
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            apply_types(config[key], value)
        else:
            config[key] = _typed(value)


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if not isinstance(value, str):
        return value
    if value in ("True", "False", "null"):
        return {"True": True, "False": False, "null": None}[value]
    for convert in (int, float):
        try:
            return convert(value)
        except ValueError:
            continue
    return value
