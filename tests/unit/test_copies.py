"""Copies: found whatever the order of equal atoms, rotation, translation and mirror image; and nothing else is found."""

import time
from itertools import permutations

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from quarry.structures import Structure
from quarry.structures import copies as module
from quarry.structures.copies import CopyFinder, copy_groups, invariant_keys
from quarry.structures.superposition import Geometry, copy_displacement

MOLECULES = ["H2O", "CH4", "C6H6", "CH3CH2OH", "NH3", "C2H2", "CO2", "SiH4", "H2", "Li"]
LINES = ([0, 1, 4, 10, 12, 17], [0, 1, 8, 11, 13, 17])
"""The shortest homometric rulers of six marks: the same distances, other places."""


def disguised(numbers, positions, rng, noise=0.0, mirror=None) -> Structure:
    """Another order of the atoms, another place, perhaps the mirror image; noise: largest displacement of an atom."""
    order = rng.permutation(len(numbers))
    shifts = rng.normal(size=positions.shape)
    shifts *= noise / max(1e-300, np.linalg.norm(shifts, axis=1).max())
    turn = Rotation.random(rng=rng).as_matrix()
    if rng.random() < 0.5 if mirror is None else mirror:
        turn = turn @ np.diag([1.0, 1.0, -1.0])
    return Structure.create(np.array(numbers)[order], ((positions + shifts) @ turn.T + rng.normal(0, 5, 3))[order])


def partners(structures, tolerance_A=1e-4) -> list[int]:
    return CopyFinder(tolerance_A).add(structures)[0].tolist()


def rattled(name, rng, width=0.05) -> Structure:
    atoms = molecule(name)
    return Structure.create(atoms.numbers, atoms.positions + rng.normal(0, width, atoms.positions.shape))


