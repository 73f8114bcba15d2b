"""SOAP: one vector for each structure, whatever way it lies and whatever the order of its atoms."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

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
    monkeypatch.setitem(__import__("sys").modules, "dscribe.descriptors", None)
    with pytest.raises(QuarryError, match=r"descriptor\.kind: soap needs the package dscribe") as caught:
        prepare(packed(molecule("H2O")), Soap(**SMALL), None)
    assert "\n" not in str(caught.value)
