"""The campaign file as it is written: faults that reading it hides, or that end in a traceback, with their line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from quarry.errors import QuarryError

STANDARD_TAG = "tag:yaml.org,2002:"
ENDINGS = (".yaml", ".yml", ".json")
"""Endings of files that may be campaign files, for suggestions."""
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
    except ValueError:
        pass
    else:
        # The one thing that JSON allows and YAML does not; inside text they would be written \\t.
        text = text.replace("\t", " ")
    check_yaml(text, str(path))


def check_yaml(text: str, origin: str) -> None:
    """Raise QuarryError if a YAML text is no dictionary, breaks the syntax or does not say what it seems to say.

    origin: where the text comes from, for the message.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise QuarryError(_syntax(error, text, origin)) from error
    if node is None:
        raise QuarryError(f"{origin} is empty; config/README.md of the project lists the keys of a campaign file")
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise QuarryError(f"{origin} holds {kind}; a campaign file is keys and values, like name: ethanol")
    problem = next(_problems(node, "", set()), None)
    if problem is not None:
        line, words = problem
        raise QuarryError(f"{origin}, line {line}: {words}")


def _no_file(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        folder = path.parent
        others = sorted(p.name for p in folder.iterdir() if p.suffix in ENDINGS) if folder.is_dir() else []
        close = difflib.get_close_matches(path.name, others, n=1, cutoff=0.75)
        meant = f"did you mean {folder / close[0]}?" if close else f"it is looked for in {folder.absolute()}"
        return f"--configfile: {path} does not exist; {meant}"
    if isinstance(error, IsADirectoryError):
        return f"--configfile: {path} is a folder; name the campaign file in it"
    return f"--configfile: {path} cannot be read ({error.strerror}); mend its permissions, or name another file"


def _syntax(error: yaml.YAMLError, text: str, origin: str) -> str:
    """Return a fault of the syntax in one line: where it is, what the parser says, and what is mostly the matter."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        return f"{origin}, line {line}: the character {error.character:#x} is no text; is this a campaign file?"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"{origin}: this is not YAML ({' '.join(str(error).split())})"
    line = error.problem_mark.line + 1
    words, begun = str(error.problem), error.context_mark
    if begun is not None and begun.line + 1 != line:
        words += f", {error.context}, which begins in line {begun.line + 1}"
    for name, plain in PLAIN_WORDS.items():
        words = words.replace(name, plain)
    lines = text.splitlines()
    wrong = lines[line - 1] if line <= len(lines) else ""
    if "\t" in wrong[: error.problem_mark.column + 1]:
        hint = "indent with blanks, not with tabs"
    elif "mapping values are not allowed" in words:
        hint = "indent keys of one section alike, and put text with a colon in quotes"
    elif "cannot start any token" in words or "alias" in words or "anchor" in words:
        hint = "put this text in quotes"
    else:
        hint = "look for a missing bracket, quote, comma or colon here or above"
    return f"{origin}, line {line}: this is not YAML ({words}); {hint}"


def _problems(node: yaml.Node, path: str, seen: set[int]) -> Iterator[tuple[int, str]]:
    """Yield line and words of what does not say what it seems to say. path: dotted, of the node. seen: nodes done."""
    if id(node) in seen:
        return
    seen.add(id(node))
    line = node.start_mark.line + 1
    if not node.tag.startswith(STANDARD_TAG) or node.tag.startswith(f"{STANDARD_TAG}python/"):
        yield line, f"{_of(path)}{node.tag} means nothing here; put text that begins with ! in quotes"
    elif isinstance(node, yaml.ScalarNode):
        words = _other_than_written(node)
        if words:
            yield line, f"{_of(path)}{words}"
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _problems(item, path, seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            name = f"{path}.{key.value}" if path else str(key.value)
            if key.tag == f"{STANDARD_TAG}merge":
                name = path
            elif not isinstance(key, yaml.ScalarNode):
                yield at, f"{_of(path)}a key must be text, not a list or section; look for a brace too many"
                continue
            elif key.tag in (f"{STANDARD_TAG}bool", f"{STANDARD_TAG}null", f"{STANDARD_TAG}timestamp"):
                yield at, f"{_of(path)}the key {key.value} is not text for YAML; put it in quotes"
            elif key.value in first:
                yield at, f"{name} is there twice (first in line {first[key.value]}); remove one"
            else:
                first[key.value] = at
            yield from _problems(value, name, seen)


def _of(path: str) -> str:
    return f"{path}: " if path else ""


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
