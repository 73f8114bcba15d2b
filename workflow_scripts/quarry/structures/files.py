"""Structure sets in HDF5, job inputs in extended XYZ, and reading of the user's files through ASE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.structures.conventions import resolve
from quarry.structures.reading import check_geometry, comments_of, read_frames, require_file
from quarry.structures.sources import Source, info_of_frames, info_of_rows, numbers_in_file, read_sources, write_sources
from quarry.structures.stated import PLAIN, StateKeys, stated_by_frames
from quarry.structures.structure import ID_LENGTH, Structure, StructureSet, rows_of
from quarry.structures.tables import ARRAY_TABLES, Table, structures_of_table

FIELDS = ("offsets", "numbers", "positions", "cells", "pbc", "charges", "multiplicities")


LENGTHS = ("positions", "cells")
"""Fields that have a unit."""


def write_structure_group(group: h5py.Group, structures: StructureSet) -> None:
    """Write a structure set into an HDF5 group (ids as fixed-length ASCII, the rest as arrays)."""
    group.create_dataset("ids", data=structures.ids.astype(f"S{ID_LENGTH}"))
    for field in FIELDS:
        found = group.create_dataset(field, data=getattr(structures, field))
        if field in LENGTHS:
            found.attrs["unit"] = "Angstrom"
    if structures.features is not None:
        group.create_dataset("features", data=structures.features)


def read_structure_group(group: h5py.Group) -> StructureSet:
    """Read what ``write_structure_group`` wrote."""
    ids = group["ids"][()].astype(f"<U{ID_LENGTH}")
    features = group["features"][()] if "features" in group else None
    return StructureSet(ids=ids, features=features, **{field: group[field][()] for field in FIELDS})


def write_pool(
    path: str | Path,
    structures: StructureSet,
    attributes: dict[str, Any] | None = None,
    groups: NDArray[np.int64] | None = None,
    sources: Sequence[Source | None] = (),
) -> None:
    """Write ``pool/structures.h5``. The same structures give the same bytes.

    groups: shape (n,), row of the first structure that each is a copy of, its own row where it is none. sources: n of them,
    where structures come from files.
    """
    with new_hdf5(path) as handle:
        handle.attrs.update(attributes or {})
        write_structure_group(handle, structures)
        write_copies(handle, structures.ids, groups)
        write_sources(handle, sources)


def write_copies(handle: h5py.File, ids: NDArray[np.str_], groups: NDArray[np.int64] | None) -> None:
    """Write the data set ``copy_of``, the id of the first structure of each one's kind; nothing where there are no copies."""
    if groups is not None and not np.array_equal(groups, np.arange(len(ids))):
        handle.create_dataset("copy_of", data=ids[groups].astype(f"S{ID_LENGTH}"))


def read_copies(path: str | Path) -> NDArray[np.int64] | None:
    """Return the row of the first structure of each one's kind, shape (n,), of a pool or its features; None: no copies."""
    with h5py.File(path, "r") as handle:
        if "copy_of" not in handle:
            return None
        ids, first = (handle[name][()].astype(f"<U{ID_LENGTH}") for name in ("ids", "copy_of"))
    return rows_of(ids, first)


def read_pool(path: str | Path) -> StructureSet:
    """Read ``pool/structures.h5``."""
    with h5py.File(path, "r") as handle:
        return read_structure_group(handle)


def read_pool_sources(path: str | Path, rows: NDArray[np.int64]) -> list[Source | None]:
    """Return where structures of a pool at rows of shape (m,) come from; None: not from a file."""
    with h5py.File(path, "r") as handle:
        return read_sources(handle, rows)


def read_pool_ids(path: str | Path) -> np.ndarray:
    """Return only the structure ids of a pool, n strings."""
    with h5py.File(path, "r") as handle:
        return handle["ids"][()].astype(f"<U{ID_LENGTH}")


@dataclass(frozen=True, eq=False)
class JobInputEntry:
    """One structure of a job's input file.

    key: the label's name within the campaign (``BatchRow.key``); the structure's id when not given. predicted_s: wall
    time that its label will take, where there is a model of the cost.
    """

    structure: Structure
    key: str = ""
    predicted_s: float | None = None

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.structure.structure_id)