class TestMolecules:
    @settings(max_examples=150, deadline=None)
    @given(name=st.sampled_from(MOLECULES), seed=st.integers(0, 2**32 - 1), width=st.sampled_from([0.0, 0.1]))
    def test_a_disguise_is_found(self, name, seed, width):
        """With noise of half the tolerance; symmetric and distorted molecules alike."""
        rng = np.random.default_rng(seed)
        one = rattled(name, rng, width)
        found, displacements = CopyFinder(1e-4).add([one, disguised(one.numbers, one.positions, rng, noise=5e-5)])
        assert found.tolist() == [-1, 0]
        assert displacements[0] == np.inf and displacements[1] < 1e-4

    @settings(max_examples=100, deadline=None)
    @given(name=st.sampled_from([n for n in MOLECULES if n != "Li"]), seed=st.integers(0, 2**32 - 1))
    def test_noise_above_the_tolerance_is_none(self, name, seed):
        """One distance is longer by 5e-3: two atoms cannot both be within 1e-4 then."""
        rng = np.random.default_rng(seed)
        one = rattled(name, rng, 0.05)
        positions = one.positions.copy()
        away = positions[0] - positions[1]
        positions[0] += 5e-3 * away / np.linalg.norm(away)
        assert partners([one, disguised(one.numbers, positions, rng)]) == [-1, -1]

    @pytest.mark.parametrize("name", ["CH4", "C6H6", "C60", "CF4", "C3H4_D2d"])
    def test_symmetric_molecules(self, name):
        """The displacement is that of the noise whichever of the equivalent assignments is found first."""
        rng = np.random.default_rng(1)
        atoms = molecule(name)
        one = Structure.create(atoms.numbers, atoms.positions)
        copies = [disguised(atoms.numbers, atoms.positions, rng, noise=8e-5) for _ in range(20)]
        found, displacements = CopyFinder(1e-4).add([one, *copies])
        assert found.tolist() == [-1] + [0] * 20
        assert (displacements[1:] <= 1e-4).all() and (displacements[1:] > 1e-5).all()
        moved = atoms.positions.copy()
        moved[-1] *= 1.002
        assert partners([one, disguised(atoms.numbers, moved, rng)]) == [-1, -1]

    def test_homometric(self):
        """The same distances, and so the same keys, but another structure."""
        one, other = (Structure.create([1] * 6, np.outer(line, [1.0, 0, 0])) for line in LINES)
        assert np.abs(np.diff(invariant_keys([one, other]), axis=0)).max() < 1e-9
        assert partners([one, other]) == [-1, -1]

    def test_nearly_linear(self):
        """Bending by half a degree changes no distance by 2e-4, but moves atoms by more than 1e-4."""
        straight, bent = (
            Structure.create([8, 1, 1], 0.96 * np.array([[0, 0, 0], [1, 0, 0], [-np.cos(a), np.sin(a), 0]]))
            for a in (0.0, np.radians(0.5))
        )
        assert np.abs(np.diff(invariant_keys([straight, bent]), axis=0)).max() < 2e-4
        assert partners([straight, bent]) == [-1, -1]

    def test_mirror_images(self):
        """Enantiomers are copies: their energies are equal. A molecule with one of two centres mirrored is another one."""
        rng = np.random.default_rng(3)
        left, right = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)) + np.array([6.0, 0, 0])
        numbers = [6, 1, 9, 17, 35] * 2
        both = np.concatenate([left, right])
        one = Structure.create(numbers, both)
        enantiomer = disguised(numbers, both, rng, mirror=True)
        mirrored = right * [1.0, 1.0, -1.0]
        diastereomer = Structure.create(numbers, np.concatenate([left, mirrored]))
        assert partners([one, enantiomer, diastereomer]) == [-1, 0, -1]

    def test_other_atoms_or_state(self):
        water = molecule("H2O")
        states = [(0, 1), (1, 2), (0, 3), (0, 1)]
        structures = [Structure.create([8, 1, 1], water.positions, *state) for state in states]
        swapped = Structure.create([1, 8, 1], water.positions)
        assert partners([*structures, swapped]) == [-1, -1, -1, 0, -1]

    @settings(max_examples=150, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        size=st.integers(2, 5),
        spread=st.sampled_from([0.02, 0.04, 0.06]),
        width=st.sampled_from([0.05, 0.6]),
    )
    def test_brute_force(self, seed, size, spread, width):
        """Against all permutations, near a tolerance that is large beside the molecule."""
        rng = np.random.default_rng(seed)
        numbers = rng.choice([1, 6], size)
        positions = rng.normal(0, width, (size, 3))
        other = disguised(numbers, positions, rng, noise=spread)
        one = Structure.create(numbers, positions)
        best = smallest_displacement(one, other)
        found = copy_displacement(Geometry.of(one), Geometry.of(other), 0.03)
        assert (found is not None) == (best <= 0.03)
        assert found is None or best - 1e-9 <= found <= 0.03
        back = copy_displacement(Geometry.of(other), Geometry.of(one), 0.03)
        assert (back is None) == (found is None)

    def test_the_first_choice_may_be_wrong(self):
        """Two hydrogens nearer to each other than twice the tolerance: either may be either, but one way is off."""
        rng = np.random.default_rng(6)
        positions = np.concatenate([rng.normal(size=(4, 3)), np.zeros((2, 3))])
        positions[5] = positions[4] + [0, 0, 1.9e-4]
        one = Structure.create([6, 7, 8, 9, 1, 1], positions)
        for order in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4]):
            other = Structure.create(one.numbers[order], positions[order] + 2.0)
            found, displacements = CopyFinder(1e-4).add([one, other])
            assert found.tolist() == [-1, 0] and displacements[1] < 1e-6

    def test_atoms_on_one_spot(self):
        """Every assignment of atoms that cannot be told apart is as good: the search ends, and finds or does not."""
        rng = np.random.default_rng(0)
        positions = np.concatenate([np.zeros((9, 3)), rng.normal(size=(3, 3))])
        one = Structure.create([1] * 12, positions)
        assert partners([one, disguised([1] * 12, positions, rng)]) == [-1, 0]
        off = positions.copy()
        off[0, 0] = 1.5e-4
        start = time.perf_counter()
        assert partners([one, Structure.create([1] * 12, off)]) == [-1, -1]
        assert time.perf_counter() - start < 20


def smallest_displacement(one: Structure, other: Structure) -> float:
    """The plain definition: the best of all assignments of equal atoms, each superposed by least squares."""
    x = one.positions - one.positions.mean(axis=0)
    best = np.inf
    for order in permutations(range(len(x))):
        if not np.array_equal(other.numbers[list(order)], one.numbers):
            continue
        y = other.positions[list(order)]
        y = y - y.mean(axis=0)
        left, _, right = np.linalg.svd(y.T @ x)
        best = min(best, np.linalg.norm(y @ left @ right - x, axis=1).max())
    return best


