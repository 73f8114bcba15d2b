"""Write the manual of every key (config/README.md) and the JSON schema from the configuration models.

What a key means is the docstring under its field.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from quarry.config.base import Section
from quarry.config.campaign import Configuration
from quarry.config.dynamics import BY_KEY, DEFAULTS
from quarry.config.engines.registry import sections
from quarry.files import write_text

FOLDER = Path(__file__).parents[3] / "config"

HEAD = """# The campaign file, key by key

*Made from the configuration models by `make manual`; a test fails when it differs. Edit the models, not this page.*

A campaign is one YAML file. `config/config.yaml` is the default; `snakemake --configfile mine.yaml` runs another one, which
**stands alone**: it is not merged with the default. Paths of input files in it are relative to the campaign file; results
(`results/<name>`) and the label store are relative to the working directory (`--directory`).

`--config` overrides single values on top: `snakemake --config seed=8`, nested ones as
`--config 'stop={max_labels: 300}'` (not `stop.max_labels=300`). Write `True` and `False` with a capital there; Snakemake leaves
`true` and `false` as text, and Quarry refuses them. `--config` and `--configfile` take every word behind them: a target stands
before them.

The file is YAML 1.1, and Quarry refuses what it reads otherwise than most people do: a key that stands twice, `010` (8 in
base 8), `2:00` (120 in base 60), dates and `on` as a key. Text that looks like a number goes in quotes: `index: '5:10'`.

Physical quantities carry their unit in the key (`temperature_K`) or in the value (`target_rmse: 0.5 kcal/mol`).

What fixes the identity of a campaign is everything but `stop` (except `stop.metric`), `resources`, `verification`,
`forecast`, `dataset`, `uses`, and of `labeling` the keys that all engines share{free_keys}: those may be changed at any time, the
others are refused for an existing results folder. Further `arms` may be added.

"""


def schema() -> dict[str, Any]:
    """Return the JSON schema of the campaign file, by which editors complete and explain it: every key has a description.

    Sections, and keys of sections, that a campaign of dynamics may leave out are required of others only.
    """
    full = _described_schema()
    definitions = full["$defs"]
    for definition in (full, *definitions.values()):
        for key, node in definition.get("properties", {}).items():
            if "description" not in node:
                words = _meaning(node, definition, definitions)
                definition["properties"][key] = dict(sorted({**node, "description": words}.items()))
    optional = [key for key in full["required"] if key in DEFAULTS]
    full["required"] = [key for key in full["required"] if key not in DEFAULTS]
    keys = {}
    for name in BY_KEY:
        section = definitions[full["properties"][name]["$ref"].rpartition("/")[2]]
        if required := section.pop("required", None):
            keys[name] = {"required": required}
    is_dynamics = {"properties": {"pool": {"properties": {"source": {"const": "dynamics"}}}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **full,
        "if": is_dynamics,
        "else": {"required": optional, "properties": keys},
    }


def _meaning(node: dict[str, Any], definition: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return what a key means whose field has no docstring: the section that it is, the sections that it may be, or, of a key
    that names the kind of a section, that section.
    """
    if "const" in node:
        return _first_sentence(definition)
    found = [(tag, _first_sentence(definitions[name])) for name, tag in _models(node)]
    return "\n".join(f"{tag.partition(': ')[2]}: {words}" if tag else words for tag, words in found)


def _first_sentence(definition: dict[str, Any]) -> str:
    """Return the first sentence of a section's description, without what stands in brackets (citations have points)."""
    text = " ".join(definition.get("description", "").split())
    without = re.sub(r" ?\((?:[^()]|\([^()]*\))*\)", "", text)
    return re.split(r"\. (?=[A-Z])", without)[0].rstrip(".") + "."


def _described_schema() -> dict[str, Any]:
    """Return the schema with the meaning of every key.

    Pydantic can read the docstrings as well (``use_attribute_docstrings``), but does so whenever the models are imported:
    a third of the time, in every job.
    """
    full = Configuration.model_json_schema()
    models = {model.__name__: model for model in _sections_of(Section)}
    for name, definition in [(Configuration.__name__, full), *full["$defs"].items()]:
        if name not in models:
            continue
        meanings: dict[str, str] = {}
        for base in reversed(models[name].__mro__):
            if issubclass(base, Section):
                meanings |= _docstrings(base)
        for key, node in definition.get("properties", {}).items():
            if key in meanings:
                definition["properties"][key] = dict(sorted({**node, "description": meanings[key]}.items()))
    return full


