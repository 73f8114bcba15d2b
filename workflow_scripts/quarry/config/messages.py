"""Errors of pydantic in the user's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from quarry.config.base import kind_of
from quarry.config.unknown_keys import KnownKeys

UNIONS = (
    "pool",
    "labeling",
    "descriptor",
    "model",
    "query.batch",
    "descriptor.k2.weighting",
    "descriptor.k3.weighting",
)
"""Keys whose value is one of several sections."""
LONGEST_SHOWN = 80
"""Characters of a value in a message."""


def one_line(error: ValidationError, model: type[BaseModel], prefix: str = "", given: Any = None) -> str:
    """Return a pydantic error as one line in the user's words. given: the configuration with the mistake."""
    lines, items = [], error.errors()
    # Made here and not kept: the kinds of a section are whatever the registries hold now.
    schema = model.model_json_schema() if any(item["type"] == "extra_forbidden" for item in items) else {}
    keys = KnownKeys(schema, given if isinstance(given, dict) else {})
    for item in items:
        key = prefix + _path_of(item["loc"])
        value = item.get("input")
        if item["type"] == "extra_forbidden":
            text = f"unknown key; {keys.meant(str(item['loc'][-1]), item['loc'][:-1])}"
        elif item["type"] in ("model_type", "model_attributes_type"):
            text = f"must be a section, a dictionary of keys and values (got {_short(value)})"
        elif item["type"] == "missing":
            text = "this key is missing; add it"
        elif item["type"] in ("literal_error", "union_tag_invalid"):
            context = item.get("ctx", {})
            expected = str(context.get("expected") or context.get("expected_tags"))
            given = context.get("tag", value)
            if "discriminator" in context:
                key += f".{_telling(context['discriminator'])}"
            # Of three letters two are no likeness: nvt is not nve.
            close = difflib.get_close_matches(str(given).lower(), re.findall("'([^']*)'", expected), n=1, cutoff=0.7)
            text = f"'{given}' is not one of {expected}" + (f"; did you mean '{close[0]}'?" if close else "")
        elif item["type"] == "union_tag_not_found":
            text = f"the key '{_telling(item['ctx']['discriminator'])}' is missing; it says which kind this is"
        elif item["type"] == "bool_type":
            text = (
                f"must be True or False, got the text '{value}'; on the command line write True or False with a capital"
            )
        else:
            message = (
                item["msg"]
                .removeprefix("Value error, ")
                .replace("a valid string", "text")
                .replace(" after validation", "")
            )
            shown = (
                ""
                if isinstance(value, dict) or value is None
                else f" (got {_short(value)}){_hint(item['type'], value)}"
            )
            text = f"{message[0].lower()}{message[1:]}{shown}"
        lines.append(f"{key}: {text}" if key else text)
    more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
    return "; ".join(dict.fromkeys(lines[:3])) + more


def _telling(discriminator: str) -> str:
    """Return the key that tells the sections of a union apart. discriminator: pydantic's, the key in quotes or a function."""
    return "kind" if discriminator == f"{kind_of.__name__}()" else discriminator.strip("'")


def _short(value: Any) -> str:
    """Return a value as it stands in a message; long ones are cut."""
    text = repr(value)
    length = len(value if isinstance(value, str) else text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 20]} ... {length} characters"


def _hint(kind: str, value: Any) -> str:
    """Return what YAML may have made of a value that is not of the kind that is due (pydantic's type of the error)."""
    if kind == "string_type":
        if isinstance(value, bool):
            return "; YAML reads yes, no, on and off as True and False: put the text in quotes"
        return "; put text in quotes" if isinstance(value, int | float) else ""
    if kind == "list_type" and isinstance(value, str | int | float):
        return f"; a list of one is written [{value}]"
    if not isinstance(value, str):
        return ""
    whole = "int" in kind
    if re.fullmatch(r"[-+]?[0-9]+e[-+]?[0-9]+", value, re.IGNORECASE):
        if whole:
            return "; write a whole number in digits, e.g. 1000"
        return "; YAML reads this as text: write it with a decimal point, e.g. 1.0e-3"
    if kind.startswith(("float", "int")) and re.fullmatch(r"[-+]?[0-9.]+\s*[a-z%/]+", value, re.IGNORECASE):
        return "; write the number alone, without a unit"
    if re.fullmatch(r"[-+]?0[0-9]+", value):
        return "; YAML reads this as text: write it without the zero in front"
    if re.fullmatch(r"[0-9]+(:[0-9]+)+", value):
        return "; write one plain number"
    return ""


def _path_of(location: Sequence[Any]) -> str:
    """Return the user's path of an error: pydantic puts the tags and types of unions into it ("pool.wigner.size")."""
    path: list[str] = []
    tag_follows = False
    for part in location:
        if not tag_follows and part not in ("str", "float", "constrained-int", "literal['auto']"):
            path.append(str(part))
            tag_follows = ".".join(path) in UNIONS
        else:
            tag_follows = False
    return ".".join(path)
