"""Features by the ids of structures: the same numbers from the pool's file, computed, and by a model's own file."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from quarry.config.descriptors import CoulombMatrix, InverseDistances, Mbtr, Soap
from quarry.config.models import Gpr, Kreg, Mlp
from quarry.config.targets import TARGETS
from quarry.descriptors import compute, features_file
from quarry.descriptors.cache import FeatureCache
from quarry.errors import QuarryError
from quarry.models.base import STD, TrainingData
from quarry.models.registry import load_model, make_model
from quarry.stages.pool import build_features
from quarry.structures import Structure, StructureSet
from quarry.structures.files import JobInputEntry, write_job_input, write_pool
from support.campaigns import REPOSITORY, WATER
from support.stages import energy_of

GRID = {"minimum": 0.0, "maximum": 1.1, "points": 7, "sigma": 0.2}
DISTANCES = InverseDistances(kind="inverse_distances")
COULOMB = CoulombMatrix(kind="coulomb_matrix")
MBTR = Mbtr.model_validate({"kind": "mbtr", "k2": {"grid": GRID}})
SOAP = Soap.model_validate({"kind": "soap", "radial_functions": 2, "angular_momentum": 1})
SECTIONS = pytest.mark.parametrize("section", [DISTANCES, COULOMB, MBTR, SOAP], ids=lambda section: section.kind)
NAMES = ("CH3CH2OH", "H2O", "HCN", "CH4", "CO2", "N2", "CH3NO2", "NH3")


def waters(count: int, seed: int) -> StructureSet:
    rng = np.random.default_rng(seed)
    frames = [Atoms("OHH", WATER + rng.normal(0, 0.08, (3, 3))) for _ in range(count)]
    return StructureSet.from_structures(Structure.from_atoms(frame) for frame in frames)


def structures_for(section) -> StructureSet:
    if section is DISTANCES:
        return waters(8, 5)
    return StructureSet.from_structures(Structure.from_atoms(molecule(name)) for name in NAMES)


def cache_of(folder: Path, section, pool: StructureSet) -> FeatureCache:
    folder.mkdir()
    write_pool(folder / "structures.h5", pool)
    write_job_input(folder / "reference.extxyz", [JobInputEntry(pool[0])])
    paths = [str(folder / name) for name in ("structures.h5", "reference.extxyz", "features.h5")]
    build_features(paths[0], paths[1], section, paths[2])
    return FeatureCache.of_pool(paths[2], section)


@SECTIONS
def test_outside_the_pool_as_in_it(section, tmp_path, monkeypatch):
    """What a pool of all stores is what a pool of the first six computes, in blocks too, for ids in any order and twice."""
    if section is SOAP:
        pytest.importorskip("dscribe")
    everything = structures_for(section)
    # The first pool settles the same elements and largest molecule as the second.
    inside = np.arange(6) if section is DISTANCES else np.array([0, 1, 2, 3, 6, 7])
    whole = cache_of(tmp_path / "all", section, everything)
    part = cache_of(tmp_path / "part", section, everything.subset(inside))
    order = np.array([7, 0, 4, 4, 5, 0, 6, 2])
    expected = whole.of(everything)
    assert len(np.unique(expected, axis=0)) == 8
    np.testing.assert_array_equal(whole.of(everything.subset(order)), expected[order])
    np.testing.assert_array_equal(part.of(everything.subset(order)), expected[order])
    width = expected.shape[1]
    monkeypatch.setattr(compute, "BLOCK_BYTES", 8 * width * 2)
    monkeypatch.setattr(features_file, "BLOCK_BYTES", 8 * width * 3)
    np.testing.assert_array_equal(whole.of(everything.subset(order)), expected[order])
    np.testing.assert_array_equal(part.of(everything.subset(order)), expected[order])
    part.keep(everything.subset(order[:4]))
    np.testing.assert_array_equal(part.of(everything.subset(order[[3, 1]])), expected[order[[3, 1]]])
    np.testing.assert_array_equal(part.of(everything.subset(order)), expected[order])
    assert part.of(everything.subset([])).shape == (0, width)


def test_kept_features_are_not_read_again(tmp_path):
    pool = structures_for(COULOMB)
    cache = cache_of(tmp_path / "pool", COULOMB, pool)
    expected = cache.of(pool)
    cache.keep(pool.subset([1, 2, 3]))
    Path(tmp_path / "pool" / "features.h5").unlink()
    np.testing.assert_array_equal(cache.of(pool.subset([3, 1])), expected[[3, 1]])


def strange_id(atoms: Atoms) -> str:
    return Structure.from_atoms(atoms).structure_id


CELL = Atoms("Cu", cell=[3.6] * 3, pbc=True)
STRANGE = [
    (DISTANCES, molecule("H2O2"), strange_id(molecule("H2O2"))),
    (DISTANCES, Atoms("OHH", WATER, cell=[9.0] * 3, pbc=True), "is periodic"),
    (COULOMB, molecule("C6H6"), "was made ready for molecules of up to 9 atoms"),
    (COULOMB, CELL, "is periodic"),
    (MBTR, molecule("CH3Cl"), r"was made ready for the elements \[1, 6, 7, 8\]; structure .* holds 17"),
    (SOAP, molecule("CH3Cl"), r"was made ready for the elements \[1, 6, 7, 8\]; structure .* holds 17"),
]


@pytest.mark.parametrize(("section", "atoms", "said"), STRANGE)
def test_what_the_descriptor_cannot_do_is_one_line(section, atoms, said, tmp_path):
    if section is SOAP:
        pytest.importorskip("dscribe")
    pool = structures_for(section)
    cache = cache_of(tmp_path / "pool", section, pool)
    strange = StructureSet.from_structures([pool[0], Structure.from_atoms(atoms)])
    with pytest.raises(QuarryError, match=rf"descriptor\.kind.*{said}") as error:
        cache.of(strange)
    assert "\n" not in str(error.value)


GPR, KREG = Gpr(), Kreg(kind="kreg")
MLP = Mlp(kind="mlp", uncertainty="committee", members=2, hidden=[4], epochs=3)


PAIRS = [*((GPR, section) for section in (DISTANCES, COULOMB, MBTR, SOAP)), (KREG, DISTANCES), (MLP, DISTANCES)]


@pytest.mark.parametrize(("settings", "section"), PAIRS, ids=lambda section: section.kind)
def test_a_model_file_computes_its_features(section, settings, tmp_path):
    if section is SOAP:
        pytest.importorskip("dscribe")
    pool, target = structures_for(section), TARGETS["energy"]
    cache = cache_of(tmp_path / "pool", section, pool)
    model = make_model(settings, target, cache)
    values = np.sin(np.arange(8.0))
    data = TrainingData(pool, {"energy": values})
    held = np.array([1, 4]) if settings.traits.validates else np.array([], dtype=int)
    learnt = np.setdiff1d(np.arange(8), held)
    validation = data.subset(held) if len(held) else None
    model.fit(data.subset(learnt), validation, np.random.default_rng(0))
    path = tmp_path / "model.h5"
    model.save(path)
    expected = model.predict(pool, frozenset({"energy", STD}))
    for name in ("features.h5", "structures.h5", "reference.extxyz"):
        (tmp_path / "pool" / name).unlink()
    found = load_model(path, settings, target).predict(pool, frozenset({"energy", STD}))
    np.testing.assert_array_equal(found.mean["energy"], expected.mean["energy"])
    np.testing.assert_array_equal(found.std["energy"], expected.std["energy"])


def earlier_waters() -> StructureSet:
    """The structures of tests/data/earlier_model.h5.xz: 8 that it learnt, and 4."""
    return waters(12, 7)


EARLIER_MEANS = [-1999.9759620978887, -1999.9489830199052, -1999.8847123728738, -1999.9233359143377]
EARLIER_STD = [0.02682063740195884, 0.05336870623356359, 0.03488669792670169, 0.06161325781311633]


def test_a_model_of_an_earlier_version(tmp_path):
    """It predicts what it predicted, with the features of its pool; it does not hold how these are computed."""
    path = tmp_path / "model.h5"
    path.write_bytes(lzma.decompress((REPOSITORY / "tests" / "data" / "earlier_model.h5.xz").read_bytes()))
    structures = earlier_waters()
    new = structures.subset(np.arange(8, 12))
    cache = cache_of(tmp_path / "pool", DISTANCES, structures.subset(np.arange(8)))
    model = load_model(path, Gpr(), TARGETS["energy"], cache)
    found = model.predict(new, frozenset({"energy", STD}))
    assert found.mean["energy"] == pytest.approx(EARLIER_MEANS, abs=1e-9)
    assert found.std["energy"] == pytest.approx(EARLIER_STD, rel=1e-6)
    fresh = make_model(Gpr(), TARGETS["energy"], cache)
    learnt = structures.subset(np.arange(8))
    labels = np.array([energy_of(structure) for structure in learnt])
    fresh.fit(TrainingData(learnt, {"energy": labels}), None, np.random.default_rng(0))
    assert fresh.predict(new, frozenset({"energy"})).mean["energy"] == pytest.approx(EARLIER_MEANS, abs=1e-9)
    with pytest.raises(QuarryError, match=r"an earlier version wrote this model, .*; give features\.h5 of its pool"):
        load_model(path, Gpr(), TARGETS["energy"])
    model.save(path)
    again = load_model(path, Gpr(), TARGETS["energy"]).predict(new, frozenset({"energy"}))
    np.testing.assert_array_equal(again.mean["energy"], found.mean["energy"])
