"""Reading the user's files through ASE, and saying what is wrong with extended XYZ: the frame, the line and the remedy."""

from __future__ import annotations

import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quarry.errors import QuarryError
from quarry.structures.databases import is_database, read_database
from quarry.structures.molfiles import is_molfile, read_molecules
from quarry.structures.program_files import gaussian_input_for_ase, is_gaussian_input, second_frame, state_in_text
from quarry.written_numbers import is_number

if TYPE_CHECKING:
    from ase import Atoms

XYZ_FORMATS = ("xyz", "extxyz")
"""ASE's names of the formats whose text is looked at here."""
DEFAULT_COLUMNS = "species:S:1:pos:R:3"
PROPERTIES = re.compile(r'\bProperties\s*=\s*"?([\w:.-]+)', re.IGNORECASE)
LATTICE, PBC = (re.compile(rf'(?:^|\s)"?{name}"?\s*=', re.IGNORECASE) for name in ("Lattice", "pbc"))
DAMAGED = (EOFError, zlib.error, lzma.LZMAError)
"""What is raised for a compressed file that is cut off or damaged (beside OSError)."""
FORTRAN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[dD][+-]?\d+")
ISOTOPES = {"D": "deuterium", "T": "tritium"}


class _Line(NamedTuple):
    """A line of a file with its number, from 1."""

    number: int
    text: str


def read_frames(path: Path, index: str, key: str) -> list[Atoms]:
    """Return the frames of a file that ASE reads.

    index: ASE's, of the frames; an @ in the file's name is a part of the name. key: of the configuration, for messages.
    Raises QuarryError for a file that cannot be read, or of which ASE would read a part alone.
    """
    from ase.io import read

    try:
        if is_database(path):
            return read_database(path, index)
        if is_molfile(path):
            return chosen_of(read_molecules(path), index)
        # ASE would look for the lines without end, or leave out frames.
        if fault := more_atoms_than_lines(path) or second_frame(path):
            raise ValueError(fault)
        if is_gaussian_input(path):
            frames = read(StringIO(gaussian_input_for_ase(path)), index=index or ":", format="gaussian-in")
        else:
            frames = read(path, index=index or ":", do_not_split_by_at_sign=True)
    except Exception as error:
        who = "cannot" if is_molfile(path) else "ASE cannot"
        raise QuarryError(
            f"{key}: {who} read {path} (index '{index}'): {first_fault(path) or _reason(error, path)}"
        ) from error
    empty_line = _empty_line_between(path)
    if empty_line:
        raise QuarryError(
            f"{key}: {path}, line {empty_line}: an empty line between two frames, after which ASE reads nothing; remove it"
        )
    frames = frames if isinstance(frames, list) else [frames]
    for atoms in frames if (state := state_in_text(path)) else ():
        atoms.info = {**state, **atoms.info}
    return frames


def require_file(path: Path, key: str) -> None:
    """Raise QuarryError, naming the configuration's key, if a path is no file, with what it is."""
    if path.is_file():
        return
    if path.is_dir():
        raise QuarryError(f"{key}: {path} is a directory; give a file in it")
    if path.exists():
        raise QuarryError(f"{key}: {path} is a device or pipe and no file; write the structures to a file")
    raise QuarryError(f"{key}: {path} does not exist; give a path relative to the campaign file")


def _reason(error: Exception, path: Path) -> str:
    """Return in words why ASE did not read a file; its own words where they are a sentence."""
    from ase.io.formats import UnknownFileTypeError

    text = " ".join(str(error).split())
    if isinstance(error, UnknownFileTypeError):
        return f"ASE does not know files that end in '{path.suffix}'; give extended XYZ, or the ending that ASE knows"
    if isinstance(error, DAMAGED):
        return f"it is cut off or damaged ({text or 'it ends too early'}); write or copy it again"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text; give the ending that belongs to its format"
    if isinstance(error, IndexError | StopIteration) and not is_xyz(path):
        return "it is empty, cut off or has no such structure; correct the file or the index"
    if " " in text and not isinstance(error, AssertionError | KeyError | AttributeError):
        return text
    more = f" ({type(error).__name__}{': ' + text if text else ''})"
    return (
        f"it does not follow the format that ASE takes it for, by its ending '{path.suffix}' or its first lines{more}"
    )


def check_geometry(atoms: Atoms) -> None:
    """Raise ValueError for a frame with an atom of no element, or that repeats in a direction without a cell vector."""
    ghosts = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers > 118))
    if len(ghosts):
        raise ValueError(f"atom {ghosts[0] + 1} ('{atoms.symbols[int(ghosts[0])]}') is of no element")
    vectors = atoms.cell.array[atoms.pbc]
    if len(vectors) and np.linalg.matrix_rank(vectors) < len(vectors):
        raise ValueError("it is periodic (pbc), but not all periodic directions have a cell vector")


