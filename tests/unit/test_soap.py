"""SOAP: one vector for each structure, whatever way it lies and whatever the order of its atoms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from scipy.spatial.transform import Rotation

from quarry.config import installed
from quarry.config.descriptors import Soap
from quarry.descriptors.compute import compute_features, prepare
from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet

SMALL = {"kind": "soap", "cutoff_A": 4.0, "radial_functions": 3, "angular_momentum": 2}


def packed(*atoms) -> StructureSet:
    return StructureSet.from_structures(Structure(a.numbers, a.positions) for a in atoms)


def test_outer_is_the_mean_of_the_atoms_and_inner_is_not():
    """The atoms' own spectra come from the library's other mode, without an average."""
    from dscribe.descriptors import SOAP

    water = molecule("H2O")
    atoms = SOAP(species=[1, 8], r_cut=4.0, n_max=3, l_max=2, sigma=0.5, average="off").create(water)
    outer = compute_features(packed(water), Soap(**SMALL, average="outer"), None)
    inner = compute_features(packed(water), Soap(**SMALL), None)
    np.testing.assert_allclose(outer[0], atoms.mean(axis=0), rtol=1e-12)
    assert inner.shape == outer.shape == (1, 6 * 7 // 2 * 3)
    assert np.abs(inner - outer).max() > 1e-3


@pytest.mark.parametrize("average", ["inner", "outer"])
def test_moving_turning_and_reordering_change_nothing(average):
    rng = np.random.default_rng(3)
    ethanol = molecule("CH3CH2OH")
    turned = ethanol.copy()
    turned.positions = turned.positions @ Rotation.random(rng=rng).as_matrix().T + [1, 2, 3]
    features = compute_features(packed(ethanol, turned[rng.permutation(9)]), Soap(**SMALL, average=average), None)
    np.testing.assert_allclose(features[0], features[1], rtol=0, atol=1e-9 * np.abs(features).max())


def test_the_elements_are_those_of_the_pool():
    ready = prepare(packed(molecule("H2O"), molecule("HCN")), Soap(**SMALL), None)
    assert ready.settled == {"elements": [1, 6, 7, 8]} and ready.dtype == "float32"


def test_without_the_library_there_is_one_line(monkeypatch):
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    with pytest.raises(
        QuarryError, match=r"descriptor\.kind: soap needs dscribe, which is not installed; type: "
    ) as caught:
        prepare(packed(molecule("H2O")), Soap(**SMALL), None)
    assert "\n" not in str(caught.value)


def cells(*atoms: Atoms) -> StructureSet:
    return StructureSet.from_structures(
        Structure(a.numbers, a.positions, cell=a.cell.array if a.pbc.any() else None, pbc=tuple(a.pbc.tolist()))
        for a in atoms
    )


def with_images(atoms: Atoms, reach: int) -> np.ndarray:
    """The features of a cell by the library for molecules: its atoms among all their images."""
    from dscribe.descriptors import SOAP

    shifts = [
        s @ atoms.cell.array for s in np.array(list(product(*(range(-reach * p, reach * p + 1) for p in atoms.pbc))))
    ]
    shifts.sort(key=np.linalg.norm)
    images = Atoms(np.tile(atoms.numbers, len(shifts)), np.concatenate([atoms.positions + s for s in shifts]))
    soap = SOAP(
        species=sorted({1, 13, *atoms.numbers.tolist()}), r_cut=4.0, n_max=3, l_max=2, sigma=0.5, average="outer"
    )
    return soap.create(images, centers=list(range(len(atoms))))


CRYSTAL = bulk("Al", a=4.05)
SLAB = fcc111("Al", (1, 1, 2), a=4.05, vacuum=None)
CHAIN = Atoms("AlH", [[0, 0, 0], [0.3, 1.5, 0]], cell=[2.8, 0, 0], pbc=(True, False, False))


@pytest.mark.parametrize("atoms", [CRYSTAL, SLAB, CHAIN], ids=["crystal", "slab", "chain"])
def test_images_along_periodic_directions_are_neighbours(atoms):
    hydrogen = Atoms("H")
    features = compute_features(cells(atoms, hydrogen), Soap(**SMALL, average="outer"), None)
    np.testing.assert_allclose(features[0], with_images(atoms, 4), rtol=0, atol=1e-9)
    if not atoms.pbc.all():
        vacuum = atoms.copy()
        vacuum.cell = atoms.cell.complete() * np.where(atoms.pbc, 1.0, 7.0)[:, None]
        other = compute_features(cells(vacuum, hydrogen), Soap(**SMALL, average="outer"), None)
        np.testing.assert_allclose(features, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("average", ["inner", "outer"])
def test_the_choice_of_the_cell_does_not_matter(average):
    """Primitive cell, cube and supercell; atoms moved together, also across the border."""
    moved = bulk("Al", a=4.05, cubic=True)
    moved.positions += [1.3, -7.0, 2.2]
    same = cells(CRYSTAL, bulk("Al", a=4.05, cubic=True), CRYSTAL * (2, 1, 3), moved)
    features = compute_features(same, Soap(**SMALL, average=average), None)
    np.testing.assert_allclose(features, features[[0] * 4], rtol=0, atol=1e-9 * np.abs(features).max())
    stretched = compute_features(cells(CRYSTAL, bulk("Al", a=4.15)), Soap(**SMALL, average=average), None)
    assert np.abs(stretched[0] - stretched[1]).max() > 1e-2 * np.abs(stretched).max()


def test_molecules_are_the_same_beside_cells():
    """A pool may hold both, in one basis; a molecule in a large cell is the molecule."""
    water = molecule("H2O")
    boxed = water.copy()
    boxed.set_cell([30, 30, 30])
    boxed.pbc = True
    features = compute_features(cells(CRYSTAL, water, boxed), Soap(**SMALL), None)
    alone = compute_features(cells(water, Atoms("Al")), Soap(**SMALL), None)
    np.testing.assert_allclose(features[[1, 2]], alone[[0, 0]], rtol=0, atol=1e-9)


def test_what_is_beyond_the_cutoff():
    iodine = [Atoms("I2", [[0, 0, 0], [0, 0, r]]) for r in (2.7, 3.99, 4.01, 16.0)]
    lone = Atoms("I", cell=[9, 9, 9], pbc=True)
    pool = cells(*iodine, Atoms("I"), CRYSTAL, lone)
    ready = prepare(pool, Soap(**SMALL), None)
    unseen = ready.beyond_reach(pool, ready.compute(pool))
    assert unseen.tolist() == [False, False, True, True, False, False, False]