class TestFinder:
    def pool(self, rng, count=60) -> list[Structure]:
        """Geometries of two molecules, a third of them copies of one before."""
        structures: list[Structure] = []
        for number in range(count):
            if number > 2 and rng.random() < 0.35:
                first = structures[rng.integers(number)]
                structures.append(disguised(first.numbers, first.positions, rng, noise=2e-5))
            else:
                structures.append(rattled(rng.choice(["H2O", "CH4"]), rng))
        return structures

    @pytest.mark.parametrize("most_pairs", [0, 3, 1_000_000])
    def test_order_alone_counts(self, most_pairs, monkeypatch):
        """The same partners in one call, in many, and where blocks are cut in two."""
        rng = np.random.default_rng(5)
        structures = self.pool(rng)
        expected = []
        for number, structure in enumerate(structures):
            firsts = [k for k in range(number) if expected[k] < 0]
            alike = [k for k in firsts if np.array_equal(np.sort(structures[k].numbers), np.sort(structure.numbers))]
            near = (copy_displacement(Geometry.of(structures[k]), Geometry.of(structure), 1e-4) for k in alike)
            expected.append(next((k for k, off in zip(alike, near, strict=True) if off is not None), -1))
        assert 10 < sum(partner >= 0 for partner in expected) < 40
        monkeypatch.setattr(module, "MOST_PAIRS", most_pairs)
        monkeypatch.setattr(module, "BLOCK_NUMBERS", 50)
        assert partners(structures) == expected
        finder = CopyFinder(1e-4)
        parts = [structures[a:b] for a, b in [(0, 1), (1, 2), (2, 31), (31, 32), (32, 60)]]
        assert np.concatenate([finder.add(part)[0] for part in parts]).tolist() == expected

    def test_of_one_molecule(self):
        """20,000 geometries of ethanol with 20 copies: the search is not quadratic."""
        rng = np.random.default_rng(2)
        atoms = molecule("CH3CH2OH")
        moves = rng.normal(0, 0.05, (20_000, 9, 3))
        structures = [Structure.create(atoms.numbers, atoms.positions + move) for move in moves]
        structures += [disguised(s.numbers, s.positions, rng) for s in structures[:2000:100]]
        start = time.perf_counter()
        found = partners(structures)
        assert time.perf_counter() - start < 30
        assert found[20_000:] == list(range(0, 2000, 100)) and set(found[:20_000]) == {-1}

    def test_of_copies_alone(self):
        """3,000 times the same molecule: 4.5 million pairs, but each is held against the first only."""
        rng = np.random.default_rng(2)
        atoms = molecule("CH3CH2OH")
        structures = [disguised(atoms.numbers, atoms.positions, rng) for _ in range(3000)]
        start = time.perf_counter()
        assert partners(structures) == [-1] + [0] * 2999
        assert time.perf_counter() - start < 30

    def test_chains_of_copies_are_one_group(self):
        """Bonds of H2 in steps that are copies while the ends are not: no side of a split may get a part of the chain."""
        h2 = [Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, d]])) for d in (1.0, 1.0005, 1.00018, 1.00035, 2.0)]
        groups, found, displacements = copy_groups(h2, 1e-4)
        assert found.tolist() == [-1, -1, 0, 1, -1]
        assert groups.tolist() == [0, 0, 0, 0, 4]
        assert displacements[2] == pytest.approx(9e-5) and displacements[3] == pytest.approx(7.5e-5)
        apart, *_ = copy_groups([h2[0], h2[1], h2[2]], 1e-4)
        assert apart.tolist() == [0, 1, 0]


