"""What the comment lines of XYZ files say about charge and spin beside their entries: '0 3', 'charge 2 mult 1', a name twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarry.structures.state_names import LETTERS, is_known, meaning_in_plural, meaning_of
from quarry.structures.state_words import SPINS, whole_number

_ENTRY = re.compile(r"""(?:^|(?<=[\s,;]))"?([^\s"'=,;]+)"?\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|[^\s,;]+)""")
_SMALL = re.compile(r"[-+]?\d{1,2}")
_FILLING = frozenset({"of", "is", "a", "the", "="})
_PAIR = re.compile(r"([-+]?\d{1,2})(?:\s*[,;]\s*|\s+)\+?(\d{1,2})(?=$|[\s,;])(.*)")


class Comment(NamedTuple):
    """What a comment line says. wrong: names, and what is wrong with their entries (several values, no number). unread: charge
    or multiplicity, and the words that say it and are no entry.
    """

    wrong: dict[str, str]
    unread: dict[str, str]

    @staticmethod
    def of_frames(comments: Sequence[str], nuclei: NDArray[np.int64]) -> Iterator[tuple[int, Comment]]:
        """Yield row and comment of the frames whose comment line says something. nuclei: sum of atomic numbers, shape (n,)."""
        rests = [_ENTRY.sub(" ", text).strip() if text else "" for text in comments]
        pairs = [_pair_of(rest) for rest in rests]
        alone = all(
            pair is not None and pair[1] >= 1 and (protons - pair[0] - pair[1] + 1) % 2 == 0
            for pair, protons in zip(pairs, nuclei.tolist(), strict=True)
        )
        # Numbers that count the frames differ from frame to frame.
        repeated = len(set(pairs)) == 1 or 2 * len(set(pairs)) <= len(pairs)
        for row, (text, rest, pair) in enumerate(zip(comments, rests, pairs, strict=True)):
            unread = _in_words(rest)
            if alone and repeated and pair is not None:
                usual = {"charge": 0, "multiplicity": 1}
                unread |= {q: rest[:40] for (q, u), v in zip(usual.items(), pair, strict=True) if v != u}
            wrong = _twice(text) | _flags(text)
            if unread or wrong:
                yield row, Comment(wrong, unread)


def _pair_of(rest: str) -> tuple[int, int] | None:
    """Return charge and multiplicity of a line that begins with two small whole numbers and has no further one."""
    match = _PAIR.fullmatch(rest)
    if match is None:
        return None
    if any(_SMALL.fullmatch(word) for word in re.split(r"[\s,;]+", match[3])):
        return None
    return int(match[1]), int(match[2])


def _in_words(rest: str) -> dict[str, str]:
    """Return what words with a small whole number beside them say: 'charge: -2', '--uhf 2', '2 unpaired electrons'."""
    words = [word for word in re.split(r"[\s,;:=()|{}\[\]\"']+", rest) if word and word.lower() not in _FILLING]
    found: dict[str, str] = {}
    for word in words:
        if word.lower() in SPINS:
            found["multiplicity"] = word
    for first, second in pairwise(words):
        named = _SMALL.fullmatch(second) is not None
        name, number = (first, second) if named else (second, first)
        if not _SMALL.fullmatch(number) or _SMALL.fullmatch(name):
            continue
        # One letter before a number is anything, but for one with a colon.
        if name.lower() in LETTERS and not re.search(rf"(?<!\S){re.escape(name)}\s*:", rest):
            continue
        meaning = meaning_of(name)
        if meaning is None or meaning.per_electron or not (named or name.lower().startswith("unpaired")):
            continue
        if int(number) != meaning.usual:
            found.setdefault(meaning.quantity, f"{first} {second}")
    return found


def _flags(text: str) -> dict[str, str]:
    """Return known names with a letter T, of which ASE makes a truth: spin=T."""
    entries = [(name, value.strip("\"'")) for name, value in _ENTRY.findall(text)]
    return {
        name: f"{name} = {value}, which is no whole number"
        for name, value in entries
        if value.lower() in ("t", "true") and is_known(meaning_in_plural(name))
    }


def _twice(text: str) -> dict[str, str]:
    """Return names about charge and spin that have several values in a line, with a clause that says so."""
    values: dict[str, dict[str | float, str]] = {}
    for name, value in _ENTRY.findall(text):
        if meaning_in_plural(name) is not None:
            plain = value.strip("\"'")
            number = whole_number(plain)
            values.setdefault(name, {}).setdefault(plain if number is None else number, plain)
    return {
        name: " and ".join(f"{name} = {value}" for value in several.values()) + " in one comment line, which contradict"
        for name, several in values.items()
        if len(several) > 1
    }
