"""Which state is which: rotated molecules, whole transition densities, and assignments by trying all permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyscf.symm.Dmatrix import Dmatrix, get_euler_angles
from scipy.spatial.transform import Rotation

from quarry.config.methods import Excitations
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.transition_orbitals import StateTransitionOrbitals, TransitionOrbitals
from quarry.spectra.states import (
    LINEAR_A,
    KnownStates,
    overlap_matrix,
    rotated_functions,
    superposition,
    swap_account,
    track_states,
)
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet
from support.molecules import bent_water, method, unrounded

MOMENTA = (0, 1, 0, 2, 3)
WIDTH = sum(2 * momentum + 1 for momentum in MOMENTA)
AMMONIA = unrounded([7, 1, 1, 1], [[0.02, 0.01, 0.1], [0.0, 0.99, -0.3], [0.85, -0.45, -0.2], [-0.75, -0.55, -0.33]])
SEEDS = st.integers(0, 10_000)


def rotation_of(seed: int) -> NDArray[np.float64]:
    return Rotation.random(rng=np.random.default_rng(seed)).as_matrix()


def rotated(structure: Structure, rotation: NDArray[np.float64]) -> Structure:
    positions = structure.positions @ rotation.T + [1.5, -2.0, 0.7]
    return Structure(structure.numbers, positions, structure.charge, structure.multiplicity)


@pytest.mark.parametrize("momentum", range(7))
def test_functions_turn_as_those_of_pyscf(momentum):
    """Wigner's D of real spherical harmonics, in PySCF by Euler angles."""
    rotation = rotation_of(momentum)
    # PySCF's matrix takes the functions of turned axes (the rows) to those of the old ones.
    angles = get_euler_angles(np.eye(3), rotation.T)
    expected = Dmatrix(momentum, *angles, reorder_p=True)
    assert rotated_functions(momentum, rotation) == pytest.approx(expected, abs=1e-12)


class TestRealStates:
    """PySCF's own states of a molecule and of a rotated copy."""

    @pytest.mark.parametrize(
        ("structure", "basis"),
        [(bent_water(), "def2-tzvp"), (AMMONIA, "6-31g*"), (bent_water(), "cc-pvdz")],
        ids=["f functions", "6-31g*", "general contractions"],
    )
    def test_a_rotated_molecule_has_the_same_states(self, structure, basis):
        level = method("hf", basis, forces=False, excitations=Excitations(n_states=4, kind="tda", characters=True))
        rotation = rotation_of(3)
        known = []
        for copy in (structure, rotated(structure, rotation)):
            result = PyscfEngine(level).label(copy, 1)
            assert result.status == "ok", result.message
            known.append(KnownStates(copy, TransitionOrbitals.from_json(result.details["characters"])))
        assert superposition(known[1].structure, structure) == pytest.approx(rotation, abs=1e-9)
        order, overlap = track_states(known[1], known)
        assert order.tolist() == [[0, 1, 2, 3]] * 2
        assert overlap == pytest.approx(np.ones((2, 4)), abs=0.01)
        back = superposition(structure, known[1].structure)
        matrix = overlap_matrix(known[0].transition_orbitals, known[1].transition_orbitals, back)
        assert matrix - np.diag(np.diag(matrix)) == pytest.approx(np.zeros((4, 4)), abs=0.15)
        # Not turned back, they would not be recognised.
        assert (
            overlap_matrix(known[0].transition_orbitals, known[1].transition_orbitals, np.eye(3)).diagonal().min() < 0.7
        )


def random_states(seed: int, n_states: int = 5, spins: int = 2) -> TransitionOrbitals:
    rng = np.random.default_rng(seed)
    states = []
    for _ in range(n_states):
        count = int(rng.integers(1, 5))
        orbitals = np.linalg.qr(rng.normal(size=(WIDTH, 2 * count)))[0].T
        weights = np.sort(rng.uniform(0.2, 1, count))[::-1]
        states.append(
            StateTransitionOrbitals(weights, rng.integers(0, spins, count), orbitals[:count], orbitals[count:])
        )
    return TransitionOrbitals(MOMENTA, tuple(states))


