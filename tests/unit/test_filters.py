"""Filters of the pool: what is rejected, why, and that it does not depend on how a structure lies in space."""

import numpy as np
import pytest
from ase.build import molecule
from ase.data import covalent_radii
from ase.neighborlist import build_neighbor_list, natural_cutoffs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from quarry.config.descriptors import CoulombMatrix, InverseDistances
from quarry.config.filters import Filters
from quarry.descriptors.compute import compute_features
from quarry.errors import QuarryError
from quarry.stages.filtering import PoolFilter, Rejected, counts_of
from quarry.structures import Structure, StructureSet
from quarry.structures.filters import NearDuplicates, bonds_of, closest_contact, count_fragments, count_other_bonds
from support.campaigns import WATER
from support.candidates import MOLECULES, put_through, structure_of, water

DISTANCES, COULOMB = InverseDistances(kind="inverse_distances"), CoulombMatrix(kind="coulomb_matrix")


class TestGeometry:
    def test_closest_contact_by_hand(self):
        """O-H of 0.4 Angstrom over 0.66 + 0.31."""
        near = Structure.create([8, 1, 1], np.array([[0, 0, 0], [0.4, 0, 0], [0, 3.0, 0]]))
        assert closest_contact(near, 0.5) == pytest.approx(0.4 / 0.97)
        assert closest_contact(near, 0.4) == np.inf
        assert closest_contact(Structure.create([2], np.zeros((1, 3))), 0.5) == np.inf

    @pytest.mark.parametrize("name", MOLECULES)
    def test_bonds_are_those_of_ase(self, name):
        """Against ASE's own neighbour list, with its natural cut-offs times 1.3."""
        atoms = molecule(name)
        neighbours = build_neighbor_list(
            atoms, natural_cutoffs(atoms, mult=1.3), self_interaction=False, bothways=False, skin=0.0
        )
        expected = {tuple(sorted((i, int(j)))) for i in range(len(atoms)) for j in neighbours.get_neighbors(i)[0]}
        assert {tuple(map(int, pair)) for pair in bonds_of(structure_of(atoms), 1.3)} == expected
        assert count_fragments(structure_of(atoms), 1.3) == 1

    def test_every_molecule_of_g2_passes_the_default(self):
        """The default cannot hurt: no molecule of the G2 set is anywhere near it, and H2 only below 0.31 Angstrom."""
        from ase.collections import g2

        closest = {name: closest_contact(structure_of(g2[name]), np.inf) for name in g2.names if len(g2[name]) > 1}
        assert min(closest.values()) > 0.7
        h2 = Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, 0.32]]))
        cr2 = Structure.create([24, 24], np.array([[0, 0, 0], [0, 0, 1.68]]))
        assert len(put_through(PoolFilter(Filters(), None), [h2, cr2])) == 2

    def test_fragments(self):
        assert count_fragments(water(), 1.3) == 1
        assert count_fragments(water(shift=1.0), 1.3) == 2
        assert count_fragments(water(scale=3.0, shift=4.0), 1.3) == 3

    def test_other_bonds(self):
        """One bond broken, one formed: two."""
        chain = Structure.create([6, 6, 6], np.array([[0.0, 0, 0], [1.5, 0, 0], [3.0, 0, 0]]))
        moved = Structure.create([6, 6, 6], np.array([[0.0, 0, 0], [1.5, 0, 0], [-1.5, 0, 0]]))
        reference = bonds_of(chain, 1.3)
        assert count_other_bonds(reference, reference) == 0
        assert count_other_bonds(bonds_of(moved, 1.3), reference) == 2

    @settings(max_examples=40, deadline=None)
    @given(name=st.sampled_from(MOLECULES), seed=st.integers(0, 2**32 - 1))
    def test_invariance(self, name, seed):
        """Rotation, translation and another order of the atoms change no verdict."""
        rng = np.random.default_rng(seed)
        atoms = molecule(name)
        positions = atoms.positions + rng.normal(0, 0.3, atoms.positions.shape)
        order = rng.permutation(len(atoms))
        rotated = positions @ Rotation.random(rng=rng).as_matrix().T + rng.normal(0, 5, 3)
        one = Structure.create(atoms.numbers, positions)
        other = Structure.create(atoms.numbers[order], rotated[order])
        radii = covalent_radii[atoms.numbers]
        i, j = np.triu_indices(len(atoms), 1)
        ratios = np.linalg.norm(positions[i] - positions[j], axis=1) / (radii[i] + radii[j])
        assume(np.abs(ratios - 1.3).min() > 1e-4)
        assert closest_contact(other, np.inf) == pytest.approx(closest_contact(one, np.inf), abs=1e-5)
        assert closest_contact(one, np.inf) == pytest.approx(ratios.min(), abs=1e-5)
        assert count_fragments(other, 1.3) == count_fragments(one, 1.3)
        reference = (Structure.create(atoms.numbers, atoms.positions), molecule(name).positions[order])
        permuted = Structure.create(atoms.numbers[order], reference[1])
        assert count_other_bonds(bonds_of(other, 1.3), bonds_of(permuted, 1.3)) == count_other_bonds(
            bonds_of(one, 1.3), bonds_of(reference[0], 1.3)
        )


