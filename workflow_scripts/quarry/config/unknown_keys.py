"""Which key is meant by one that a section does not have."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SIMILAR, SURELY_MEANT = 0.5, 0.8
"""A known key this similar to an unknown one may be meant; this similar it is, whatever other sections have (difflib's ratio)."""
MOST, DEEPEST = 3, 3
"""Of a key that more places have, or that lies deeper, nobody knows which one is meant."""

Node = Mapping[str, Any]


@dataclass(frozen=True)
class KnownKeys:
    """The keys of a configuration. schema: pydantic's. given: the configuration with the mistake, for the kinds that it has."""

    schema: Node
    given: Mapping[str, Any] = field(default_factory=dict)

    def meant(self, key: str, location: Sequence[Any]) -> str:
        """Return a clause about which key is meant by an unknown one: where it belongs, a similar one, or what is known there.

        location: of its section, as pydantic has it, with the tags of unions.
        """
        section, kinds, path = self._at(location)
        known = list(section.get("properties", {}))
        close = difflib.get_close_matches(key, known, n=1, cutoff=SIMILAR)
        similar = f"did you mean '{close[0]}'?" if close else ""
        is_close = bool(close) and difflib.SequenceMatcher(None, key, close[0]).ratio() >= SURELY_MEANT
        belongs = self._inside(key, path, section) or _other_kind(key, kinds)
        if not belongs and not is_close:
            belongs = self._above(key, path)
        if belongs:
            return f"{belongs}; or {similar}" if similar and path else belongs
        return similar or f"known here: {', '.join(known)}"

    def _above(self, key: str, path: Sequence[str]) -> str:
        """Return that a key belongs to a section around one, or to one inside of that: the nearest; or an empty text."""
        for depth in range(len(path) - 1, -1, -1):
            section = self._chosen(path[:depth])
            if depth and key in section.get("properties", {}):
                return f"it belongs to the section {'.'.join(path[:depth])}"
            if not depth and key in section.get("properties", {}) and key not in self.given:
                return "it belongs to no section: write it at the left margin"
            if belongs := self._inside(key, path[:depth], section):
                return belongs
        return ""

    def _at(self, location: Sequence[Any]) -> tuple[Node, Node, list[str]]:
        """Return the section at a location, the union that it is a kind of (empty: none), and its path without tags."""
        node: Node = self.schema
        union: Node = {}
        path: list[str] = []
        for part in location:
            node = self._resolved(node)
            if "discriminator" in node:
                union, node = node, self._resolved({"$ref": node["discriminator"]["mapping"].get(str(part), "")})
                continue
            union = {}
            node = (
                node.get("properties", {}).get(str(part)) or node.get("additionalProperties") or node.get("items") or {}
            )
            path.append(str(part))
        named = {
            tag: self._resolved({"$ref": name})
            for tag, name in union.get("discriminator", {}).get("mapping", {}).items()
        }
        return (
            self._resolved(node),
            {"name": union["discriminator"]["propertyName"], "kinds": named} if union else {},
            path,
        )

    def _chosen(self, path: Sequence[str]) -> Node:
        """Return the section at a path, of the kind that the configuration has chosen; empty: none, or nobody knows."""
        node, given = self.schema, self.given
        for part in path:
            given = given.get(part, {}) if isinstance(given, Mapping) else {}
            kinds = self._kinds(node.get("properties", {}).get(part, {}), given)
            node = kinds[0] if len(kinds) == 1 else {}
        return node

    def _kinds(self, node: Node, given: Any) -> list[Node]:
        """Return what a section may be: the kind that is given, or all of them."""
        node = self._resolved(node)
        if "discriminator" not in node:
            return [node]
        mapping = node["discriminator"]["mapping"]
        tag = given.get(node["discriminator"]["propertyName"]) if isinstance(given, Mapping) else None
        names = [mapping[tag]] if isinstance(tag, str) and tag in mapping else list(mapping.values())
        return [self._resolved({"$ref": name}) for name in names]

    def _inside(self, key: str, path: Sequence[str], section: Node) -> str:
        """Return that a key belongs to sections inside of one, or an empty text. path: of the section."""
        given: Any = self.given
        for part in path:
            given = given.get(part, {}) if isinstance(given, Mapping) else {}
        # Of the kinds that the configuration has; else of any.
        either: tuple[Any, ...] = (given, {})
        for chosen in either:
            found = list(dict.fromkeys(self._places(key, ".".join(path), section, chosen, DEEPEST)))
            if len(found) > MOST:
                least = min(place.count(".") for place in found)
                found = [place for place in found if place.count(".") == least]
            if found:
                return f"it belongs to the section {' or '.join(found)}" if len(found) <= MOST else ""
        return ""

    def _places(self, key: str, where: str, section: Node, given: Any, depth: int) -> Iterator[str]:
        for name, part in section.get("properties", {}).items():
            place = f"{where}.{name}" if where else name
            value = given.get(name, {}) if isinstance(given, Mapping) else {}
            kinds = self._kinds(part, value)
            # Of a section within a section that is not given nobody knows the kind.
            for kind in kinds if len(kinds) == 1 or not where else ():
                if key in kind.get("properties", {}):
                    yield place
                if depth > 1:
                    yield from self._places(key, place, kind, value, depth - 1)

    def _resolved(self, node: Node) -> Node:
        while True:
            if "$ref" in node and node["$ref"].startswith("#/$defs/"):
                node = self.schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
            elif "allOf" in node:
                node = node["allOf"][0]
            elif "anyOf" in node and "discriminator" not in node:
                node = next((n for n in node["anyOf"] if "$ref" in n or "discriminator" in n), {})
            else:
                return node


def _other_kind(key: str, union: Node) -> str:
    """Return that a key belongs to other kinds of the same section, or an empty text."""
    having = [tag for tag, kind in union.get("kinds", {}).items() if key in kind.get("properties", {})]
    return f"it belongs to {union['name']}: {' or '.join(having)}" if having else ""
