"""features.h5: written and read in blocks, and found by structure, without a difference to doing it at once."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.config.descriptors import CoulombMatrix, Mbtr
from quarry.descriptors import compute, features_file
from quarry.descriptors.compute import compute_features
from quarry.descriptors.features_file import read_features
from quarry.errors import QuarryError
from quarry.stages.pool import build_features, pool_rows
from quarry.structures import Structure, StructureSet
from quarry.structures.files import JobInputEntry, write_job_input, write_pool
from quarry.structures.structure import rows_of

NAMES = ("H2O", "CH3CH2OH", "HCN", "CH4", "CO2", "N2", "CH3NO2", "NH3")
POOL = StructureSet.from_structures(Structure.from_atoms(molecule(name)) for name in NAMES)
SECTIONS = [
    (CoulombMatrix(kind="coulomb_matrix"), "float64", {"largest_molecule": [9]}),
    (
        Mbtr.model_validate(
            {"kind": "mbtr", "k2": {"grid": {"minimum": 0.0, "maximum": 1.1, "points": 7, "sigma": 0.2}}}
        ),
        "float32",
        {"elements": [1, 6, 7, 8]},
    ),
]


def written(folder: Path, section) -> str:
    write_pool(folder / "structures.h5", POOL)
    write_job_input(folder / "reference.extxyz", [JobInputEntry(POOL[0])])
    paths = [str(folder / name) for name in ("structures.h5", "reference.extxyz", "features.h5")]
    build_features(paths[0], paths[1], section, paths[2])
    return paths[2]


@pytest.mark.parametrize(("section", "dtype", "settled"), SECTIONS)
def test_blocks_are_the_whole(section, dtype, settled, tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "BLOCK_BYTES", 8 * 70 * 3)
    path = written(tmp_path, section)
    whole = compute_features(POOL, section, None).astype(dtype)
    with h5py.File(path) as handle:
        assert handle["features"].dtype == dtype and handle.attrs["kind"] == section.kind
        assert {key: np.ravel(handle.attrs[key]).tolist() for key in settled} == settled
        np.testing.assert_array_equal(handle["features"][()], whole)
    found = read_features(path)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, whole)


def test_any_rows_in_any_order(tmp_path, monkeypatch):
    path = written(tmp_path, SECTIONS[1][0])
    everything = read_features(path)
    monkeypatch.setattr(features_file, "BLOCK_BYTES", 4 * everything.shape[1] * 3)
    for rows in ([7, 0, 3, 3, 5], [6], [], list(range(8)), [2, 1]):
        np.testing.assert_array_equal(read_features(path, np.array(rows, dtype=np.int64)), everything[rows])


def test_structures_find_their_rows(tmp_path):
    path = written(tmp_path, SECTIONS[0][0])
    assert pool_rows(path, POOL.ids[[5, 2, 5]]).tolist() == [5, 2, 5]
    assert pool_rows(path, np.zeros(0, dtype=np.str_)).tolist() == []
    with pytest.raises(QuarryError, match=r"labelled structure 'ffff' is not in the pool"):
        pool_rows(path, np.array([POOL.ids[0], "ffff"]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=3), unique=True), st.data())
def test_rows_of_is_a_dictionary(ids, data):
    wanted = data.draw(st.lists(st.sampled_from([*ids, "ad"]), max_size=4))
    place = {key: row for row, key in enumerate(ids)}
    found = lambda: rows_of(np.array(ids, dtype=np.str_), np.array(wanted, dtype=np.str_)).tolist()  # noqa: E731
    missing = [key for key in wanted if key not in place]
    if missing:
        with pytest.raises(KeyError, match=missing[0]):
            found()
    else:
        assert found() == [place[key] for key in wanted]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(NAMES) - 1), max_size=12))
def test_a_subset_is_the_set_of_its_structures(rows):
    part, made = POOL.subset(rows), StructureSet.from_structures(POOL[row] for row in rows)
    for name in ("ids", "offsets", "numbers", "positions", "cells", "pbc", "charges", "multiplicities"):
        np.testing.assert_array_equal(getattr(part, name), getattr(made, name))
        assert getattr(part, name).dtype == getattr(made, name).dtype
