"""Descriptors against loops over atoms, analytic values and their invariances."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from ase.build import molecule
from ase.units import Bohr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from quarry.config.descriptors import CoulombMatrix, InverseDistances
from quarry.descriptors import coulomb, distances
from quarry.descriptors.compute import compute_features
from quarry.descriptors.coulomb import coulomb_matrix
from quarry.descriptors.distances import inverse_distances
from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet

DISTANCES, COULOMB = InverseDistances(kind="inverse_distances"), CoulombMatrix(kind="coulomb_matrix")
SEEDS = st.integers(0, 2**32 - 1)


def exact(numbers, positions, pbc=(False, False, False)):
    """A structure whose positions are not rounded, so that a rotated copy is exact."""
    return Structure(np.asarray(numbers, dtype=np.int64), np.asarray(positions, dtype=float), pbc=pbc)


def random_geometry(rng, n_atoms):
    """Atoms on a jittered grid: none closer than about 0.8 Angstrom."""
    grid = np.array([(i, j, k) for i in range(3) for j in range(3) for k in range(3)], dtype=float)
    return 1.4 * grid[rng.permutation(27)[:n_atoms]] + rng.uniform(-0.3, 0.3, (n_atoms, 3))


def moved(rng, positions):
    rotation = Rotation.random(rng=rng).as_matrix()
    return positions @ rotation.T + rng.uniform(-5, 5, 3)


def molecules(*names):
    return StructureSet.from_structures(Structure.from_atoms(molecule(name)) for name in names)


def test_inverse_distances_equal_a_loop_over_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    reference = Structure.from_atoms(molecule("CH3CH2OH"))
    frames = [
        Structure.create(reference.numbers, reference.positions + 0.1 * rng.normal(size=(9, 3))) for _ in range(7)
    ]
    expected = [
        [
            reference.to_atoms().get_distance(i, j) / frame.to_atoms().get_distance(i, j)
            for i in range(9)
            for j in range(i + 1, 9)
        ]
        for frame in frames
    ]
    structures = StructureSet.from_structures(frames)
    features = inverse_distances(structures, reference)
    np.testing.assert_allclose(features, expected, rtol=1e-13)
    monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 3 * 36 * 2)
    np.testing.assert_array_equal(inverse_distances(structures, reference), features)


def test_the_reference_itself_is_all_ones():
    water = Structure.from_atoms(molecule("H2O"))
    np.testing.assert_array_equal(inverse_distances(StructureSet.from_structures([water]), water), np.ones((1, 3)))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 8))
def test_inverse_distances_do_not_change_when_the_molecule_moves(seed, n_atoms):
    rng = np.random.default_rng(seed)
    numbers, reference, positions = (
        rng.integers(1, 10, n_atoms),
        random_geometry(rng, n_atoms),
        random_geometry(rng, n_atoms),
    )
    pair = StructureSet.from_structures([exact(numbers, positions), exact(numbers, moved(rng, positions))])
    features = inverse_distances(pair, exact(numbers, reference))
    np.testing.assert_allclose(features[0], features[1], rtol=1e-11)


@pytest.mark.parametrize("other", ["H2O2", "SO2"])
def test_another_molecule_is_named(other):
    structures = molecules("H2O", other)
    with pytest.raises(QuarryError, match=rf"descriptor\.kind.*{structures.ids[1]}") as caught:
        inverse_distances(structures, structures[0])
    assert "\n" not in str(caught.value)


def test_another_order_of_the_atoms_is_an_error():
    water = Structure.from_atoms(molecule("H2O"))
    turned = Structure.create(water.numbers[::-1], water.positions[::-1])
    with pytest.raises(QuarryError, match=turned.structure_id):
        inverse_distances(StructureSet.from_structures([turned]), water)


def test_two_atoms_in_the_same_place_are_an_error():
    water = Structure.from_atoms(molecule("H2O"))
    collapsed = Structure.create(water.numbers, np.zeros((3, 3)))
    structures = StructureSet.from_structures([water, collapsed])
    for section in (DISTANCES, COULOMB):
        with pytest.raises(QuarryError, match=collapsed.structure_id):
            compute_features(structures, section, water)
    with pytest.raises(QuarryError, match=r"descriptor\.reference"):
        inverse_distances(structures, collapsed)
    atom = Structure.create([2], np.zeros((1, 3)))
    with pytest.raises(QuarryError, match="two atoms"):
        inverse_distances(StructureSet.from_structures([atom]), atom)


def coulomb_by_loops(structure, size):
    """Rupp et al., equation 1, straight from the paper: one matrix, sorted by row norm, padded."""
    n = len(structure)
    matrix = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            z = int(structure.numbers[i]) * int(structure.numbers[j])
            distance = np.linalg.norm(structure.positions[i] - structure.positions[j]) / Bohr
            matrix[i, j] = 0.5 * structure.numbers[i] ** 2.4 if i == j else z / distance
    order = sorted(range(n), key=lambda i: -np.linalg.norm(matrix[i]))
    padded = np.zeros((size, size))
    padded[:n, :n] = matrix[order][:, order]
    return padded, matrix


def test_coulomb_matrix_of_hydrogen_at_one_bohr():
    hydrogen = StructureSet.from_structures([exact([1, 1], [[0, 0, 0], [0, 0, Bohr]])])
    np.testing.assert_allclose(coulomb_matrix(hydrogen), [[0.5, 1.0, 0.5]], rtol=1e-14)


def test_coulomb_matrices_equal_loops_over_atoms(monkeypatch):
    rng = np.random.default_rng(1)
    frames = [exact(rng.integers(1, 18, n), random_geometry(rng, n)) for n in (3, 9, 1, 6, 9, 2)]
    structures = StructureSet.from_structures(frames)
    features = coulomb_matrix(structures)
    assert features.shape == (6, 45)
    for row, frame in zip(features, frames, strict=True):
        padded, unsorted = coulomb_by_loops(frame, 9)
        np.testing.assert_allclose(row, padded[np.triu_indices(9)], rtol=1e-12)
        matrix = np.zeros((9, 9))
        matrix[np.triu_indices(9)] = row
        matrix = matrix + np.triu(matrix, 1).T
        spectrum = np.sort(np.concatenate([np.linalg.eigvalsh(unsorted), np.zeros(9 - len(frame))]))
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix), spectrum, atol=1e-9)
    monkeypatch.setattr(coulomb, "BLOCK_ELEMENTS", 3 * 81 * 2)
    np.testing.assert_array_equal(coulomb_matrix(structures), features)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 8))
def test_coulomb_matrix_does_not_change_when_the_molecule_moves_or_its_atoms_are_permuted(seed, n_atoms):
    rng = np.random.default_rng(seed)
    numbers, positions = rng.integers(1, 10, n_atoms), random_geometry(rng, n_atoms)
    norms = np.sort(np.linalg.norm(coulomb_by_loops(exact(numbers, positions), n_atoms)[1], axis=1))
    assume(n_atoms == 1 or np.min(np.diff(norms)) > 1e-6)
    order = rng.permutation(n_atoms)
    structures = [exact(numbers, positions), exact(numbers[order], moved(rng, positions)[order])]
    features = coulomb_matrix(StructureSet.from_structures(structures))
    np.testing.assert_allclose(features[0], features[1], rtol=1e-10)


def test_coulomb_matrix_of_many_molecules_works_in_blocks(monkeypatch):
    n, atoms = 20_000, 5
    rng = np.random.default_rng(2)
    structures = StructureSet(
        ids=np.array([str(i) for i in range(n)]),
        offsets=np.arange(0, n * atoms + 1, atoms),
        numbers=np.tile([6, 1, 1, 1, 1], n),
        positions=rng.normal(size=(n * atoms, 3)),
        cells=np.zeros((n, 3, 3)),
        pbc=np.zeros((n, 3), dtype=bool),
        charges=np.zeros(n, dtype=np.int64),
        multiplicities=np.ones(n, dtype=np.int64),
    )
    monkeypatch.setattr(coulomb, "BLOCK_ELEMENTS", 75 * 500)
    tracemalloc.start()
    try:
        features = coulomb_matrix(structures)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # All pair vectors at once would be 12 MB beside the result.
    assert peak - features.nbytes < 4e6


def test_compute_features_by_kind():
    structures = molecules("H2O", "H2O")
    distances_ = compute_features(structures, DISTANCES, structures[0])
    matrices = compute_features(structures, COULOMB, None)
    assert distances_.shape == (2, 3)
    assert matrices.shape == (2, 6)
    assert distances_.dtype == matrices.dtype == np.float64
    with pytest.raises(QuarryError, match=r"descriptor\.reference"):
        compute_features(structures, DISTANCES, None)


def test_an_empty_set_has_no_rows():
    empty = StructureSet.from_structures([])
    water = Structure.from_atoms(molecule("H2O"))
    assert compute_features(empty, DISTANCES, water).shape == (0, 3)
    assert compute_features(empty, COULOMB, None).shape == (0, 0)


def test_a_periodic_structure_is_an_error():
    cell = Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, 0.7]]), cell=8 * np.eye(3), pbc=(True, True, True))
    with pytest.raises(QuarryError, match=cell.structure_id):
        compute_features(StructureSet.from_structures([cell]), COULOMB, None)