def is_xyz(path: Path) -> bool:
    """Return whether ASE takes a file for XYZ or extended XYZ."""
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        return filetype(str(path)) in XYZ_FORMATS
    except (OSError, UnknownFileTypeError, UnicodeDecodeError, *DAMAGED):
        return path.suffix in (".xyz", ".extxyz")


def _lines(path: Path) -> Iterator[_Line]:
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rt") as handle:
        for number, text in enumerate(handle, 1):
            yield _Line(number, text.rstrip("\r\n"))


def comment_lines(path: Path) -> list[str]:
    """Return the second line of every frame of a file that ASE has read; nothing where it is no XYZ."""
    if not is_xyz(path):
        return []
    return [comment.text for _, comment in _frames(_lines(path)) if comment is not None]


def chosen_of(items: list[Any], index: str) -> list[Any]:
    """Return those of a list that ASE's index takes. Raises ValueError or IndexError for an index that does not fit."""
    from ase.io.formats import string2index

    chosen: Any = string2index(index or ":")
    found = items[chosen]
    return found if isinstance(found, list) else [found]


def comments_of(path: Path, index: str, count: int) -> list[str]:
    """Return the comment lines of the frames that ASE has read by an index; nothing where it is no XYZ or not clear.

    count: how many frames ASE has read.
    """
    try:
        found = chosen_of(comment_lines(path), index)
    except (ValueError, TypeError, IndexError):
        return []
    return found if len(found) == count else []


def more_atoms_than_lines(path: Path) -> str:
    """Return what is wrong with an XYZ file whose frame says more atoms than the file has lines; empty if there is none."""
    if not is_xyz(path):
        return ""
    lines = 0

    def counted() -> Iterator[_Line]:
        nonlocal lines
        for line in _lines(path):
            lines = line.number
            yield line

    most = max((_whole(header.text) or 0 for header, _ in _frames(counted())), default=0)
    return f"a frame says {most} atoms, but the file has {lines} lines" if most > lines else ""


def _frames(lines: Iterator[_Line]) -> Iterator[tuple[_Line, _Line | None]]:
    """Yield the first line of every frame with its comment line; None, at the end, where no frame begins."""
    for header in lines:
        if header.text.lstrip().startswith("VEC"):
            continue
        atoms = _whole(header.text)
        comment = None if atoms is None else next(lines, None)
        yield header, comment
        if atoms is None or comment is None:
            return
        for _ in zip(range(atoms), lines, strict=False):
            pass


def texts_of(path: Path, name: str) -> list[str | None]:
    """Return what the comment line of every frame gives as ``name``, letter by letter; nothing where it is no XYZ.

    ASE makes numbers of what looks like one: 0012 becomes 12, and 7231e78 a float.
    """
    quoted = re.escape(name)
    pattern = re.compile(rf"""(?:^|\s)"?{quoted}"?\s*=\s*(?:"([^"]*)"|'([^']*)'|(\S+))""")
    matches = [pattern.search(comment) for comment in comment_lines(path)]
    return [next((text for text in match.groups() if text is not None), None) if match else None for match in matches]


def lattices_without_pbc(path: Path) -> int:
    """Return how many frames have a Lattice and no pbc, which ASE reads as periodic in all directions."""
    return sum(bool(LATTICE.search(comment) and not PBC.search(comment)) for comment in comment_lines(path))


def names_in(frames: Sequence[Atoms]) -> str:
    """Return a clause about the names under which frames hold something, and how many frames have each."""
    counts: Counter[str] = Counter()
    bare = 0
    for atoms in frames:
        results = {} if atoms.calc is None else atoms.calc.results
        info = {str(name): value for name, value in atoms.info.items()}
        numbers = {name for name, value in info.items() if value is True and is_number(name.partition(";")[0])}
        bare += bool(numbers)
        counts.update(set(results) | (set(info) - numbers) | (set(atoms.arrays) - {"numbers", "positions"}))
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = "it has " + ", ".join(f"'{name}' ({count} of {len(frames)})" for name, count in frequent[:12])
    more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
    if bare:
        hint = (
            f"the comment lines of {bare} of {len(frames)} frames are bare numbers, as in files of sGDML and MD22; if these are "
            f"energies, give them a name by sed -E 's/^ *(-?[0-9]+[.][0-9]+) *$/energy=\\1/' "
            "(and labeling.units: theirs are kcal/mol)"
        )
        return f"{words}{more}; {hint}" if counts else hint
    return words + more if counts else "it has nothing beside the geometries"


def _empty_line_between(path: Path) -> int:
    """Return the number of an empty line that stands between two frames, or 0."""
    if not is_xyz(path):
        return 0
    lines = _lines(path)
    empty = next((header.number for header, _ in _frames(lines) if not header.text.strip()), 0)
    return empty if any(line.text.strip() for line in lines) else 0


