"""The campaign file as it is written: faults that reading it hides, or that end in a traceback, with their line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path

import yaml

from quarry.errors import QuarryError

STANDARD_TAG = "tag:yaml.org,2002:"
KINDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "True or False",
    "null": "null",
    "timestamp": "date",
}
"""Single values that a campaign file may hold: YAML's names and plain words."""
NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that no name, path or command can have; in quotes, YAML and JSON let one write them."""
DEEPEST = 40
"""Sections and lists inside one another. Configurations have ten; arguments of engines are the user's."""
MOST_VALUES = 1_000_000
"""Values of a file when every alias is written out."""
ENDINGS = (".yaml", ".yml", ".json")
"""Endings of files that may be campaign files, for suggestions."""
TOO_DEEP = f"sections and lists stand more than {DEEPEST} deep in one another; look for brackets or braces too many"
PLAIN_WORDS = {
    "flow sequence": "list in brackets",
    "block sequence": "list",
    "flow mapping": "section in braces",
    "block mapping": "section",
    "simple key": "key",
    "quoted scalar": "text in quotes",
    "stream": "file",
    "'\\t'": "a tab",
}
"""What the parser calls things, and what the manual calls them."""


def check_campaign_file(path: str | Path) -> None:
    """Raise QuarryError, with file and line, if a campaign file cannot be read or does not say what it seems to say.

    path: as the user gave it. A file that passes is read by Snakemake (YAML 1.1, of which JSON is a part).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise QuarryError(_no_file(Path(path), error)) from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if any(byte < 32 and byte not in b"\t\n\f\r" for byte in data):
            raise QuarryError(f"{path} is no text file; a campaign file is YAML, written in an editor") from error
        line = data[: error.start].count(b"\n") + 1
        raise QuarryError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 text"
        ) from error
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        # The one thing that JSON allows and YAML does not; inside text they would be written \\t.
        text = text.replace("\t", " ")
    check_yaml(text, str(path))


def check_yaml(text: str, origin: str, sections_only: bool = True) -> None:
    """Raise QuarryError if a YAML text breaks the syntax, does not say what it seems to say, or is no dictionary.

    origin: where the text comes from, for the message. sections_only: False lets lists and single values pass.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise QuarryError(_syntax(error, text, origin)) from error
    except RecursionError as error:
        raise QuarryError(f"{origin}: {TOO_DEEP}") from error
    if node is None:
        raise QuarryError(f"{origin} is empty; config/README.md of the project lists the keys of a campaign file")
    if sections_only and not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise QuarryError(f"{origin} holds {kind}; a campaign file is keys and values, like name: ethanol")
    problem = next(chain(_measured(node, "", {}), _problems(node, "", set())), None)
    if problem is not None:
        line, message = problem
        raise QuarryError(f"{origin}, line {line}: {message}")


