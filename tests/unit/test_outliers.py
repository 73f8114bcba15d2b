"""Outliers among labels, against textbook numbers, an exact fit by linear programming, and planted mistakes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from quarry.labeling.outliers import (
    Outlier,
    energy_residuals,
    find_outliers,
    read_outliers,
    robust_z,
    write_outliers,
)
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet

ATOM_EV = {1: -13.6, 6: -1030.0, 7: -1485.0, 8: -2042.0}


def labelled(structures, energies, forces=None) -> LabelledSet:
    properties = [{"energy": e} if e is not None else {"gap": 1.0} for e in energies]
    for entry, force in zip(properties, forces if forces is not None else [], strict=False):
        entry["forces"] = force
    return LabelledSet.from_records(structures, ["train"] * len(structures), [0] * len(structures), properties)


def geometries(rng, n, numbers=(8, 1, 1), charge=0):
    return [Structure.create(numbers, rng.normal(0, 1, (len(numbers), 3)), charge) for _ in range(n)]


def waters(seed=0, n=20, spread=0.3):
    """n labels of water with energies and forces of a normal spread."""
    rng = np.random.default_rng(seed)
    structures = geometries(rng, n)
    energies = -2078.0 + rng.normal(0, spread, n)
    return structures, energies, rng.normal(0, 1.0, (n, 3, 3))


class TestRobustZ:
    def test_textbook(self):
        """Median 3, MAD 1: z of 100 is 97 / 1.4826."""
        assert robust_z(np.array([1.0, 2, 3, 4, 100]), 1e-9) == pytest.approx(np.array([-2, -1, 0, 1, 97]) / 1.4826)

    def test_normal_values(self):
        """The scale is the standard deviation of a normal distribution."""
        values = np.random.default_rng(0).normal(5.0, 2.0, 100_000)
        assert robust_z(values, 1e-9) == pytest.approx((values - 5.0) / 2.0, abs=0.05)

    def test_no_spread(self):
        """Equal values give zero, rounding gives next to nothing, and a value off by more than the noise stands out."""
        assert (robust_z(np.full(9, 3.0), 1e-3) == 0).all()
        values = 3.0 + 1e-9 * np.arange(9)
        assert np.abs(robust_z(values, 1e-3)).max() < 1e-4
        values[4] = 3.1
        assert robust_z(values, 1e-3)[4] == pytest.approx(100, rel=1e-3)


class TestOneMolecule:
    def test_planted(self):
        """A wrong energy and a wrong force, each by itself."""
        structures, energies, forces = waters()
        energies[7] += 30.0
        forces[3, 1] = [0.0, 40.0, 30.0]
        found = find_outliers(labelled(structures, energies, forces), 6.0, 4)
        assert [(o.structure_id, o.quantity, o.unit, o.iteration) for o in found] == [
            (structures[7].structure_id, "energy_per_atom", "eV/atom", 4),
            (structures[3].structure_id, "largest_force", "eV/Angstrom", 4),
        ]
        assert found[0].value == pytest.approx(energies[7] / 3) and found[1].value == pytest.approx(50.0)
        assert found[0].z == pytest.approx(
            (energies[7] - np.median(energies)) / (1.4826 * np.median(np.abs(energies - np.median(energies)))),
            abs=0.01,
        )

    @pytest.mark.parametrize("seed", range(5))
    def test_nothing_planted(self, seed):
        assert find_outliers(labelled(*waters(seed, n=200)), 6.0, 0) == []

    def test_all_equal(self):
        """Labels that agree to rounding are no outliers of each other; one that does not is."""
        structures, energies, forces = waters()
        energies[:], forces[:] = -2078.0, 0.0
        energies[2] += 1e-9
        forces[2, 0, 0] = 1e-6
        assert find_outliers(labelled(structures, energies, forces), 6.0, 0) == []
        energies[2] += 0.01
        assert [o.structure_id for o in find_outliers(labelled(structures, energies, forces), 6.0, 0)] == [
            structures[2].structure_id
        ]

    def test_small_batches(self):
        """Fewer than eight are compared with all labels so far, and only those of the batch are reported."""
        structures, energies, forces = waters(n=24)
        energies[5] += 40.0
        energies[21] += 30.0
        earlier, batch = (
            labelled(structures[part], energies[part], forces[part]) for part in (slice(0, 20), slice(20, 24))
        )
        assert find_outliers(batch, 6.0, 1) == []
        assert [o.structure_id for o in find_outliers(batch, 6.0, 1, earlier)] == [structures[21].structure_id]
        few = labelled(structures[:3], energies[:3], forces[:3])
        assert find_outliers(batch, 6.0, 1, few) == [], "seven labels in all: nobody knows what is usual"

    def test_missing_properties(self):
        """Labels without energy do not count; other properties alone give no outliers."""
        structures, energies, _ = waters(n=12)
        given_ = [None if n < 3 else e for n, e in enumerate(energies)]
        given_[5] += 50.0
        assert [o.structure_id for o in find_outliers(labelled(structures, given_), 6.0, 0)] == [
            structures[5].structure_id
        ]
        assert find_outliers(labelled(structures, [None] * 12), 6.0, 0) == []
        assert find_outliers(labelled(structures, [*energies[:6], *[None] * 6]), 6.0, 0) == []


def mixture(rng, n=60):
    """Molecules of random composition; energies are sums over atoms with 0.5 eV of chemistry."""
    structures, energies = [], []
    for _ in range(n):
        numbers = rng.choice(list(ATOM_EV), size=rng.integers(3, 12))
        structures.append(Structure.create(numbers, rng.normal(0, 2, (len(numbers), 3))))
        energies.append(sum(ATOM_EV[z] for z in numbers) + rng.normal(0, 0.5))
    return structures, np.array(energies)


class TestCompositions:
    def test_a_wrong_label_among_different_molecules(self):
        """5 eV in a thousand: invisible in the energies per atom, plain in what the composition does not explain."""
        structures, energies = mixture(np.random.default_rng(0))
        assert find_outliers(labelled(structures, energies), 6.0, 0) == []
        energies[11] += 30.0
        per_atom = energies / [len(s) for s in structures]
        assert abs(robust_z(per_atom, 1e-9)[11]) < 3
        found = find_outliers(labelled(structures, energies), 6.0, 0)
        assert [(o.structure_id, o.quantity) for o in found] == [
            (structures[11].structure_id, "energy_per_atom_residual")
        ]
        assert found[0].value == pytest.approx(30.0 / len(structures[11]), abs=0.5)

    def test_many_wrong_labels_do_not_hide_each_other(self):
        rng = np.random.default_rng(1)
        structures, energies = mixture(rng)
        wrong = rng.choice(60, 9, replace=False)
        energies[wrong] += 500.0
        found = find_outliers(labelled(structures, energies), 6.0, 0)
        assert {o.structure_id for o in found} == {structures[i].structure_id for i in wrong}

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_least_absolute_deviations(self, seed):
        """The sum of |residual| is that of an exact solution by linear programming."""
        rng = np.random.default_rng(seed)
        structures, energies = mixture(rng, 40)
        energies[rng.choice(40, 4, replace=False)] += rng.normal(0, 100, 4)
        labels = labelled(structures, energies)
        residuals, fitted = energy_residuals(labels, np.ones(40, bool))
        assert fitted
        sizes = np.array([len(s) for s in structures])
        counts = np.array([[(s.numbers == z).sum() for z in ATOM_EV] for s in structures]) / sizes[:, None]
        n, p = counts.shape
        solution = linprog(
            np.concatenate([np.zeros(p), np.ones(n)]),
            A_ub=np.block([[counts, -np.eye(n)], [-counts, -np.eye(n)]]),
            b_ub=np.concatenate([energies / sizes, -energies / sizes]),
            bounds=[(None, None)] * p + [(0, None)] * n,
        )
        assert np.abs(residuals).sum() == pytest.approx(solution.fun, rel=1e-3)

    def test_charges_are_told_apart(self):
        """Ions lie eV above their molecules: no outliers, unless one differs from the other ions."""
        rng = np.random.default_rng(2)
        structures = geometries(rng, 20) + geometries(rng, 12, charge=2)
        energies = np.array([-2078.0] * 20 + [-2040.0] * 12) + rng.normal(0, 0.1, 32)
        assert find_outliers(labelled(structures, energies), 6.0, 0) == []
        energies[25] = -2078.0
        found = find_outliers(labelled(structures, energies), 6.0, 0)
        assert [o.structure_id for o in found] == [structures[25].structure_id]

    def test_as_many_compositions_as_labels(self):
        """A fit with no labels left to judge by flags nothing."""
        structures, energies = mixture(np.random.default_rng(3), 10)
        energies[4] += 300.0
        assert find_outliers(labelled(structures, energies), 6.0, 0) == []


def test_file(tmp_path):
    outliers = [
        Outlier("0123456789abcdef0123", 3, "energy_per_atom", -692.7312345678901, "eV/atom", -7.25),
        Outlier("00000000000000000012", 4, "largest_force", 51.5, "eV/Angstrom", 1e3),
    ]
    write_outliers(tmp_path / "outliers.csv", outliers)
    assert read_outliers(tmp_path / "outliers.csv") == outliers
    write_outliers(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "structure_id,iteration,quantity,value,unit,z\n"
    assert read_outliers(tmp_path / "none.csv") == []