class TestPeriodic:
    def cell(self, positions, numbers=(6, 6), edge=4.0, pbc=(True, True, True)) -> Structure:
        return Structure.create(list(numbers), np.array(positions), cell=edge * np.eye(3), pbc=pbc)

    def test_contact_across_the_border(self):
        """Two carbons 3.6 Angstrom apart in the cell are 0.4 apart across its border, unless that side is open."""
        positions = [[0.2, 0, 0], [3.8, 0, 0]]
        assert closest_contact(self.cell(positions), 0.5) == pytest.approx(0.4 / 1.52)
        assert closest_contact(self.cell(positions, pbc=(False, True, True)), 0.5) == np.inf

    def test_own_image(self):
        atom = self.cell([[0, 0, 0]], [6], edge=0.6)
        assert closest_contact(atom, 0.5) == pytest.approx(0.6 / 1.52)

    def test_bonds_across_the_border(self):
        """A chain of carbons is connected through its images, and its bonds do not depend on where the cell is cut."""
        chain = self.cell([[0.0, 0, 0], [1.4, 0, 0], [2.8, 0, 0]], [6, 6, 6], edge=4.2)
        moved = np.array([[-2.2, 1.0, 0], [-0.8, 1.0, 0], [0.6, 1.0, 0]])
        shifted = self.cell(moved, [6, 6, 6], edge=4.2)
        assert count_fragments(chain, 1.3) == 1
        assert len(bonds_of(chain, 1.3)) == 3
        assert count_other_bonds(bonds_of(shifted, 1.3), bonds_of(chain, 1.3)) == 0

    def test_images_of_one_pair_count(self):
        """Two carbons in a cell of 2.8 Angstrom have two bonds with each other; a single atom one with its image."""
        assert bonds_of(self.cell([[0, 0, 0], [1.4, 0, 0]], edge=2.8, pbc=(True, False, False)), 1.3).tolist() == [
            [0, 1],
            [0, 1],
        ]
        assert bonds_of(self.cell([[0, 0, 0]], [6], edge=1.4, pbc=(True, False, False)), 1.3).tolist() == [[0, 0]]

    def test_near_duplicates_need_a_descriptor_that_knows_cells(self):
        features = lambda s, reference: compute_features(s, COULOMB, reference)  # noqa: E731
        with pytest.raises(QuarryError, match=r"descriptor.kind: coulomb_matrix is for molecules.*periodic"):
            put_through(PoolFilter(Filters(near_duplicates=0.1), None, features), [self.cell([[0, 0, 0], [1.4, 0, 0]])])


def greedy(features, distance):
    """The plain definition: a row stays if no row that stays before it is near; (partner, distance) of each."""
    stay, result = [], []
    for row in range(len(features)):
        near = [n for n, k in enumerate(stay) if np.linalg.norm(features[row] - features[k]) <= distance]
        result.append((near[0], np.linalg.norm(features[row] - features[stay[near[0]]])) if near else (-1, np.inf))
        if not near:
            stay.append(row)
    return np.array([r[0] for r in result]), np.array([r[1] for r in result])


class TestNearDuplicates:
    @pytest.mark.parametrize(("distance", "columns"), [(0.05, 1), (0.3, 3), (2.0, 3), (0.8, 20), (50.0, 3)])
    def test_brute_force(self, distance, columns, monkeypatch):
        """Against the definition, in calls, blocks and tiles of awkward sizes."""
        monkeypatch.setattr("quarry.structures.filters.BLOCK_ROWS", 7)
        monkeypatch.setattr("quarry.structures.filters.TILE_ROWS", 5)
        monkeypatch.setattr("quarry.structures.filters.BLOCK_NUMBERS", 50)
        rng = np.random.default_rng(columns)
        features = rng.normal(size=(300, columns)) + 1000.0
        features[200:] = features[rng.integers(0, 200, 100)] + rng.normal(0, 0.02, (100, columns))
        thinning = NearDuplicates(distance)
        parts = [thinning.add(part) for part in np.split(features, [1, 2, 90, 91, 250])]
        partners, distances = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        expected, how_far = greedy(features, distance)
        assert (partners == expected).all()
        assert distances == pytest.approx(how_far)
        assert 0 < (partners < 0).sum() < 300

    def test_exactly_the_distance_and_equal_rows(self):
        """At 1e3 from the origin, where squared distances from a matrix product are wrong by 1e-10."""
        features = 1e3 + np.array([[0.0], [1e-6], [2e-6], [2e-6], [4e-6]])
        features = np.concatenate([features, np.zeros((1, 1))])
        partners, _ = NearDuplicates(1.5e-6).add(features)
        assert partners.tolist() == [-1, 0, -1, 1, -1, -1]

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_rotated_translated_reordered_copies_are_near_duplicates(self, seed):
        """The descriptor sees the molecule only: copies go, and go through the filter with the same verdicts."""
        rng = np.random.default_rng(seed)
        atoms = molecule("C2H6")
        order = rng.permutation(len(atoms))
        positions = atoms.positions + rng.normal(0, 0.05, atoms.positions.shape)
        rotated = positions @ Rotation.random(rng=rng).as_matrix().T + rng.normal(0, 5, 3)
        other = atoms.positions + rng.normal(0, 0.05, atoms.positions.shape)
        structures = [
            Structure.create(atoms.numbers, positions),
            Structure.create(atoms.numbers[order], rotated[order]),
            Structure.create(atoms.numbers, other),
        ]
        features = lambda s, reference: compute_features(s, COULOMB, reference)  # noqa: E731
        pool_filter = put_through(PoolFilter(Filters(near_duplicates=1e-2, copies="keep"), None, features), structures)
        assert [item.reason for item in pool_filter.rejected] == ["near_duplicate"]
        assert pool_filter.rejected[0].number == 1
        assert pool_filter.rejected[0].partner == structures[0].structure_id