def job_input_text(entries: Iterable[JobInputEntry], size_bytes: int = 0) -> str:
    """Return structures as extended XYZ with positions to the 1e-6 Angstrom that their identity has, and a row's features.

    Every comment line says how many structures the file has, so that a file cut between two of them is noticed.
    size_bytes: the first comment line is filled with blanks to this size of the text, where it is shorter.
    Written here rather than through ``ase.io.write`` because 10,000 of them are written in one local job; ASE reads
    them back (tested).
    """
    from ase.data import chemical_symbols

    items = list(entries)
    lines = []
    for entry in items:
        structure = entry.structure
        fields = ["Properties=species:S:1:pos:R:3"]
        if structure.cell is not None:
            fields.append('Lattice="' + " ".join(f"{x:.6f}" for x in structure.cell.ravel()) + '"')
        fields.append('pbc="' + " ".join("T" if p else "F" for p in structure.pbc) + '"')
        fields.append(f"charge={structure.charge} multiplicity={structure.multiplicity}")
        # The letter before an id: one of digits alone would be read as a number.
        fields.append(f"structure_id=s{structure.structure_id} key=s{entry.key} structures={len(items)}")
        if structure.features is not None:
            fields.append('features="' + " ".join(repr(float(x)) for x in structure.features) + '"')
        if entry.predicted_s is not None:
            fields.append(f"predicted_s={entry.predicted_s:.3f}")
        lines += [str(len(structure)), " ".join(fields)]
        for number, (x, y, z) in zip(structure.numbers, structure.positions, strict=True):
            lines.append(f"{chemical_symbols[number]:<2} {x:15.6f} {y:15.6f} {z:15.6f}")
    if items:
        lines[1] += " " * max(0, size_bytes - sum(len(line) + 1 for line in lines))
    return "\n".join([*lines, ""])


def write_job_input(path: str | Path, entries: Iterable[JobInputEntry], size_bytes: int = 0) -> None:
    """Write the input file of one label job (see ``job_input_text``).

    Not synced to disk: thousands are written at once, and a start of the campaign finds and replaces damaged ones.
    """
    Path(path).write_text(job_input_text(entries, size_bytes))


def read_job_input(path: str | Path) -> list[JobInputEntry]:
    """Read the input file of one label job and check each structure against the id written with it.

    Not through ``ase.io``, whose import costs more than some labels (ASE reads the format too, tested).
    Raises QuarryError if the file is damaged: a label of another geometry would be a wrong label.
    """
    try:
        lines = Path(path).read_text().splitlines()
        entries, announced, start = [], set(), 0
        while start < len(lines):
            atoms, fields = int(lines[start]), _fields(lines[start + 1])
            structure = _parse_job_input_block(fields, lines[start + 2 : start + 2 + atoms], atoms)
            predicted = fields.get("predicted_s")
            entries.append(
                JobInputEntry(
                    structure, fields["key"].removeprefix("s"), None if predicted is None else float(predicted)
                )
            )
            announced.add(int(fields["structures"]))
            start += 2 + atoms
        if announced != {len(entries)}:
            raise ValueError(
                f"{len(entries)} structures, but it should hold {', '.join(map(str, announced)) or 'some'}"
            )
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise QuarryError(f"{path}: this job input is damaged ({error}); remove it and start again") from error
    return entries


def _parse_job_input_block(fields: dict[str, str], atom_lines: list[str], atoms: int) -> Structure:
    from ase.data import atomic_numbers

    table = [line.split() for line in atom_lines]
    if len(table) != atoms:
        raise ValueError(f"{atoms} atoms announced, {len(table)} there")
    lattice, features = fields.get("Lattice"), fields.get("features")
    if features is not None:
        structure = Structure.of_features(np.array(features.split(), dtype=float))
    else:
        structure = Structure.create(
            [atomic_numbers[row[0]] for row in table],
            np.array([[float(x) for x in row[1:4]] for row in table]),
            charge=int(fields["charge"]),
            multiplicity=int(fields["multiplicity"]),
            cell=np.array(lattice.split(), dtype=float).reshape(3, 3) if lattice else None,
            pbc=[flag == "T" for flag in fields["pbc"].split()],
        )
    if "s" + structure.structure_id != fields["structure_id"]:
        raise ValueError(f"the geometry does not have the identity {fields['structure_id'][1:]} written with it")
    if not fields["key"].startswith("s" + structure.structure_id):
        raise ValueError(f"the key {fields['key'][1:]} is another structure's")
    return structure


