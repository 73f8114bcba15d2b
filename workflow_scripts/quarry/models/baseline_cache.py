"""What a baseline says of structures by their ids: read where a pool's is stored, computed where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import h5py

from quarry.config.baselines import Baseline
from quarry.errors import QuarryError
from quarry.files import digest_of, sha256_of
from quarry.hdf5_files import new_hdf5
from quarry.models.base import has_rows_of_atoms
from quarry.networks.baselines import KEY, Said, asked, check_finite
from quarry.structures import StructureSet
from quarry.structures.files import read_pool_ids
from quarry.structures.structure import ID_LENGTH, IdIndex, atoms_of

DERIVATIVES = ("forces", "stress")


def name_of(settings: Baseline) -> str:
    """Return the name of a baseline's group in a file."""
    return digest_of(settings.model_dump(mode="json", exclude={"device"}), 16)


class BaselineCache:
    """Energies, forces and stresses by a baseline, those of a pool from its file."""

    def __init__(self, settings: Baseline, base: Path | None = None, path: str | None = None) -> None:
        """settings: section baseline. base: folder of the campaign file. path: ``baseline.h5``; None: all is computed."""
        self.settings = settings
        self.base = base
        self._path = path

    def of(self, structures: StructureSet, derivatives: bool) -> Said:
        """Return what the baseline says of structures: energies, and forces and stresses if ``derivatives``.

        Raises QuarryError for a structure that it cannot judge.
        """
        names = ("energy", *DERIVATIVES) if derivatives else ("energy",)
        found = self._stored(structures, names)
        if found is not None:
            return found
        said = self._ask(structures, derivatives)
        check_finite(said, structures)
        return said

    @cached_property
    def _ask(self) -> Callable[[StructureSet, bool], Said]:
        return asked(self.settings, self.base)

    @cached_property
    def _index(self) -> IdIndex:
        return IdIndex(read_pool_ids(str(self._path)))

    def _stored(self, structures: StructureSet, names: Iterable[str]) -> Said | None:
        """Return what the file says of structures, or None where it lacks one of them or a property."""
        if self._path is None or not len(structures):
            return None
        there, rows = self._index.find(structures.ids)
        with h5py.File(self._path, "r") as handle:
            group = handle.get(name_of(self.settings))
            if group is None or any(name not in group for name in names) or not there.all():
                return None
            atoms = atoms_of(handle["offsets"][()], rows)
            return {name: group[name][()][atoms if has_rows_of_atoms(name) else rows] for name in names}

    def write(self, group: h5py.Group) -> None:
        """Write which baseline it is, with digests of its files, into a group of a model's file."""
        group.attrs["settings"] = self.settings.model_dump_json()
        for name in self.settings.input_files():
            group.attrs[f"sha256 {name}"] = sha256_of((self.base or Path()) / name)

    def check(self, group: h5py.Group, path: str | Path) -> None:
        """Raise QuarryError if a file of the baseline is not the one with which a model learnt. path: of the model's file."""
        for name in self.settings.input_files():
            file = (self.base or Path()) / name
            if not file.exists() or sha256_of(file) != group.attrs.get(f"sha256 {name}"):
                raise QuarryError(f"{KEY}: {file} is not the file with which {path} was trained; put that one back")


def write_baselines(
    path: str, pool: StructureSet, baselines: Iterable[Baseline], base: Path | None, derivatives: bool
) -> None:
    """Compute and write what baselines say of a pool. base: folder of the campaign file."""
    with new_hdf5(path) as handle:
        handle.create_dataset("ids", data=pool.ids.astype(f"S{ID_LENGTH}"))
        handle.create_dataset("offsets", data=pool.offsets)
        for settings in baselines:
            name = name_of(settings)
            if name in handle:
                continue
            for what, values in BaselineCache(settings, base).of(pool, derivatives).items():
                handle.create_dataset(f"{name}/{what}", data=values)