class TestPoolFilter:
    def features(self, structures, reference):
        return compute_features(structures, DISTANCES, reference)

    def test_every_reason(self):
        broken, close, good = water(shift=1.0), water(scale=0.4), water()
        near = water(scale=1.005)
        copy = Structure.create([1, 8, 1], 3.0 - water(scale=1.00001).positions[[2, 0, 1]])
        filters = Filters(bonds="connected", near_duplicates=0.01)
        pool_filter = put_through(
            PoolFilter(filters, None, self.features), [close, good, good, broken, near, water(scale=1.1), copy], "a.xyz"
        )
        o_h = np.linalg.norm(WATER[1] - WATER[0])
        assert pool_filter.rejected[0] == Rejected(
            "a.xyz", 0, close.structure_id, "atoms_too_close", pytest.approx(0.4 * o_h / 0.97, abs=1e-6), 0.5
        )
        assert pool_filter.rejected[1] == Rejected("a.xyz", 2, good.structure_id, "identical", 0.0, 0.0)
        assert pool_filter.rejected[2] == Rejected("a.xyz", 3, broken.structure_id, "not_connected", 2, 1)
        assert (
            pool_filter.rejected[3].reason == "near_duplicate" and pool_filter.rejected[3].partner == good.structure_id
        )
        assert pool_filter.rejected[3].value == pytest.approx(
            np.linalg.norm(np.diff(self.features(StructureSet.from_structures([good, near]), good), axis=0))
        )
        copied = pool_filter.rejected[4]
        assert (copied.number, copied.reason, copied.limit, copied.partner) == (6, "copy", 1e-4, good.structure_id)
        # A bond that is longer by 1e-5 of its length moves its atoms about their centre by some of that.
        assert 1e-6 < copied.value < 1e-5 * o_h + 1e-6
        assert list(pool_filter.kept.ids) == [good.structure_id, water(scale=1.1).structure_id]
        assert pool_filter.reference is not None and pool_filter.reference.structure_id == good.structure_id
        assert counts_of(pool_filter.rejected) == (
            "1 duplicates, 1 with atoms too close, 1 in several parts, 1 copies, 1 near-duplicates"
        )

    def test_all_off(self):
        """Only identical structures are rejected, whatever the others look like."""
        structures = [water(scale=0.1), water(shift=9.0), water(), water(scale=1.000002)]
        pool_filter = put_through(
            PoolFilter(Filters(min_distance_factor=None, copies="keep"), None, self.features), [*structures, water()]
        )
        assert len(pool_filter) == 4 and [item.reason for item in pool_filter.rejected] == ["identical"]

    def test_same_bonds(self):
        """Against the first structure or a given one; bonds may stretch but not break."""
        pool_filter = put_through(
            PoolFilter(Filters(bonds="same"), None), [water(), water(scale=1.2), water(shift=1.0)]
        )
        assert [(item.number, item.reason, item.value) for item in pool_filter.rejected] == [(2, "other_bonds", 1)]
        pool_filter = put_through(PoolFilter(Filters(bonds="same"), water(shift=1.0)), [water(), water(shift=1.1)])
        assert [(item.number, item.value) for item in pool_filter.rejected] == [(0, 1)]
        with pytest.raises(QuarryError, match=r"filters.bonds: same is for geometries of one molecule"):
            put_through(PoolFilter(Filters(bonds="same"), water()), [structure_of(molecule("CH4"))])

    def test_other_charge_is_no_near_duplicate(self):
        """A descriptor does not see the charge; the ion's energy is another one."""
        pool_filter = put_through(
            PoolFilter(Filters(near_duplicates=0.1), None, self.features),
            [water(), water(charge=2), water(scale=1.001), water(scale=1.001, charge=2)],
        )
        assert [item.number for item in pool_filter.rejected] == [2, 3]
        assert [item.partner for item in pool_filter.rejected] == [water().structure_id, water(charge=2).structure_id]