def _fields(comment: str) -> dict[str, str]:
    return {key: quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', comment)}


class FileSource(NamedTuple):
    """A file and what to take of it. frames: ASE's index. geometry: names of numbers, positions and offsets in a table."""

    path: Path
    frames: str = ":"
    geometry: tuple[str, str, str] = ("Z", "R", "offsets")


class Found(NamedTuple):
    """A structure of a file. frame: its number there, from 0; None: not known. info: as of ``structures.sources.Source``."""

    structure: Structure
    frame: int | None
    info: str


def read_files(
    files: Iterable[FileSource | tuple[Path, str]],
    charge: int,
    multiplicity: int,
    key: str = "pool.files",
    keys: StateKeys = PLAIN,
) -> StructureSet:
    """Return the structures of files in one set, duplicates kept. files: or paths with ASE's index of frames.

    Other arguments and errors as of ``find_in_file``.
    """
    sources = [FileSource(*entry) for entry in files]
    found = [item for source in sources for item in find_in_file(source, charge, multiplicity, key, keys)]
    return StructureSet.from_structures(item.structure for item in found)


def read_molecule(
    path: Path, key: str, charge: int = 0, multiplicity: int = 1, keys: StateKeys = PLAIN, index: str = ":"
) -> Structure:
    """Return the one structure of a file; index: "-1" for the last one of several.

    Other arguments and errors as of ``find_in_file``; QuarryError as well if the file does not hold exactly one.
    """
    structures = read_files([(path, index)], charge, multiplicity, key, keys)
    if len(structures) != 1:
        raise QuarryError(f"{key}: {path}: expected one structure, found {len(structures)}")
    return structures[0]


def find_in_file(
    source: FileSource, charge: int, multiplicity: int, key: str = "pool.files", keys: StateKeys = PLAIN
) -> list[Found]:
    """Read structures of a file, duplicates kept: npz and HDF5 tables, everything else with ``ase.io.read``.

    charge, multiplicity: for structures whose file says none (see ``structures.conventions``). key: of the configuration, for
    messages. keys: what the configuration says about charge and multiplicity in files.
    Raises QuarryError for a file that is missing, unreadable or empty, or not clear about charge and multiplicity.
    """
    path, index, geometry = source
    if path.suffix.lower() in ARRAY_TABLES:
        table = Table(path, key)
        rows, structures = structures_of_table(table, geometry, index, charge, multiplicity, key, keys)
        shape, _ = table.shapes[geometry[1]]
        count = shape[0] if len(shape) == 3 else table.shapes[geometry[2]][0][0] - 1
        names = info_of_rows(table, rows, geometry, count)
        return [Found(*item) for item in zip(structures, rows.tolist(), names, strict=True)]
    require_file(path, key)
    frames = read_frames(path, index, key)
    if not frames or not all(len(atoms) for atoms in frames):
        empty = next((f": frame {n} of {len(frames)}" for n, atoms in enumerate(frames, 1) if not len(atoms)), "")
        raise QuarryError(f"{key}: {path} (index '{index}') holds no structure or one without atoms{empty}")
    comments = comments_of(path, index, len(frames))
    try:
        charges, multiplicities = resolve(stated_by_frames(frames, keys, comments), charge, multiplicity, keys)
    except ValueError as error:
        raise QuarryError(f"{key}: {path}: {error}") from error
    structures = []
    for number, atoms in enumerate(frames):
        try:
            check_geometry(atoms)
            structures.append(Structure.of_atoms(atoms, int(charges[number]), int(multiplicities[number])))
        except ValueError as error:
            raise QuarryError(
                f"{key}: {path} (index '{index}'), frame {number + 1} of {len(frames)}: {error}; correct the file"
            ) from error
    numbers: Sequence[int | None] = numbers_in_file(index, len(frames)) or [None] * len(frames)
    return [Found(*item) for item in zip(structures, numbers, info_of_frames(frames, comments), strict=True)]