def _no_file(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        folder = path.parent
        others = sorted(p.name for p in folder.iterdir() if p.suffix in ENDINGS) if folder.is_dir() else []
        close = difflib.get_close_matches(path.name, others, n=1, cutoff=0.75)
        meant = f"did you mean {folder / close[0]}?" if close else f"it is looked for in {folder.absolute()}"
        return f"--configfile: {path} does not exist; {meant}"
    if isinstance(error, IsADirectoryError):
        return f"--configfile: {path} is a folder; name the campaign file in it"
    return f"--configfile: {path} cannot be read ({error.strerror}); correct its permissions, or name another file"


def _syntax(error: yaml.YAMLError, text: str, origin: str) -> str:
    """Return a fault of the syntax in one line: where it is, what the parser says, and what is mostly the matter."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        return f"{origin}, line {line}: the character {error.character:#x} is no text; is this a campaign file?"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"{origin}: this is not YAML ({' '.join(str(error).split())})"
    line = error.problem_mark.line + 1
    message, begun = str(error.problem), error.context_mark
    if begun is not None and begun.line + 1 != line:
        message += f", {error.context}, which begins in line {begun.line + 1}"
    for name, plain in PLAIN_WORDS.items():
        message = message.replace(name, plain)
    lines = text.splitlines()
    wrong = lines[line - 1] if line <= len(lines) else ""
    if "another document" in message:
        hint = "remove the line that begins with ---, or what follows it"
    elif "duplicate anchor" in message:
        hint = "give one of the two another name behind its &"
    elif "\t" in wrong[: error.problem_mark.column + 1]:
        hint = "indent with blanks, not with tabs"
    elif "mapping values are not allowed" in message:
        hint = "indent keys of one section alike, and put text with a colon in quotes"
    elif "cannot start any token" in message or "alias" in message or "anchor" in message:
        hint = "put this text in quotes"
    else:
        hint = "look for a missing bracket, quote, comma or colon here or above"
    return f"{origin}, line {line}: this is not YAML ({message}); {hint}"


def _measured(
    node: yaml.Node, path: str, done: dict[int, tuple[int, int] | None]
) -> Generator[tuple[int, str], None, tuple[int, int]]:
    """Yield line and words of what aliases make endless or too large; return values and depth, aliases written out.

    done: both by node, None for a node that is being measured. No deeper recursion than the text is nested: an alias
    stands behind what it names.
    """
    if id(node) in done:
        known = done[id(node)]
        if known is not None:
            return known
        yield (
            node.start_mark.line + 1,
            f"{_of(path)}this is part of itself; remove the alias, the word that begins with *",
        )
        return 1, 1
    done[id(node)] = None
    size, depth = 1, 1
    for name, part in _parts(node, path):
        inner_size, inner_depth = yield from _measured(part, name, done)
        size, depth = size + inner_size, max(depth, inner_depth + 1)
    done[id(node)] = size, depth
    if depth > DEEPEST:
        yield node.start_mark.line + 1, TOO_DEEP
    if size > MOST_VALUES:
        message = f"more than {MOST_VALUES:,} values, with aliases (*) written out; use fewer aliases"
        yield node.start_mark.line + 1, f"{_of(path)}{message}"
    return size, depth


def _parts(node: yaml.Node, path: str) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the nodes inside a list or section with their dotted paths."""
    if isinstance(node, yaml.SequenceNode):
        yield from ((path, item) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            merged = key.tag == f"{STANDARD_TAG}merge" or not isinstance(key, yaml.ScalarNode)
            yield path if merged else f"{_of(path, '.')}{key.value}", value


def _problems(node: yaml.Node, path: str, seen: set[int]) -> Iterator[tuple[int, str]]:
    """Yield line and words of what does not say what it seems to say. path: dotted, of the node. seen: nodes done."""
    if id(node) in seen:
        return
    seen.add(id(node))
    message = _wrong_kind(node) or (isinstance(node, yaml.ScalarNode) and _other_than_written(node))
    if message:
        yield node.start_mark.line + 1, f"{_of(path)}{message}"
    if isinstance(node, yaml.MappingNode):
        yield from _wrong_keys(node, path)
    for name, part in _parts(node, path):
        yield from _problems(part, name, seen)


def _wrong_keys(node: yaml.MappingNode, path: str) -> Iterator[tuple[int, str]]:
    """Yield line and words of keys that are no text or are there twice, and of what cannot be merged."""
    first: dict[str, int] = {}
    for key, value in node.value:
        at = key.start_mark.line + 1
        if key.tag == f"{STANDARD_TAG}merge":
            parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
            if not all(isinstance(part, yaml.MappingNode) for part in parts):
                yield at, f"{_of(path)}<< takes a section, or a list of sections; name one by its alias, like <<: *base"
        elif not isinstance(key, yaml.ScalarNode):
            yield at, f"{_of(path)}a key must be text, not a list or section; look for a brace too many"
        elif key.tag.removeprefix(STANDARD_TAG) not in ("str", "int", "float"):
            yield at, f"{_of(path)}the key {key.value} is not text for YAML; put it in quotes"
        elif message := _wrong_kind(key):
            yield at, f"{_of(path)}a key: {message}"
        elif key.value in first:
            yield at, f"{_of(path, '.')}{key.value} is there twice (first in line {first[key.value]}); remove one"
        else:
            first[key.value] = at


def _of(path: str, ending: str = ": ") -> str:
    return f"{path}{ending}" if path else ""


def _wrong_kind(node: yaml.Node) -> str:
    """Return what is to be said of a node that is not of the kind it claims to be, or of no kind that is used; or nothing."""
    kind, single = node.tag.removeprefix(STANDARD_TAG), isinstance(node, yaml.ScalarNode)
    if single and kind in ("value", "merge"):
        return f"{node.value} means nothing here; put it in quotes"
    kinds = KINDS if single else {"map"} if isinstance(node, yaml.MappingNode) else {"seq"}
    if kind not in kinds or not node.tag.startswith(STANDARD_TAG):
        shown = node.tag.replace(STANDARD_TAG, "!!")
        return f"{shown} means nothing here; put text that begins with ! in quotes"
    if not single:
        return ""
    found = NO_TEXT.search(node.value)
    if found:
        return f"the character {ord(found[0]):#x} is no text; remove it, or write the character itself"
    if kind != "timestamp":
        try:
            yaml.constructor.SafeConstructor().construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, OverflowError):
            return (
                f"{node.value:.40} is no {KINDS[kind]}, though YAML takes it for one; correct it, or put text in quotes"
            )
    return ""


def _other_than_written(node: yaml.ScalarNode) -> str | None:
    """Return what is to be said of a value that YAML 1.1 takes for another one than most people read, or None."""
    text, kind = node.value, node.tag.removeprefix(STANDARD_TAG)
    if kind in ("int", "float") and ":" in text:
        number = yaml.safe_load(text)
        return f"{text} is the number {number:g} for YAML (base 60); write a plain number, or text in quotes"
    if kind == "int" and re.fullmatch(r"[-+]?0[0-9_]+", text):
        plain = text.replace("_", "").lstrip("-+0") or "0"
        sign = "-" if text.startswith("-") else ""
        return f"{text} is the number {yaml.safe_load(text)} for YAML (base 8); write {sign}{plain}, or text in quotes"
    if kind == "timestamp":
        return f"{text} is a date for YAML; put it in quotes"
    return None