def first_fault(path: Path) -> str:
    """Return the first thing that is wrong in an XYZ file, with frame and line, and how to correct it; empty if nothing is
    found.
    """
    if not is_xyz(path):
        return ""
    try:
        lines = list(_lines(path))
    except UnicodeDecodeError:
        return "it is no text"
    except (OSError, *DAMAGED) as error:
        return f"it is cut off or damaged ({' '.join(str(error).split())}); write or copy it again"
    while lines and not lines[-1].text.strip():
        lines.pop()
    if not lines:
        return "it is empty"
    if lines[0].text.startswith("\ufeff"):
        return "line 1: a byte order mark before the number of atoms; save the file as UTF-8 without it"
    start, frame = 0, 0
    while start < len(lines):
        frame += 1
        fault, start = _fault_of_frame(lines, start, frame)
        if fault:
            return fault
    return ""


def _fault_of_frame(lines: list[_Line], start: int, frame: int) -> tuple[str, int]:
    """Return what is wrong with the frame that begins at a line, and where the next one begins."""
    header = lines[start]
    where = f"frame {frame}, line {header.number}"
    atoms = _whole(header.text)
    if atoms is None:
        words = header.text.split()
        if frame > 1 and len(words) > 1 and is_number(words[-1]):
            more = sum(1 for _ in takewhile(lambda line: _whole(line.text) is None, lines[start:]))
            first = f"line {header.number} is the first of {more} too many"
            return f"frame {frame - 1} has more atoms than its first line says; {first}", 0
        return f"{where}: '{_cut(header.text)}' stands where the number of atoms is expected", 0
    if atoms < 1:
        return f"{where}: a frame with no atoms; remove it", 0
    comment = lines[start + 1] if start + 1 < len(lines) else _Line(header.number + 1, "")
    columns = _columns(comment.text)
    if isinstance(columns, str):
        return f"frame {frame}, line {comment.number}: {columns}", 0
    for place in range(atoms):
        here = start + 2 + place
        if here >= len(lines) or _begins_frame(lines, here, columns):
            end = lines[here].number if here < len(lines) else lines[-1].number + 1
            follows = "the next frame begins" if here < len(lines) else "the file ends"
            if place == 0:
                return f"frame {frame} (line {header.number}) has no coordinates: {follows} at line {end}", 0
            return (
                f"frame {frame} (line {header.number}) says {atoms} atoms, but {follows} after {place}, at line {end}",
                0,
            )
        fault = _fault_of_atom(lines[here].text, columns)
        if fault:
            return f"frame {frame}, line {lines[here].number}: {fault}", 0
    return "", start + 2 + atoms


def _begins_frame(lines: list[_Line], here: int, columns: list[tuple[str, str]]) -> bool:
    """Return whether a line where an atom is expected is the first of another frame."""
    return _whole(lines[here].text) is not None and len(columns) > 1


def _columns(comment: str) -> list[tuple[str, str]] | str:
    """Return name and type (S, R, I, L) of every column of the atom lines, or what is wrong with their description."""
    match = PROPERTIES.search(comment)
    words = (match[1] if match else DEFAULT_COLUMNS).split(":")
    columns = []
    for name, kind, count in zip(words[::3], words[1::3], words[2::3], strict=False):
        if kind not in "SRIL" or _whole(count) is None:
            return f"Properties={match[1] if match else ''} is no description of columns (name:type:number ...)"
        columns += [(name, kind)] * int(count)
    if len(words) % 3 or "pos" not in words[::3]:
        return f"Properties={match[1] if match else ''} does not describe positions (pos:R:3)"
    return columns


def _fault_of_atom(line: str, columns: list[tuple[str, str]]) -> str:
    words = line.split()
    if len(words) < len(columns):
        return f"{len(words)} columns where {len(columns)} are expected ('{_cut(line)}')"
    for word, (name, kind) in zip(words, columns, strict=False):
        if name == "species" and (fault := _fault_of_symbol(word)):
            return fault
        if kind in "RI" and not is_number(word):
            return _fault_of_number(word)
    return ""


def _fault_of_symbol(word: str) -> str:
    from ase.data import atomic_numbers, chemical_symbols

    if word.capitalize() in atomic_numbers:
        return ""
    if word in ISOTOPES:
        return f"'{word}' is no element; write H for {ISOTOPES[word]}, which has the same electrons"
    number = _whole(word)
    if number is not None and 0 < number < len(chemical_symbols):
        return f"'{word}' is an atomic number in place of a symbol; write {chemical_symbols[number]}"
    match = re.match(r"[A-Za-z]{1,2}(?=\d|_|-|$)", word)
    if match and match[0].capitalize() in atomic_numbers:
        return f"'{word}' is no element; write {match[0].capitalize()}"
    return f"'{word}' is no element; write its symbol"


def _fault_of_number(word: str) -> str:
    if set(word) == {"*"}:
        return (
            f"'{word}' is a number that did not fit its field; write the file again with more digits before the point"
        )
    if FORTRAN.fullmatch(word):
        return f"'{word}' is a number of Fortran; write {re.sub('[dD]', 'E', word)}"
    if is_number(word.replace(",", ".")):
        return f"'{word}' has a decimal comma; write {word.replace(',', '.')}"
    return f"'{word}' is no number"


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."