def densities(transition_orbitals: TransitionOrbitals, rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalised transition densities of both spins, turned as a whole; shape (n_states, 2, WIDTH, WIDTH)."""
    turn = np.zeros((WIDTH, WIDTH))
    start = 0
    for momentum in MOMENTA:
        shell = slice(start, start + 2 * momentum + 1)
        turn[shell, shell] = rotated_functions(momentum, rotation)
        start = shell.stop
    whole = np.zeros((len(transition_orbitals.states), 2, WIDTH, WIDTH))
    for k, state in enumerate(transition_orbitals.states):
        for weight, spin, hole, electron in zip(state.weights, state.spins, state.holes, state.electrons, strict=True):
            whole[k, spin] += weight * np.outer(turn @ hole, turn @ electron)
        whole[k] /= np.linalg.norm(whole[k])
    return whole


def mixed(transition_orbitals: TransitionOrbitals, order: list[int], signs: list[int]) -> TransitionOrbitals:
    """The same states in another order and with other signs."""
    states = [transition_orbitals.states[k] for k in order]
    return TransitionOrbitals(
        transition_orbitals.angular_momenta,
        tuple(
            StateTransitionOrbitals(s.weights, s.spins, sign * s.holes, s.electrons)
            for s, sign in zip(states, signs, strict=True)
        ),
    )


class TestOverlap:
    @settings(max_examples=20)
    @given(SEEDS)
    def test_of_whole_transition_densities(self, seed):
        one, other, rotation = random_states(seed), random_states(seed + 1, n_states=3), rotation_of(seed)
        a, b = densities(one, np.eye(3)), densities(other, rotation)
        expected = np.abs(np.einsum("ispq,jspq->ij", a, b))
        assert overlap_matrix(one, other, rotation) == pytest.approx(expected, abs=1e-10)
        assert overlap_matrix(other, one, rotation.T) == pytest.approx(expected.T, abs=1e-10)

    def test_of_a_state_with_itself_is_one_however_much_of_it_was_kept(self):
        states = random_states(1)
        assert overlap_matrix(states, states, np.eye(3)).diagonal() == pytest.approx(np.ones(5))


def principal(structure: Structure) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Positions about the centre of nuclear charge, (n, 3); root mean squares along the principal axes; these, as rows."""
    weights = structure.numbers / structure.numbers.sum()
    centred = structure.positions - weights @ structure.positions
    _, spread, axes = np.linalg.svd(np.sqrt(weights)[:, None] * centred)
    return centred, spread, axes


def breadth(structure: Structure) -> float:
    """How far the atoms are from the axis of the molecule, in its plane (Angstrom, root of the weighted mean square)."""
    return float(principal(structure)[1][1])


class TestSuperposition:
    @settings(max_examples=25)
    @given(SEEDS, st.sampled_from(["general", "planar"]))
    def test_finds_a_rotation(self, seed, shape):
        positions = np.random.default_rng(seed).normal(0, 1.5, (5, 3)) * (
            [1, 1, 1] if shape == "general" else [1, 1, 0]
        )
        molecule = unrounded([6, 1, 8, 7, 1], positions)
        # One molecule in 250 of these is straight to LINEAR_A, and may turn about its axis.
        assume(breadth(molecule) > LINEAR_A)
        rotation = rotation_of(seed)
        assert superposition(rotated(molecule, rotation), molecule) == pytest.approx(rotation, abs=1e-6)

    @pytest.mark.parametrize("seed", [1118, 2570, 4506, 9554])
    def test_of_a_nearly_straight_molecule_only_the_axis_is_rotated(self, seed):
        molecule = unrounded([6, 1, 8, 7, 1], np.random.default_rng(seed).normal(0, 1.5, (5, 3)) * [1, 1, 0])
        assert breadth(molecule) < LINEAR_A
        rotation, axis = rotation_of(seed), principal(molecule)[2][0]
        found = superposition(rotated(molecule, rotation), molecule)
        assert found @ axis == pytest.approx(rotation @ axis, abs=1e-9)
        angle = np.arccos(np.clip(axis @ rotation @ axis, -1, 1))
        assert Rotation.from_matrix(found).magnitude() == pytest.approx(angle, abs=1e-7)
        # As near as the molecule is straight: no atom is off by more than its distance from the axis, twice.
        (there, _, _), (here, _, _) = principal(rotated(molecule, rotation)), principal(molecule)
        off = np.linalg.norm(there - here @ found.T, axis=1)
        beside = np.linalg.norm(here - np.outer(here @ axis, axis), axis=1)
        assert (off <= 2 * beside + 1e-9).all()

    @settings(max_examples=15)
    @given(SEEDS)
    def test_it_is_the_best_one_and_no_reflection(self, seed):
        rng = np.random.default_rng(seed)
        here = unrounded([6, 1, 8, 7, 1], rng.normal(0, 1.5, (5, 3)))
        there = Structure(here.numbers, here.positions * [1, 1, -1] + rng.normal(0, 0.1, (5, 3)))
        best = superposition(here, there)
        assert np.linalg.det(best) == pytest.approx(1)

        def error(rotation: NDArray[np.float64]) -> float:
            weights = here.numbers / here.numbers.sum()
            a, b = (s.positions - weights @ s.positions for s in (here, there))
            return float((weights[:, None] * (a - b @ rotation.T) ** 2).sum())

        others = Rotation.from_rotvec(rng.normal(0, 0.3, (40, 3))).as_matrix() @ best
        assert error(best) <= min(error(other) for other in others)

    @pytest.mark.parametrize("shift", [0.0, 0.08])
    def test_linear_molecules_do_not_turn_about_their_axis(self, shift):
        straight = unrounded([1, 6, 6, 1], [[0, 0, z] for z in (-1.66, -0.6, 0.6, 1.66)])
        # Bent to the one side and to the other: turned half a circle, the hydrogens would fit better.
        sides = [straight.positions + np.outer([1, 0, 0, 1], [x, 0, 0]) for x in (shift, -shift)]
        one, other = (Structure(straight.numbers, positions) for positions in sides)
        for here, there in ((straight, one), (one, straight), (one, other)):
            assert superposition(here, there) == pytest.approx(np.eye(3), abs=1e-9)
        rotation = rotation_of(5)
        found = superposition(rotated(straight, rotation), straight)
        assert found @ [0, 0, 1] == pytest.approx(rotation @ [0, 0, 1], abs=1e-9)
        angle = np.arccos((rotation @ [0, 0, 1])[2])
        assert Rotation.from_matrix(found).magnitude() == pytest.approx(angle)

    def test_a_single_atom(self):
        assert superposition(unrounded([2], [[0, 0, 0]]), unrounded([2], [[1, 2, 3]])) == pytest.approx(np.eye(3))


class TestFollowing:
    @settings(max_examples=25)
    @given(SEEDS, st.permutations(range(5)), st.lists(st.sampled_from([1, -1]), min_size=5, max_size=5))
    def test_states_in_another_order_and_with_other_signs_are_found(self, seed, order, signs):
        states, rotation = random_states(seed), rotation_of(seed)
        other = mixed(states, order, signs)
        copy = KnownStates(rotated(AMMONIA, rotation), rotated_back(other, rotation))
        found, overlap = track_states(KnownStates(AMMONIA, states), [copy])
        assert [order[int(j)] for j in found[0]] == list(range(5))
        assert overlap == pytest.approx(np.ones((1, 5)), abs=1e-6)

    @settings(max_examples=15)
    @given(SEEDS)
    def test_the_assignment_is_the_best_of_all_permutations(self, seed):
        one, other = random_states(seed, spins=1), random_states(seed + 1, spins=1)
        matrix = overlap_matrix(one, other, np.eye(3))
        order, overlap = track_states(KnownStates(AMMONIA, one), [KnownStates(AMMONIA, other)])
        best = max(itertools.permutations(range(5)), key=lambda p: sum(matrix[k, j] ** 2 for k, j in enumerate(p)))
        assert order[0].tolist() == list(best)
        assert overlap[0] == pytest.approx(matrix[np.arange(5), list(best)])

    def test_what_cannot_be_compared_is_not_a_number(self):
        here = KnownStates(AMMONIA, random_states(1))
        others = [
            KnownStates(bent_water(), random_states(1)),
            KnownStates(AMMONIA, random_states(1, n_states=4)),
            here,
        ]
        order, overlap = track_states(here, others)
        assert np.isnan(order[:2]).all() and np.isnan(overlap[:2]).all() and order[2].tolist() == [0, 1, 2, 3, 4]
        assert track_states(here, [])[0].shape == (0, 5)


def rotated_back(transition_orbitals: TransitionOrbitals, rotation: NDArray[np.float64]) -> TransitionOrbitals:
    """The states of a molecule that was turned: their orbitals turn with it."""
    blocks = [rotated_functions(momentum, rotation) for momentum in MOMENTA]
    turn = np.zeros((WIDTH, WIDTH))
    start = 0
    for block in blocks:
        turn[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    states = [
        StateTransitionOrbitals(s.weights, s.spins, s.holes @ turn.T, s.electrons @ turn.T)
        for s in transition_orbitals.states
    ]
    return TransitionOrbitals(MOMENTA, tuple(states))


class TestAccount:
    def labelled(self, order: list[list[float]], overlap: list[list[float]]) -> LabelledSet:
        structures = [unrounded([1, 1], [[0, 0, 0], [0, 0, 0.7 + 0.1 * i]]) for i in range(len(order))]
        rows = [{"energy": 1.0, "state_order": o, "state_overlap": v} for o, v in zip(order, overlap, strict=True)]
        none = {"energy": 1.0}
        reference = {"structure_id": structures[0].structure_id, "characters": {}}
        extra = unrounded([1, 1], [[0, 0, 0], [0, 0, 0.5]])
        return LabelledSet.from_records(
            [*structures, extra], ["train"] * (len(order) + 1), [0] * (len(order) + 1), [*rows, none], reference
        )

    def test_by_hand(self):
        order = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [0, 1, 2]]
        overlap = [[1, 1, 1], [0.9, 0.8, 0.1], [0.9, 0.4, 0.7], [0.9, 0.9, 0.2]]
        labelled = self.labelled(order, overlap)
        assert swap_account(labelled, 3) == {
            "reference": str(labelled.structures.ids[0]),
            "labels": 4,
            "swapped": 2,
            "swapped_by_state": [1, 2, 1],
            "left": 0,
            "ambiguous": 3,
            "ambiguous_by_state": [0, 1, 2],
        }
        two = swap_account(labelled, 2)
        assert (two["swapped"], two["swapped_by_state"], two["left"]) == (2, [1, 2], 1)
        assert (two["ambiguous"], two["ambiguous_by_state"]) == (1, [0, 1])

    def test_nothing_without_characters(self):
        structures = [unrounded([1, 1], [[0, 0, 0], [0, 0, 0.7]])]
        assert swap_account(LabelledSet.from_records(structures, ["train"], [0], [{"energy": 1.0}]), 2) == {}
