"""The potential in double precision: invariances, its invariants by hand, and all derivatives by differences."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import torch

from quarry.errors import QuarryError
from quarry.models.gmnn.bilinear import CompiledSums, TorchSums, from_blocks, in_blocks, width_for
from quarry.models.gmnn.contractions import Contractions
from quarry.models.gmnn.moments import R_MIN_A, Moments
from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.models.gmnn.potential import N_BASIS, N_RADIAL
from quarry.structures import Structure, StructureSet
from support.potentials import CUTOFF_A, ELEMENTS, evaluated, mixed, potential, random_molecule, small_cell

MODEL = potential()


def moved(structure: Structure, positions: np.ndarray, cell: np.ndarray | None = None) -> Structure:
    """The structure elsewhere, its positions not rounded."""
    return replace(structure, positions=positions, cell=structure.cell if cell is None else cell)


def rotation(seed: int) -> np.ndarray:
    """A random rotation and reflection."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def by_hand(structure: Structure, embedding: np.ndarray) -> np.ndarray:
    """The invariants of each atom of a molecule, straight from the formulas; one by one, in their order."""
    rows = []
    for i, place in enumerate(structure.positions):
        tensors = [np.zeros((N_RADIAL,) + (3,) * rank) for rank in range(4)]
        for j, other in enumerate(structure.positions):
            r = float(np.linalg.norm(other - place))
            if i == j or r >= CUTOFF_A:
                continue
            n, beta = (other - place) / r, N_BASIS**2 / CUTOFF_A**2
            types = np.searchsorted(ELEMENTS, structure.numbers[[i, j]])
            for radial in range(N_RADIAL):
                value = 0.0
                for k in range(N_BASIS):
                    centre = R_MIN_A + k * (CUTOFF_A - R_MIN_A) / N_BASIS
                    gaussian = (2 * beta / math.pi) ** 0.25 * math.exp(-beta * (r - centre) ** 2)
                    value += embedding[types[0] * len(ELEMENTS) + types[1], radial, k] * gaussian / math.sqrt(N_BASIS)
                value *= 0.5 * (math.cos(math.pi * r / CUTOFF_A) + 1)
                for rank, tensor in enumerate(tensors):
                    for index in product(range(3), repeat=rank):
                        tensor[(radial, *index)] += value * math.prod(n[a] for a in index)
        m0, m1, m2, m3 = tensors
        pairs, axes = list(combinations_with_replacement(range(N_RADIAL), 2)), range(3)
        row = list(m0)
        row += [sum(m1[r, a] * m1[s, a] for a in axes) for r, s in pairs]
        row += [sum(m2[r, a, b] * m2[s, a, b] for a in axes for b in axes) for r, s in pairs]
        row += [sum(m3[r][abc] * m3[s][abc] for abc in product(axes, repeat=3)) for r, s in pairs]
        row += [
            sum(m2[r, a, b] * m2[s, a, c] * m2[t, b, c] for a, b, c in product(axes, repeat=3))
            for r, s, t in combinations_with_replacement(range(N_RADIAL), 3)
        ]
        row += [
            sum(m1[r, a] * m1[s, b] * m2[t, a, b] for a, b in product(axes, repeat=2))
            for r, s in pairs
            for t in range(N_RADIAL)
        ]
        row += [
            sum(m3[r, a, b, c] * m3[s, a, b, d] * m2[t, c, d] for a, b, c, d in product(axes, repeat=4))
            for r, s in pairs
            for t in range(N_RADIAL)
        ]
        row += [
            sum(m3[r, a, b, c] * m2[s, a, b] * m1[t, c] for a, b, c in product(axes, repeat=3))
            for t, r, s in product(range(N_RADIAL), repeat=3)
        ]
        rows.append(row)
    return np.array(rows)