class TestPeriodic:
    def quartz_like(self, rng, cell) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.array([14, 14, 8, 8, 8, 1])
        return numbers, rng.random((6, 3)) @ cell

    def create(self, numbers, positions, cell, pbc=(True, True, True)) -> Structure:
        return Structure.create(numbers, positions, cell=np.asarray(cell, dtype=float), pbc=pbc)

    CELLS = (
        np.diag([4.0, 5.0, 6.0]),
        4.5 * np.eye(3),
        np.array([[4.0, 0, 0], [-2.0, 2 * 3**0.5, 0], [0, 0, 5.0]]),
        np.array([[4.0, 0, 0], [0.8, 4.4, 0], [0.5, -0.9, 5.1]]),
    )

    @pytest.mark.parametrize("cell", CELLS)
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_a_disguise_is_found(self, cell, seed):
        """Translation, atoms in other cells, permutation, rotation or mirror image of cell and atoms, other vectors."""
        rng = np.random.default_rng(seed)
        numbers, positions = self.quartz_like(rng, cell)
        order = rng.permutation(6)
        moved = positions + rng.normal(0, 4, 3) + rng.integers(-2, 3, (6, 3)) @ cell
        turn = Rotation.random(rng=rng).as_matrix() @ np.diag([1, 1, rng.choice([-1, 1])])
        vectors = cell[rng.permutation(3)] * rng.choice([-1, 1], 3)[:, None]
        vectors[0] += rng.choice([0, 1]) * vectors[1] if rng.random() < 0.5 else 0
        copy = self.create(numbers[order], moved[order] @ turn.T, vectors @ turn.T)
        other = positions.copy()
        other[0] += 0.01
        found = CopyFinder(1e-4).add([self.create(numbers, positions, cell), copy, self.create(numbers, other, cell)])
        assert found[0].tolist() == [-1, 0, -1]
        assert found[1][1] < 1e-5

    def test_symmetry_of_a_cubic_cell(self):
        """Atoms turned in a cell that stays as it is, and an inverted crystal."""
        cell = 4.0 * np.eye(3)
        positions = np.array([[0, 0, 0], [1.1, 0.3, 0.7], [0.2, 1.9, 0.9]])
        one = self.create([11, 17, 8], positions, cell)
        rotated = self.create([11, 17, 8], positions[:, [1, 2, 0]] * [1, -1, 1], cell)
        inverted = self.create([17, 8, 11], 2.0 - positions[[1, 2, 0]], cell)
        assert partners([one, rotated, inverted]) == [-1, 0, 0]

    def test_no_copies(self):
        """Another volume, another place of one atom, an open direction, a supercell (which is not looked for)."""
        one = self.create([6, 6], [[0, 0, 0], [1, 1, 1]], 4 * np.eye(3))
        larger = self.create([6, 6], [[0, 0, 0], [1, 1, 1]], 4.001 * np.eye(3))
        moved = self.create([6, 6], [[0, 0, 0], [1, 1, 1.01]], 4 * np.eye(3))
        opened = self.create([6, 6], [[0, 0, 0], [1, 1, 1]], 4 * np.eye(3), (True, True, False))
        assert partners([one, larger, moved, opened]) == [-1] * 4

    def test_slab(self):
        """Moved along its normal, turned over and turned about it; the third vector does not matter."""
        rng = np.random.default_rng(4)
        cell, pbc = np.diag([4.0, 5.0, 20.0]), (True, True, False)
        positions = rng.random((4, 3)) @ np.diag([4.0, 5.0, 3.0])
        numbers = [29, 29, 8, 1]
        turn = Rotation.random(rng=rng).as_matrix()
        over = self.create(numbers, (positions * [1, -1, -1] + np.array([0.3, 0.4, 9])) @ turn.T, cell @ turn.T, pbc)
        vacuum = self.create(numbers, positions + np.array([0, 0, 4]), np.diag([4.0, 5.0, 30.0]), pbc)
        squeezed = self.create(numbers, positions * [1, 1, 0.99], cell, pbc)
        assert partners([self.create(numbers, positions, cell, pbc), over, vacuum, squeezed]) == [-1, 0, 0, -1]

    def test_equation_of_state(self):
        """200 volumes of one crystal, in primitive cells, are no copies, and are told apart at once."""
        crystals = [bulk("Cu", a=3.5 + 0.002 * n) for n in range(200)]
        structures = [self.create(c.numbers, c.positions, c.cell.array) for c in crystals]
        start = time.perf_counter()
        assert set(partners(structures)) == {-1}
        assert time.perf_counter() - start < 5
