"""Where a structure comes from: file, frame and the user's own names, so that its label can be traced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.files import canonical_json
from quarry.properties import PROPERTIES
from quarry.structures.state_names import meaning_in_plural

if TYPE_CHECKING:
    from ase import Atoms

    from quarry.structures.tables import Table

LONGEST = 1000
"""Characters of a value (as JSON) beyond which it is data and no name."""
PREFIX = "source_"
OURS = frozenset(
    {"structure_id", "role", "iteration", "features", "key", "structures", "predicted_s"}
    | {"source_file", "source_frame"}
    | {entry.key for entry in PROPERTIES.values()}
    | {entry.reference for entry in PROPERTIES.values() if entry.ase}
    | {"Lattice", "Properties", "pbc", "species", "pos"}
)
"""Names in ``info`` of the frames that Quarry writes."""
OF_LABELS = frozenset(
    {
        "energy",
        "energies",
        "force",
        "forces",
        "stress",
        "virial",
        "virials",
        "dipole",
        "polarizability",
        "magmom",
        "magmoms",
    }
    | {"charge", "charges", "spin", "multiplicity", "mult", "homo", "lumo", "gap", "hessian"}
)
"""Words in names of what may be another label: somebody who trains on the data set must not find it under that name."""
_NUMBER_LIKE = re.compile(r'(?:^|\s)"?([^\s"=]+)"?\s*=\s*"?(0\d+|\d+[eE]\d+)"?(?=\s|$)')
"""Names of digits, which ASE reads as numbers."""


@dataclass(frozen=True)
class Source:
    """Where a structure was read. file: as the configuration names it. frame: its number there, from 0. info: the user's own
    names and values as JSON; empty: none.
    """

    file: str
    frame: int
    info: str = ""

    def values(self) -> dict[str, Any]:
        """Return the user's own names and values."""
        return json.loads(self.info) if self.info else {}

    def exported(self) -> dict[str, Any]:
        """Return what stands in ``info`` of a frame of ``dataset.extxyz``: what has a name of ours, or of what may be another
        label, with ``source_`` before it.
        """
        found: dict[str, Any] = {}
        for name, value in self.values().items():
            words = set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))
            shown = PREFIX + name if name in OURS or words & OF_LABELS else name
            while shown in found:
                shown = PREFIX + shown
            found[shown] = value
        return {**found, "source_file": self.file, "source_frame": self.frame}


def info_of_frames(frames: Sequence[Atoms], comments: Sequence[str]) -> Iterator[str]:
    """Yield the user's own names and values of frames that ASE has read, as JSON.

    comments: the comment lines of the frames, where the file is XYZ. Names of digits alone, or of digits and one e, are kept
    letter by letter.
    """
    infos: Sequence[Mapping[str, Any]] = [atoms.info for atoms in frames]
    texts: list[dict[str, str]] = [{} for _ in frames]
    if any(isinstance(value, int | float | np.number) for info in infos[:1] for value in info.values()):
        texts = [dict(_NUMBER_LIKE.findall(comment)) for comment in comments] or texts
    for info, text in zip(infos, texts, strict=True):
        yield _as_json({**info, **{name: value for name, value in text.items() if name in info}})


def info_of_rows(table: Table, rows: NDArray[np.int64], used: Sequence[str], count: int) -> list[str]:
    """Return the names that rows of a table have, as JSON: columns of texts or whole numbers.

    rows: which of the table's rows. used: columns that are geometries or features. count: how many rows the table has.
    """
    columns = {}
    for name, (shape, kind) in table.shapes.items():
        short = name.rpartition("/")[2]
        if name not in used and shape == (count,) and kind in "SUOiu" and not _says_state(short):
            values = table.get(name)
            assert values is not None
            columns[name] = values[rows].tolist()
    if not columns:
        return [""] * len(rows)
    return [_as_json(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def numbers_in_file(index: str, count: int) -> list[int] | None:
    """Return the numbers in the file, from 0, of frames that were read by ASE's index; None where it counts from the end."""
    from ase.io.formats import string2index

    try:
        chosen: Any = string2index(index or ":")
    except ValueError:
        return None
    if isinstance(chosen, int):
        return [chosen] if chosen >= 0 else None
    if not isinstance(chosen, slice):
        return None
    start, step = chosen.start or 0, chosen.step or 1
    return None if start < 0 or step < 0 else list(range(start, start + step * count, step))


def write_sources(handle: h5py.Group, sources: Sequence[Source | None]) -> None:
    """Write the group ``sources``, nothing where no structure comes from a file.

    files: names of files. file: shape (n,), which of them; -1: none. frame: shape (n,). info: JSON, shape (n,), where there is
    any.
    """
    if not any(source is not None for source in sources):
        return
    files = sorted({source.file for source in sources if source is not None})
    places = {name: place for place, name in enumerate(files)}
    group = handle.create_group("sources")
    group.create_dataset("files", data=files, dtype=h5py.string_dtype())
    group.create_dataset("file", data=np.array([-1 if s is None else places[s.file] for s in sources], dtype=np.int32))
    group.create_dataset("frame", data=np.array([-1 if s is None else s.frame for s in sources], dtype=np.int64))
    info = ["" if source is None else source.info for source in sources]
    if any(info):
        group.create_dataset("info", data=info, dtype=h5py.string_dtype())


def read_sources(handle: h5py.Group, rows: NDArray[np.int64]) -> list[Source | None]:
    """Return where the structures at rows come from; None for every one where there is no group ``sources``."""
    if "sources" not in handle:
        return [None] * len(rows)
    group = handle["sources"]
    names = [name.decode() for name in group["files"][()]]
    info = _texts_at(group["info"], rows) if "info" in group else [""] * len(rows)
    files, frames = group["file"][()][rows].tolist(), group["frame"][()][rows].tolist()
    return [
        None if file < 0 else Source(names[file], frame, text)
        for file, frame, text in zip(files, frames, info, strict=True)
    ]


def _texts_at(texts: h5py.Dataset, rows: NDArray[np.int64]) -> list[str]:
    """Return texts one by one where few are asked for: all of them take a second in a large pool."""
    found = [texts[row] for row in rows.tolist()] if 50 * len(rows) < len(texts) else texts[()][rows].tolist()
    return [text.decode() for text in found]


def _says_state(name: str) -> bool:
    meaning = meaning_in_plural(name)
    return meaning is not None and meaning.known


def _as_json(info: Mapping[str, Any]) -> str:
    """Return what of an ``info`` are names and short values, without charge and spin (the structure has them)."""
    kept = {}
    for name, value in info.items():
        if _says_state(str(name)):
            continue
        plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        if isinstance(plain, bytes):
            plain = plain.decode(errors="replace")
        try:
            text = canonical_json(plain)
        except (TypeError, ValueError):
            continue
        if plain is not None and not isinstance(plain, dict) and len(text) <= LONGEST:
            kept[str(name)] = plain
    return canonical_json(kept) if kept else ""
