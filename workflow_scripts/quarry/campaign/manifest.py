"""The campaign's manifest: which configuration and inputs its results come from."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quarry import __version__
from quarry.errors import QuarryError
from quarry.files import read_file, write_json

MANIFEST_FORMAT = 1

RETIRED = ("model.restarts",)
"""Keys of the configuration that earlier versions knew, and that mean nothing any more."""

KINDS: dict[str, Any] = {
    **dict.fromkeys(("method", "inputs"), dict),
    **dict.fromkeys((f"identity.{name}" for name in ("pool", "query", "test", "arms", "model", "labeling")), dict),
    **dict.fromkeys((f"identity.{name}" for name in ("query.batch", "validation", "filters")), dict | None),
    "identity.pool.files": list,
    "identity.seed": int,
    "identity.model.held_out": int | float | None,
    **dict.fromkeys(("identity.validation.fraction", "identity.filters.copy_tolerance_A"), int | float),
}
"""Kinds of what is looked at beside what every manifest has. Earlier versions have less of it."""


def make_manifest(
    identity: dict[str, Any], inputs: dict[str, str], method: dict[str, Any], method_id: str
) -> dict[str, Any]:
    """Return the manifest of a new campaign.

    identity: ``Configuration.identity()``. inputs: SHA-256 by path as the configuration gives it. method, method_id:
    what changes the labels' numbers, and its hash.
    """
    return {
        "format": MANIFEST_FORMAT,
        "campaign_id": secrets.token_hex(8),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "quarry": __version__,
        "identity": identity,
        "inputs": inputs,
        "method": method,
        "method_id": method_id,
    }


def read_manifest(path: str | Path) -> dict[str, Any] | None:
    """Return the manifest, or None if there is none. Raises QuarryError if it is damaged or cannot be read."""
    try:
        manifest: dict[str, Any] = json.loads(read_file(path)[0])
        kinds = {"identity": dict, "method_id": str, "campaign_id": str}
        found = [(manifest[key], kind) for key, kind in kinds.items()]
        found += [(value, kind) for keys, kind in KINDS.items() for value in _at(manifest, keys)]
        found += [(digest, str) for digest in dict(manifest.get("inputs", {})).values()]
        if not all(isinstance(value, kind) for value, kind in found):
            raise TypeError("keys are of other kinds")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QuarryError(
            f"{path}: cannot be read ({error.strerror or error}); correct that, or name another folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise QuarryError(
            f"{path}: the campaign's manifest is damaged; put it back from a backup, use another name, or remove "
            f"{Path(path).parent} (good labels are in the store and are not computed again)"
        ) from error
    return manifest


def _at(section: Any, keys: str) -> list[Any]:
    """Return what stands at keys with dots between them; nothing where there is no such key."""
    for key in keys.split("."):
        if not isinstance(section, dict) or key not in section:
            return []
        section = section[key]
    return [section]


def compare(
    path: str | Path, old: dict[str, Any], new: dict[str, Any], without_defaults: dict[str, Any] | None = None
) -> None:
    """Raise QuarryError if the results come from another configuration; say what differs (see ``differences``)."""
    found = differences(old, new, without_defaults)
    if found:
        raise QuarryError(
            f"{Path(path).parent} was made by another configuration: {shown(found)}; "
            "give this campaign another name, or put the configuration back"
        )


def differences(old: dict[str, Any], new: dict[str, Any], without_defaults: dict[str, Any] | None = None) -> list[str]:
    """Return messages about what makes another campaign of one, each with its key.

    Arms may be added to a campaign, or removed from it; what an arm does and everything else of the identity is fixed.
    without_defaults: the new identity without the keys that have their default value; such a key may be missing in a
    manifest that an earlier version wrote, which did not know it and did what the default does.
    """
    found = []
    given = None if without_defaults is None else _flat(without_defaults)
    for section in ("identity", "inputs", "method"):
        before = _flat(_with_common_arms(old[section], new[section]))
        after = _flat(_with_common_arms(new[section], old[section]))
        for key in sorted(before.keys() | after.keys()):
            if key in before and key in after and before[key] == after[key]:
                continue
            if section == "identity" and key not in after and key.endswith(RETIRED):
                continue
            if section == "identity" and key not in before and given is not None and key not in given:
                continue
            label = {"identity": key, "inputs": f"content of {key}", "method": f"resolved method {key}"}[section]
            values = f" ({_shown(before, key)} there, {_shown(after, key)} now)"
            found.append(label + ("" if section == "inputs" else values))
    return found


def said(section: Mapping[str, Any], within: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what a section, and those in it, say: the keys that lead to a value, and the value. within: keys before these."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from said(value, (*within, key))
        # A zero is said: no pressure, no lower bound, a charge of 0.
        elif not (value is None or value is False or value in ("", [])):
            yield (*within, key), value


def labels_in_words(labeling: Mapping[str, Any], method_id: str) -> str:
    """Return what labels are computed by in one line, with the method's hash, as card, metadata and the model's page have it.

    labeling: the section of the identity, which names things as the user did. What the label store has of a method is for
    comparing: a functional as libxc resolves it says neither its name nor the exact exchange that is inside it.
    """
    found = (
        ".".join(keys[1:] if len(keys) > 1 and keys[0] == "method" else keys) + f" {in_one_line(value)}"
        for keys, value in said(labeling)
    )
    return f"{', '.join(found) or 'a method that is not stated'} (method {method_id} of the label store)"


def in_one_line(value: Any) -> str:
    """Return a value in one line of 200 characters at most."""
    text = re.sub(r"\s+", " ", str(value))
    return text if len(text) <= 200 else f"{text[:200]}..."


def shown(differences: list[str]) -> str:
    """Return the first of the differences, and how many more there are."""
    more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
    return "; ".join(differences[:4]) + more


def save(path: str | Path, manifest: dict[str, Any]) -> None:
    """Write the manifest."""
    write_json(path, manifest)


def _with_common_arms(section: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a section with only the arms that both sides have."""
    if "arms" not in section:
        return section
    return {**section, "arms": {name: arm for name, arm in section["arms"].items() if name in other.get("arms", {})}}


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the old manifest with the new one's further arms: an arm once run is never forgotten."""
    arms = {**new["identity"].get("arms", {}), **old["identity"].get("arms", {})}
    return {**old, "identity": {**old["identity"], "arms": arms}}


def with_store(manifest: dict[str, Any], store: str | Path) -> dict[str, Any]:
    """Return the manifest with a label store among those that the campaign has had: jobs may still work for an earlier one.

    The path of one inside the working directory is relative to it, so that a copy of that folder has another store.
    """
    folder = Path(store).resolve()
    here = Path.cwd()
    name = str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
    earlier = [other for other in manifest.get("stores", []) if Path(other).resolve() != folder]
    return {**manifest, "stores": [*earlier, name]}


def is_store_of(path: str | Path, store: Path) -> bool:
    """Whether a label store is the one that a campaign uses now, as far as its manifest can be read."""
    try:
        last = [str(store), *json.loads(Path(path).read_bytes()).get("stores", [])][-1]
        return Path(last).resolve() == store.resolve()
    except (OSError, ValueError, AttributeError):
        return True


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            # So that a key of an item which an older manifest does not know is told apart from one that differs.
            flat.update(_flat({str(number): item for number, item in enumerate(value)}, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _shown(flat: dict[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else "absent"
