"""Named columns of npz, HDF5 and CSV files; geometries and rows of features in them; plain text files of numbers."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.csv_tables import read_rows, separator_fault
from quarry.errors import QuarryError, reason_of
from quarry.structures.conventions import resolve
from quarry.structures.reading import require_file
from quarry.structures.state_names import is_known, meaning_in_plural, short_name
from quarry.structures.stated import PLAIN, Part, Stated, StateKeys, concerns_state, stated_by_columns
from quarry.structures.structure import Structure
from quarry.written_numbers import is_number, number_of

ARRAY_TABLES = (".npz", ".h5", ".hdf5")
TABLES = (*ARRAY_TABLES, ".csv")
"""Endings of tables."""
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy and h5py raise for a file that is empty, cut off or of another kind."""


class Table:
    """A table; its columns are read when they are asked for. All methods raise QuarryError if the file cannot be read."""

    def __init__(self, path: Path, key: str) -> None:
        """key: of the configuration, for messages. Raises QuarryError for a file that is missing or of another kind."""
        self.path = path
        self.key = key
        self._suffix = path.suffix.lower()
        if self._suffix not in TABLES:
            raise QuarryError(f"{key}: {path} is no table; known are {', '.join(TABLES)}")
        require_file(path, key)

    @cached_property
    def names(self) -> list[str]:
        """The columns of the file."""
        try:
            if self._suffix == ".csv":
                return list(self._texts)
            if self._suffix == ".npz":
                with np.load(self.path) as archive:
                    return list(archive.files)
            import h5py

            found: list[str] = []
            with h5py.File(self.path, "r") as handle:
                handle.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
            return found
        except _UNREADABLE as error:
            raise QuarryError(f"{self.key}: cannot read {self.path} ({error}); correct the file") from error

    @cached_property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and kind of number (numpy's letter) of every column, without reading an npz or HDF5 file whole."""
        try:
            if self._suffix == ".csv":
                columns = {name: _numbers_or_texts(texts) for name, texts in self._texts.items()}
                return {name: (values.shape, values.dtype.kind) for name, values in columns.items()}
            if self._suffix == ".npz":
                return {name.removesuffix(".npy"): header for name, header in _headers(self.path)}
            import h5py

            with h5py.File(self.path, "r") as handle:
                return {name: (handle[name].shape or (), handle[name].dtype.kind) for name in self.names}
        except _UNREADABLE as error:
            raise QuarryError(f"{self.key}: cannot read {self.path} ({error}); correct the file") from error

    def get(self, name: str) -> NDArray[Any] | None:
        """Return a column, shape (n, ...), or None if there is none of that name; of a CSV file as numbers where all are."""
        if name not in self.names:
            return None
        try:
            if self._suffix == ".csv":
                return _numbers_or_texts(self._texts[name])
            if self._suffix == ".npz":
                with np.load(self.path) as archive:
                    return np.asarray(archive[name])
            import h5py

            with h5py.File(self.path, "r") as handle:
                return np.asarray(handle[name][()])
        except (*_UNREADABLE, TypeError) as error:
            remedy = "; save it as an array of numbers or texts" if "allow_pickle" in str(error) else ""
            raise QuarryError(f"{self.key}: cannot read {name} in {self.path} ({error}){remedy}") from error

    def attributes(self) -> Iterator[tuple[str, str, NDArray[Any]]]:
        """Yield owner ("" for the file), name and value of every attribute of an HDF5 file, its groups and data sets."""
        if self._suffix not in (".h5", ".hdf5"):
            return
        import h5py

        found: list[tuple[str, str, NDArray[Any]]] = []

        def add(owner: str, item: Any) -> None:
            # Those of types that numpy does not have are no numbers and texts.
            with suppress(OSError, TypeError):
                found.extend((owner, name, np.asarray(value)) for name, value in item.attrs.items())

        try:
            with h5py.File(self.path, "r") as handle:
                add("", handle)
                handle.visititems(add)
        except _UNREADABLE as error:
            raise QuarryError(f"{self.key}: cannot read {self.path} ({error}); correct the file") from error
        yield from found

    def column(self, name: str, key: str) -> NDArray[Any]:
        """Return a column, shape (n, ...). Raises QuarryError, naming the key that asks for it, if there is none."""
        values = self.get(name)
        if values is None:
            raise QuarryError(
                f"{key}: there is no '{name}' in {self.path}; it has {', '.join(self.names) or 'nothing'}"
            )
        return values

    def texts(self, name: str, key: str) -> list[str]:
        """Return a column of names letter by letter, also where they look like numbers (0012, 7231e78).

        Raises QuarryError as ``column``, and for numbers that have lost their letters in the file itself.
        """
        values = self.column(name, key)
        if self._suffix == ".csv":
            return self._texts[name]
        if values.dtype.kind not in "SUO":
            raise QuarryError(f"{key}: '{name}' in {self.path} holds numbers ({values.dtype}); give names as text")
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        try:
            rows = [row for row in read_rows(self.path, "utf-8-sig") if row]
        except (OSError, ValueError) as error:
            raise QuarryError(f"{self.key}: cannot read {self.path} ({reason_of(error)}); correct the file") from error
        fault = separator_fault(self.path)
        if fault:
            raise QuarryError(f"{self.key}: {self.path}: {fault}")
        names = [name.strip() for name in rows[0]] if rows else []
        if len(set(names)) < len(names):
            raise QuarryError(f"{self.key}: {self.path} has two columns of one name; rename one")
        for number, row in enumerate(rows[1:], 1):
            if len(row) != len(names):
                raise QuarryError(
                    f"{self.key}: {self.path}, row {number}: {len(row)} values for {len(names)} columns; correct it "
                    "(a comma separates columns, and numbers have points: 1.5)"
                )
        return {name: [row[place].strip() for row in rows[1:]] for place, name in enumerate(names)}


def _headers(path: Path) -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
    """Yield name, shape and kind of the arrays of an npz file."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as handle:
                version = np.lib.format.read_magic(handle)
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = reader(handle)
            yield name, (shape, dtype.kind)


def _numbers_or_texts(texts: list[str]) -> NDArray[Any]:
    try:
        return np.array([number_of(text) for text in texts], dtype=np.float64)
    except ValueError:
        return np.array(texts)


def read_feature_rows(
    files: Sequence[tuple[str, Path]], names: Sequence[str], files_key: str = "pool.files", key: str = "pool.features"
) -> list[tuple[str, NDArray[np.float64]]]:
    """Read rows of features; return (origin, features of shape (n, d)) of each file.

    files: (origin, path). names: columns of shape (n,) or (n, k), joined in this order. files_key, key: of the
    configuration, for messages. Raises QuarryError for a missing column, a text, a number that is not finite, an empty
    table and files with different numbers of features.
    """
    found: list[tuple[str, NDArray[np.float64]]] = []
    for origin, path in files:
        table = Table(path, files_key)
        parts = [_feature_columns(table.column(name, key), name, path, key) for name in names]
        lengths = {name: len(part) for name, part in zip(names, parts, strict=True)}
        if len(set(lengths.values())) != 1:
            raise QuarryError(f"{key}: columns of different lengths in {path}: {lengths}")
        features = np.concatenate(parts, axis=1)
        if not features.size:
            raise QuarryError(f"{files_key}: {path} holds no rows of features; give a table with some")
        if found and features.shape[1] != found[0][1].shape[1]:
            raise QuarryError(
                f"{files_key}: {path} has {features.shape[1]} features, {found[0][0]} has {found[0][1].shape[1]}; "
                "all files need the same"
            )
        found.append((origin, features))
    return found


def _feature_columns(values: NDArray[Any], name: str, path: Path, key: str) -> NDArray[np.float64]:
    """Return a column as finite numbers of shape (n, k)."""
    numbers = _numbers_of(values, name, path, key)
    wrong = ~np.isfinite(numbers).all(axis=1)
    if wrong.any():
        raise QuarryError(
            f"{key}: '{name}' in {path} is not finite in row {int(np.argmax(wrong)) + 1} ({int(wrong.sum())} such); "
            "correct the file"
        )
    return numbers


def _numbers_of(values: NDArray[Any], name: str, path: Path, key: str) -> NDArray[np.float64]:
    """Return a column as numbers of shape (n, k), which may be infinite or not a number."""
    if values.ndim not in (1, 2):
        raise QuarryError(f"{key}: '{name}' in {path} has the shape {values.shape}; give columns of one or two axes")
    if values.dtype.kind not in "biuf":
        row, text = next(((i, t) for i, t in enumerate(values.ravel(), 1) if not is_number(t)), (1, values.dtype))
        raise QuarryError(f"{key}: '{name}' in {path} holds no number in row {row} ('{text}'); correct the file")
    return (values if values.ndim == 2 else values[:, None]).astype(np.float64)


def joined_columns(table: Table, names: Sequence[str], key: str, tensors: bool = False) -> NDArray[np.float64]:
    """Return columns of shape (n,) or (n, k) side by side, shape (n, sum of k).

    key: of the configuration, for messages. tensors: columns of shape (n, 3, 3) are taken too, as (n, 9).
    Raises QuarryError for a missing column, a text and different lengths.
    """
    columns = [table.column(name, key) for name in names]
    if tensors:
        columns = [values.reshape(-1, 9) if values.shape[1:] == (3, 3) else values for values in columns]
    numbers = [_numbers_of(values, name, table.path, key) for name, values in zip(names, columns, strict=True)]
    return _side_by_side(names, numbers, key)


def read_numbers(paths: Sequence[Path], key: str) -> NDArray[np.float64]:
    """Return plain text files of numbers side by side, shape (n_lines, n_columns of all files).

    A line holds one number or several, with blanks between them; # begins a comment, and empty lines do not count.
    key: of the configuration, for messages. Raises QuarryError for a file that is missing, empty or no text, a line with
    something else or with more or fewer numbers than the first, and files with different numbers of lines.
    """
    return _side_by_side([str(path) for path in paths], [_numbers_in(path, key) for path in paths], key)


def _numbers_in(path: Path, key: str) -> NDArray[np.float64]:
    rows: list[list[float]] = []
    try:
        with open(path, encoding="utf-8-sig") as handle:
            for number, line in enumerate(handle, 1):
                words = line.partition("#")[0].split()
                if not words:
                    continue
                try:
                    found = [number_of(word) for word in words]
                except ValueError as error:
                    raise QuarryError(f"{key}: {path}, line {number}: {error}; correct the file") from error
                if rows and len(words) != len(rows[0]):
                    raise QuarryError(
                        f"{key}: {path}, line {number}: {len(words)} numbers, but {len(rows[0])} in the lines before; "
                        "correct the file"
                    )
                rows.append(found)
    except FileNotFoundError as error:
        raise QuarryError(f"{key}: {path} does not exist; give a path relative to the campaign file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise QuarryError(f"{key}: cannot read {path} ({error}); correct the file") from error
    if not rows:
        raise QuarryError(f"{key}: {path} holds no numbers; give a file with some")
    return np.array(rows)


def _side_by_side(names: Sequence[str], parts: Sequence[NDArray[np.float64]], key: str) -> NDArray[np.float64]:
    other = next((number for number, part in enumerate(parts) if len(part) != len(parts[0])), None)
    if other is not None:
        raise QuarryError(
            f"{key}: {names[0]} has {len(parts[0])} rows, but {names[other]} has {len(parts[other])}; give as many everywhere"
        )
    return np.concatenate(parts, axis=1)


def read_geometries(
    table: Table, numbers: str, positions: str, offsets: str, key: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (offsets, atomic numbers, positions in Angstrom) of a table's geometries, flat as in ``StructureSet``.

    numbers, positions, offsets: names of the columns. Positions of shape (n, n_atoms, 3) go with atomic numbers of shape
    (n_atoms,) or (n, n_atoms), positions of shape (n_atoms_total, 3) with offsets. Raises QuarryError for what is missing
    or does not fit together.
    """
    z = table.column(numbers, f"{key}.numbers")
    r = table.column(positions, f"{key}.positions")
    if not (z.dtype.kind in "iu" and r.dtype.kind in "iuf"):
        raise QuarryError(f"{key}: {numbers} must hold whole numbers and {positions} numbers in {table.path}")
    if r.ndim == 3:
        n, atoms = r.shape[:2]
        starts = np.arange(n + 1, dtype=np.int64) * atoms
        fits = r.shape[2] == 3 and z.shape in ((atoms,), (n, atoms))
        z = np.broadcast_to(z, (n, atoms)) if fits else z
    else:
        starts = table.column(offsets, f"{key}.offsets").astype(np.int64).ravel()
        fits = len(starts) > 0 and starts[0] == 0 and starts[-1] == z.size and bool((np.diff(starts) >= 0).all())
        fits = fits and r.shape == (z.size, 3)
    if not fits:
        raise QuarryError(
            f"{key}: {numbers} of shape {z.shape} and {positions} of shape {r.shape} make no {max(0, len(starts) - 1)} "
            f"geometries in {table.path}"
        )
    return starts, z.ravel().astype(np.int64), r.reshape(-1, 3).astype(np.float64)


def structures_of_table(
    table: Table, names: Sequence[str], index: str, charge: int, multiplicity: int, key: str, keys: StateKeys = PLAIN
) -> tuple[NDArray[np.int64], list[Structure]]:
    """Return rows and structures of a table of geometries.

    names: of atomic numbers, positions and offsets. index: ASE's, of the rows. charge, multiplicity: of those for which no
    column says one. keys: what the configuration says about such columns.
    Raises QuarryError for what is no geometry, or not clear about charge and multiplicity.
    """
    from ase.io.formats import string2index

    offsets, numbers, positions = read_geometries(table, names[0], names[1], names[2], f"{key}.geometry")
    try:
        chosen: Any = string2index(index or ":")
        rows = np.atleast_1d(np.arange(len(offsets) - 1)[chosen])
    except (ValueError, IndexError, TypeError) as error:
        raise QuarryError(f"{key}: index '{index}' does not fit {table.path} ({error}); correct it") from error
    sizes = np.diff(offsets)[rows]
    if not len(rows) or not sizes.all():
        raise QuarryError(
            f"{key}: {table.path} (index '{index}') holds no structure or one without atoms; correct file or index"
        )
    if numbers.min() < 1 or numbers.max() > 118 or not np.isfinite(positions).all():
        raise QuarryError(f"{key}: {table.path} holds an atomic number or a position that is none; correct the file")
    try:
        stated = stated_by_table(table, names, offsets, numbers, keys).at(rows)
        charges, multiplicities = resolve(stated, charge, multiplicity, keys)
    except ValueError as error:
        raise QuarryError(f"{key}: {table.path}: {error}") from error
    structures = []
    for row, *state in zip(rows, charges, multiplicities, strict=True):
        atoms = slice(offsets[row], offsets[row + 1])
        try:
            structures.append(Structure.create(numbers[atoms], positions[atoms], *state))
        except ValueError as error:
            raise QuarryError(f"{key}: {table.path}, row {row + 1}: {error}; correct the file") from error
    return rows, structures


def stated_by_table(
    table: Table, names: Sequence[str], offsets: NDArray[np.int64], numbers: NDArray[np.int64], keys: StateKeys = PLAIN
) -> Stated:
    """Return what a table of geometries says about charge and spin.

    Columns of the group that holds the positions, and attributes of it, of the groups around it and of the positions
    themselves, are about the geometries; those elsewhere may be, but for groups with geometries of their own.
    names: of atomic numbers, positions and offsets. offsets, numbers: flat, as ``read_geometries`` gives them.
    """
    return stated_by_columns(_parts(table, names, keys), np.add.reduceat(numbers, offsets[:-1]), np.diff(offsets), keys)


def _parts(table: Table, names: Sequence[str], keys: StateKeys) -> Iterator[Part]:
    group = names[1].rpartition("/")[0]
    around = {"", group, *(group[:place] for place, letter in enumerate(group) if letter == "/")}
    shorts = {name.rpartition("/")[2] for name in names[:2]}
    with_geometries = {
        folder
        for name in table.names
        if (folder := name.rpartition("/")[0]) not in around and name[len(folder) + 1 :] in shorts
    }

    def of_another(owner: str) -> bool:
        return any(owner == folder or owner.startswith(folder + "/") for folder in with_geometries)

    for name in table.names:
        owner = name.rpartition("/")[0]
        if name in names or of_another(owner) or not concerns_state(name, keys):
            continue
        try:
            yield Part(name, table.column(name, table.key), owner == group)
        except QuarryError:
            # An array of Python objects in an npz file, which is no column of numbers.
            if is_known(meaning_in_plural(short_name(name))):
                raise
    for owner, name, value in table.attributes():
        if not of_another(owner) and concerns_state(name, keys):
            yield Part(f"{owner}/@{name}".lstrip("/"), value, owner in around or owner in names)