def test_there_are_360_invariants_and_they_are_those_of_the_formulas():
    structure, embedding = random_molecule([6, 8, 1], 5), MODEL[1].embedding
    found = evaluated([structure], MODEL).trace.passed.inputs[0].numpy()
    assert found.shape == (3, 360)
    wanted = by_hand(structure, embedding.numpy())
    assert np.abs(wanted).max() > 0.05
    assert np.allclose(found, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n_radial", [1, 3, 6])
def test_invariants_for_other_numbers_of_radial_functions(n_radial):
    """n + 3 n (n + 1) / 2 + n (n + 1) (n + 2) / 6 + 2 n n (n + 1) / 2 + n^3."""
    n = n_radial
    made = Contractions(n, torch.float64, torch.device("cpu"))
    assert made.count == n + 3 * n * (n + 1) // 2 + n * (n + 1) * (n + 2) // 6 + n * n * (n + 1) + n**3
    moments = torch.randn(2, n, 20, dtype=torch.float64)
    at = made.products(moments)
    adjoint = torch.randn(2, made.count, dtype=torch.float64)
    gradient, _ = made.gradient(at, adjoint)
    step = 1e-6 * torch.randn_like(moments)
    up, down = (made.features(made.products(m), 2) for m in (moments + step, moments - step))
    assert torch.allclose((adjoint * (up - down)).sum(), 2 * (gradient * step).sum(), rtol=1e-6)


@pytest.mark.parametrize("n_atoms", [1, 7, 800])
def test_sums_of_products_are_the_same_in_compiled_loops_and_in_torch(n_atoms):
    """Those of torch run where there is a GPU. 800 atoms are more than one block."""
    rng = np.random.default_rng(n_atoms)
    terms = {tuple(rng.integers(0, (6, 4, 5)).tolist()): float(rng.normal()) for _ in range(40)}
    # One sum without terms, and one that is not asked for.
    terms = {key: factor for key, factor in terms.items() if key[0] != 2}
    x, y = (torch.from_numpy(rng.normal(size=(n_atoms, count))) for count in (4, 5))
    wanted = torch.zeros(n_atoms, 5, dtype=torch.float64)
    for (k, left, right), factor in terms.items():
        if k < 5:
            wanted[:, k] += factor * x[:, left] * y[:, right]
    columns = [in_blocks(rows, width_for(n_atoms)) for rows in (x, y)]
    for kind in (CompiledSums, TorchSums):
        one = kind(terms, 5, torch.float64, torch.device("cpu"))
        found = one(*columns)
        assert torch.allclose(from_blocks(found, n_atoms), wanted, atol=1e-12)
        assert torch.allclose(one(*columns, found.clone()), 2 * found, atol=1e-12)


def test_rotations_and_reflections_turn_forces_and_stress():
    structures = [random_molecule([6, 8, 1, 1], 3), small_cell(1)]
    turn = rotation(4)
    turned = [moved(s, s.positions @ turn.T, None if s.cell is None else s.cell @ turn.T) for s in structures]
    before, after = evaluated(structures, MODEL), evaluated(turned, MODEL)
    assert torch.allclose(before.energies, after.energies, rtol=1e-12)
    assert np.allclose(before.gradient.numpy() @ turn.T, after.gradient.numpy(), atol=1e-12)
    assert np.allclose(turn @ before.strain.numpy() @ turn.T, after.strain.numpy(), atol=1e-12)
    assert float(before.gradient.abs().max()) > 0.01


def test_translation_and_order_of_atoms_change_nothing():
    structure, order = random_molecule([6, 8, 1, 1, 6], 6), np.array([3, 1, 4, 0, 2])
    other = replace(
        structure, numbers=structure.numbers[order], positions=structure.positions[order] + [1.0, -2.0, 3.0]
    )
    before, after = evaluated([structure], MODEL), evaluated([other], MODEL)
    assert torch.allclose(before.energies, after.energies, rtol=1e-12)
    assert torch.allclose(before.gradient[order], after.gradient, atol=1e-12)
    swapped = replace(structure, numbers=structure.numbers[order])
    assert not torch.allclose(before.energies, evaluated([swapped], MODEL).energies, rtol=1e-3)


def test_two_copies_far_apart_have_twice_the_energy():
    one = random_molecule([6, 8, 1, 1], 7)
    far = one.positions + np.array([0.0, 0.0, one.positions[:, 2].max() + CUTOFF_A + 0.1])
    two = Structure.create([*one.numbers, *one.numbers], np.concatenate([one.positions, far]))
    assert torch.allclose(2 * evaluated([one], MODEL).energies, evaluated([two], MODEL).energies, rtol=1e-12)


@pytest.mark.parametrize("copies", [(2, 2, 2), (3, 1, 4)])
def test_a_cell_smaller_than_the_cutoff_is_as_its_supercell(copies):
    """Each atom sees images of itself, and several of its neighbour."""
    cell = small_cell()
    atoms = cell.to_atoms() * copies
    large = Structure(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=cell.pbc)
    one, many, n = evaluated([cell], MODEL), evaluated([large], MODEL), int(np.prod(copies))
    assert torch.allclose(n * one.energies, many.energies, rtol=1e-12)
    assert torch.allclose(one.gradient.repeat(n, 1), many.gradient, atol=1e-12)
    assert torch.allclose(n * one.strain, many.strain, atol=1e-11)


@pytest.mark.parametrize("pbc", [(True, False, False), (True, True, False)])
def test_images_are_only_where_a_structure_is_periodic(pbc):
    """A chain and a layer against the atoms written out."""
    positions, cell = np.array([[0, 0, 0], [0.9, 0.3, 0.4]]), np.diag([2.1, 2.6, 0.0])
    cell[1, 1] *= pbc[1]
    chain = Structure.create([8, 1], positions, cell=cell, pbc=pbc)
    reach = [range(-4, 5) if p else (0,) for p in pbc]
    shifts = sorted(product(*reach), key=lambda shift: shift != (0, 0, 0))
    written = np.concatenate([positions + np.array(shift) @ cell for shift in shifts])
    whole = evaluated([Structure.create([8, 1] * len(shifts), written)], MODEL)
    found = evaluated([chain], MODEL)
    outputs = whole.trace.seeds * whole.trace.outputs + MODEL[1].shift[whole.trace.elements]
    assert torch.allclose(found.energies[0], outputs[:2].sum(), rtol=1e-12)


def test_a_batch_of_different_structures_is_as_each_alone():
    structures = mixed()
    together, alone = evaluated(structures, MODEL), [evaluated([s], MODEL) for s in structures]
    assert torch.allclose(together.energies, torch.cat([one.energies for one in alone]), rtol=1e-12)
    assert torch.allclose(together.gradient, torch.cat([one.gradient for one in alone]), atol=1e-12)
    assert torch.allclose(together.strain, torch.cat([one.strain for one in alone]), atol=1e-12)


def test_forces_are_the_negative_slopes_of_the_energy():
    structures, step = mixed(), 1e-5
    gradient = evaluated(structures, MODEL).gradient.numpy()
    begin = 0
    for structure in structures:
        for atom, axis in product(range(len(structure)), range(3)):
            energies = []
            for sign in (1, -1):
                positions = structure.positions.copy()
                positions[atom, axis] += sign * step
                energies.append(float(evaluated([moved(structure, positions)], MODEL).energies))
            assert gradient[begin + atom, axis] == pytest.approx((energies[0] - energies[1]) / 2 / step, abs=1e-8)
        begin += len(structure)


def test_stress_is_the_slope_with_the_strain():
    cell, step = small_cell(2), 1e-5
    found = evaluated([cell], MODEL).strain[0].numpy()
    assert np.abs(found).max() > 0.01 and np.allclose(found, found.T, atol=1e-12)
    for a, b in product(range(3), repeat=2):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step
            other = moved(cell, cell.positions @ strain.T, cell.cell @ strain.T)
            energies.append(float(evaluated([other], MODEL).energies))
        assert found[a, b] == pytest.approx((energies[0] - energies[1]) / 2 / step, abs=1e-7)


def test_the_gradient_of_a_loss_is_that_by_differences():
    """Of energies, forces and stresses at once, by a parameter of each tensor, and in a random direction."""
    structures, (made, parameters) = mixed(), potential(3)
    rng = np.random.default_rng(0)
    wanted = [torch.from_numpy(rng.normal(size=size)) for size in ((5,), (sum(map(len, structures)), 3), (5, 3, 3))]

    def loss(at, curved=False):
        found = evaluated(structures, (made, at), curved)
        parts = zip((found.energies, found.gradient, found.strain), wanted, strict=True)
        return sum(((value - goal) ** 2).sum() for value, goal in parts), found

    _, found = loss(parameters, curved=True)
    errors = zip((found.energies, found.gradient, found.strain), wanted, strict=True)
    gradient = made.gradient(parameters, found, *(2 * (value - goal) for value, goal in errors))
    for number, (tensor, slope) in enumerate(zip(parameters.tensors, gradient.tensors, strict=True)):
        direction = 1e-5 * torch.from_numpy(rng.normal(size=tuple(tensor.shape)))
        assert slope.shape == tensor.shape and float(slope.abs().max()) > 0
        values = []
        for sign in (1, -1):
            tensor += sign * direction
            values.append(float(loss(parameters)[0]))
            tensor -= sign * direction
        assert values[0] - values[1] == pytest.approx(2 * float((slope * direction).sum()), rel=1e-5), number


def test_the_gradient_of_energies_alone_is_that_of_the_whole_loss():
    made, parameters = potential(4)
    found = evaluated(mixed(), (made, parameters), curved=True)
    shares = torch.linspace(-1, 1, 5, dtype=torch.float64)
    whole = made.gradient(parameters, found, shares, torch.zeros_like(found.gradient), None)
    alone = made.energy_gradient(parameters, found.trace, shares)
    for a, b in zip(whole.tensors, alone.tensors, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-13)


def test_atoms_reach_as_far_as_the_cutoff_and_smoothly():
    """Energy and force of a pair go to zero at the cutoff."""

    def pair(r: float) -> Structure:
        return replace(Structure.create([1, 8], np.zeros((2, 3))), positions=np.array([[0, 0, 0], [0, 0, r]]))

    limit = float(evaluated([pair(CUTOFF_A + 1)], MODEL).energies)
    near, beyond = evaluated([pair(CUTOFF_A - 1e-3)], MODEL), evaluated([pair(CUTOFF_A + 1e-3)], MODEL)
    assert float(beyond.energies) == pytest.approx(limit, abs=1e-14)
    assert float(near.energies) == pytest.approx(limit, abs=1e-6)
    assert float(near.gradient.abs().max()) < 1e-4
    made = Moments(CUTOFF_A, N_BASIS, torch.float64, torch.device("cpu"))
    empty = made.geometry(torch.tensor([CUTOFF_A, 0.0, 0.0], dtype=torch.float64)[:, None, None])
    assert not empty.basis.any() and not empty.slopes.any()


def test_what_has_no_neighbours_to_be_found_is_refused():
    good = random_molecule([8, 1, 1], 0)
    double = replace(good, positions=np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1e-5]]))
    with pytest.raises(
        QuarryError, match=rf"structure {double.structure_id}: atoms 0 and 2 \(from 0\) are in one place"
    ):
        Neighbourhoods.of(StructureSet.from_structures([good, double]), CUTOFF_A)
    made = StructureSet.from_structures([good])
    broken = replace(made, positions=np.where(np.arange(9).reshape(3, 3) == 4, np.nan, made.positions))
    with pytest.raises(QuarryError, match=f"structure {good.structure_id}: a position .* is not a finite number"):
        Neighbourhoods.of(broken, CUTOFF_A)
    none = Neighbourhoods.of(made.subset([]), CUTOFF_A)
    assert len(none.vectors) == 0
