"""MBTR against dscribe's numbers, against its definition by loops and quadrature, and its invariances."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from quarry.config.descriptors import Mbtr
from quarry.descriptors import mbtr as module
from quarry.descriptors.compute import compute_features, prepare
from quarry.descriptors.mbtr import mbtr, mbtr_width
from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet

# mbtr_of_dscribe.npz: dscribe 2.1.2 with ase 3.26, for each key
#   MBTR(species=["H", "C", "N", "O"], periodic=False, **arguments).create([molecule(name) for name in MOLECULES])
# where arguments say the same as CASES, e.g. for k2_exp
#   geometry={"function": "inverse_distance"}, grid={"min": 0, "max": 1.1, "n": 23, "sigma": 0.05},
#   weighting={"function": "exp", "scale": 0.5, "threshold": 0.2}
REFERENCE = Path(__file__).with_name("mbtr_of_dscribe.npz")
MOLECULES = ("CH3CH2OH", "HCN", "H2O", "CH3NO2")
ELEMENTS = [1, 6, 7, 8]


def grid(minimum: float, maximum: float, points: int, sigma: float) -> dict:
    return {"minimum": minimum, "maximum": maximum, "points": points, "sigma": sigma}


UNITY = {"function": "unity"}
CASES = {
    "k1": {"k1": {"grid": grid(0.0, 9.0, 19, 0.6)}, "k2": None},
    "k2_exp": {
        "k2": {
            "grid": grid(0.0, 1.1, 23, 0.05),
            "weighting": {"function": "exp", "decay_per_A": 0.5, "threshold": 0.2},
        }
    },
    "k2_square": {
        "k2": {
            "geometry": "distance",
            "grid": grid(0.5, 5.0, 19, 0.2),
            "weighting": {"function": "inverse_square", "cutoff_A": 3.0},
        },
        "normalize_gaussians": False,
        "normalization": "n_atoms",
    },
    "k2_l2": {"k2": {"grid": grid(0.2, 0.7, 11, 0.02), "weighting": UNITY}, "normalization": "l2"},
    "k3_cosine": {
        "k2": None,
        "k3": {
            "grid": grid(-1.0, 1.0, 15, 0.09),
            "weighting": {"function": "exp", "decay_per_A": 0.5, "threshold": 0.03},
        },
    },
    "k3_angle": {
        "k2": None,
        "k3": {"geometry": "angle", "grid": grid(0.0, 180.0, 13, 8.0), "weighting": UNITY},
    },
}


def section(**keys) -> Mbtr:
    return Mbtr.model_validate({"kind": "mbtr", **keys})


def gaussian(x: float, centre: float, sigma: float) -> float:
    return np.exp(-0.5 * ((x - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def exact(numbers, positions) -> Structure:
    """A structure whose positions are not rounded."""
    return Structure(np.asarray(numbers, dtype=np.int64), np.asarray(positions, dtype=float))


def packed(*names: str) -> StructureSet:
    return StructureSet.from_structures(exact(m.numbers, m.positions) for m in map(molecule, names))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", [module.BLOCK_NUMBERS, 700])
def test_the_numbers_of_dscribe(case, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    features = mbtr(packed(*MOLECULES), section(**CASES[case]), ELEMENTS)
    with np.load(REFERENCE) as reference:
        np.testing.assert_allclose(features, reference[case], rtol=0, atol=1e-10)


def test_terms_stand_one_after_another():
    keys = {"k1": CASES["k1"]["k1"], "k2": CASES["k2_exp"]["k2"], "k3": CASES["k3_cosine"]["k3"]}
    structures = packed("HCN", "H2O")
    together = section(**keys)
    parts = [mbtr(structures, section(**{"k2": None, name: keys[name]}), ELEMENTS) for name in keys]
    assert mbtr_width(together, 4) == 4 * 19 + 10 * 23 + 40 * 15
    np.testing.assert_array_equal(mbtr(structures, together, ELEMENTS), np.concatenate(parts, axis=1))


def test_a_point_holds_the_mean_of_the_gaussians_around_it():
    """The definition, by quadrature and loops over pairs: another way to the numbers than error functions."""
    ethanol = molecule("CH3CH2OH")
    term = {"grid": grid(0.0, 1.1, 12, 0.07), "weighting": {"function": "exp", "decay_per_A": 0.4, "threshold": 1e-3}}
    features = mbtr(packed("CH3CH2OH"), section(k2=term), [1, 6, 8]).reshape(6, 12)
    step = 1.1 / 11
    channels = list(itertools.combinations_with_replacement([1, 6, 8], 2))
    for channel, point in ((channels.index((1, 6)), 9), (channels.index((6, 8)), 7), (channels.index((1, 1)), 4)):
        expected = 0.0
        for i, j in itertools.combinations(range(len(ethanol)), 2):
            if tuple(sorted((ethanol.numbers[i], ethanol.numbers[j]))) != channels[channel]:
                continue
            distance = ethanol.get_distance(i, j)
            mean = quad(gaussian, (point - 0.5) * step, (point + 0.5) * step, args=(1 / distance, 0.07))[0] / step
            expected += np.exp(-0.4 * distance) * mean
        assert features[channel, point] == pytest.approx(expected, rel=1e-7)


def test_the_middle_atom_of_water_has_its_angle():
    term = {"grid": grid(-1.0, 1.0, 201, 0.02), "weighting": UNITY}
    features = mbtr(packed("H2O"), section(k2=None, k3=term), [1, 8]).reshape(2, 3, 201)
    cosine = np.cos(np.radians(molecule("H2O").get_angle(1, 0, 2)))
    # Oxygen in the middle of two hydrogens: one angle; hydrogen in the middle of H and O: two.
    assert np.linspace(-1, 1, 201)[features[1, 0].argmax()] == pytest.approx(cosine, abs=0.006)
    areas = 0.01 * features.sum(axis=2)
    np.testing.assert_allclose(areas, [[0, 2, 0], [1, 0, 0]], atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_moving_turning_reflecting_and_reordering_change_nothing(seed, n_atoms):
    rng = np.random.default_rng(seed)
    numbers, positions = rng.choice(ELEMENTS, n_atoms), rng.uniform(-2, 2, (n_atoms, 3))
    order = rng.permutation(n_atoms)
    moved = (positions @ Rotation.random(rng=rng).as_matrix().T * [1, 1, -1] + rng.uniform(-5, 5, 3))[order]
    pair = StructureSet.from_structures([exact(numbers, positions), exact(numbers[order], moved)])
    settings_ = section(k2={"grid": grid(0.0, 3.0, 30, 0.1)}, k3={"grid": grid(-1.0, 1.0, 10, 0.2)})
    features = mbtr(pair, settings_, ELEMENTS)
    np.testing.assert_allclose(features[0], features[1], rtol=0, atol=1e-7 * max(1.0, np.abs(features).max()))


def test_the_elements_are_those_of_the_pool():
    structures = packed("HCN", "H2O")
    ready = prepare(structures, section(), None)
    assert ready.settled == {"elements": [1, 6, 7, 8]} and ready.width == 2000
    blocks = list(ready.blocks(structures))
    assert [start for start, _ in blocks] == [0]
    np.testing.assert_array_equal(blocks[0][1], compute_features(structures, section(), None))
    with pytest.raises(QuarryError, match=r"elements \[1, 8\], not for 6"):
        mbtr(structures, section(), [1, 8])


def test_an_atom_alone_has_no_pairs():
    alone = StructureSet.from_structures([exact([8], [[0, 0, 0]])])
    assert not mbtr(alone, section(normalization="l2"), [8]).any()


def test_errors_in_one_line():
    with pytest.raises(QuarryError, match=r"descriptor\.k1\.grid: 0\.0 to 5\.0 does not hold .*6, 7") as caught:
        prepare(packed("HCN"), section(k1={"grid": grid(0.0, 5.0, 6, 0.1)}), None)
    assert "\n" not in str(caught.value)
    collapsed = exact([1, 1, 8], np.zeros((3, 3)))
    with pytest.raises(QuarryError, match=f"{collapsed.structure_id} has two atoms in the same place"):
        mbtr(StructureSet.from_structures([*packed("H2O"), collapsed]), section(), ELEMENTS)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"k2": None}, "at least one of k1, k2, k3"),
        ({"k2": {"geometry": "distance"}}, "distance needs a grid of its own"),
        ({"k3": {"geometry": "angle"}}, "angle needs a grid of its own"),
        ({"k2": {"grid": grid(1.0, 0.5, 10, 0.1)}}, "must be greater than minimum"),
        ({"k2": {"grid": grid(0.0, 1.0, 1, 0.1)}}, "greater than 1"),
        ({"k3": {"weighting": {"function": "inverse_square", "cutoff_A": 3.0}}}, "inverse_square"),
    ],
)
def test_settings_that_make_no_sense(keys, reason):
    with pytest.raises(ValidationError, match=reason):
        section(**keys)