def _sections_of(model: type[Section]) -> Iterator[type[Section]]:
    yield model
    for child in model.__subclasses__():
        yield from _sections_of(child)


def _docstrings(model: type[Section]) -> dict[str, str]:
    """Return the docstring under each field of a class."""
    [tree] = ast.parse(inspect.cleandoc("\n" + inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(tree.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def manual() -> str:
    """Return the manual of every key as Markdown."""
    full = _described_schema()
    definitions = full["$defs"]
    lines = [HEAD.replace("{free_keys}", _free_keys()), "## Campaign\n", *_table(full, definitions)]
    done: dict[str, str] = {}
    for key, node in full["properties"].items():
        lines += _sections(key, node, definitions, done)
    return "\n".join(lines).rstrip() + "\n"


def _free_keys() -> str:
    """Return the keys of each engine that are no part of the identity, for the middle of a sentence."""
    found = {name: section.free_keys for name, section in sections().items() if section.free_keys}
    return "".join(f", with `{name}` also {', '.join(f'`{key}`' for key in keys)}" for name, keys in found.items())


def _sections(key: str, node: dict[str, Any], definitions: dict[str, Any], done: dict[str, str]) -> list[str]:
    lines: list[str] = []
    for name, tag in _models(node):
        title = f"`{key}`" + (f" with `{tag}`" if tag else "")
        if name in done:
            lines.append(f"\n## {title}\n\nThe same keys as {done[name]}.")
            continue
        done[name] = title
        model = definitions[name]
        lines += [f"\n## {title}\n", model.get("description", "") + "\n", *_table(model, definitions)]
        for child, child_node in model.get("properties", {}).items():
            lines += _sections(f"{key}.{child}", child_node, definitions, done)
    return lines


def _models(node: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (model, tag) of the sections that a value may be; tag: what chooses it, e.g. 'source: wigner'."""
    if "discriminator" in node:
        key = node["discriminator"]["propertyName"]
        return [(ref.rpartition("/")[2], f"{key}: {value}") for value, ref in node["discriminator"]["mapping"].items()]
    if "$ref" in node:
        return [(node["$ref"].rpartition("/")[2], "")]
    found = []
    for part in [*node.get("anyOf", []), node.get("items"), node.get("additionalProperties")]:
        if isinstance(part, dict):
            found += _models(part)
    return found


def _table(model: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    required = set(model.get("required", []))
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, node in model.get("properties", {}).items():
        default = "*required*" if key in required else f"`{_default(node, definitions)}`"
        meaning = " ".join(node.get("description", _described(node, definitions)).split()).replace("|", "\\|")
        # As text, or <name> would be an element of HTML.
        meaning = re.sub(r"<(?=[a-z])", r"\\<", meaning)
        lines.append(f"| `{key}` | {_type(node)} | {default} | {meaning} |")
    return lines


def _described(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    models = _models(node)
    if len(models) == 1:
        return str(definitions[models[0][0]].get("description", ""))
    return "See below." if models else ""


def _default(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    value = node.get("default")
    return "see below" if isinstance(value, dict) and value else json.dumps(value)


def _type(node: dict[str, Any]) -> str:
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{v}`" for v in node["enum"])
    if "discriminator" in node or "$ref" in node:
        return "section"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(part) for part in node["anyOf"]))
    names = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "True or False",
        "null": "null",
    }
    kind = node.get("type", "any")
    if kind == "array":
        return f"list of {_type(node.get('items', {}))}"
    if kind == "object":
        return "keys and values"
    bounds = {"exclusiveMinimum": "> ", "minimum": ">= ", "exclusiveMaximum": "< ", "maximum": "<= "}
    limits = ", ".join(f"{sign}{node[name]:g}" for name, sign in bounds.items() if name in node)
    return names.get(kind, kind) + (f" {limits}" if limits else "")


def main() -> None:
    """Write both files."""
    write_text(FOLDER / "README.md", manual())
    write_text(FOLDER / "schema.json", json.dumps(schema(), indent=1) + "\n")


if __name__ == "__main__":
    main()
