"""Which excited state is which: states tracked from geometry to geometry by the overlap of their transition densities.

Ordered by energy, states change places where they cross, and what is learnt as one smooth function of the geometry has a kink
there. Tracked states keep their character instead: each state of a geometry is given to the state of a reference geometry
that it resembles most, all states at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from quarry.labeling.transition_orbitals import TransitionOrbitals
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet

LINEAR_A = 0.1
"""Angstrom: atoms that are no farther from an axis (root of the weighted mean square) make a linear molecule."""

AMBIGUOUS_BELOW = 0.5
"""An assignment with a smaller overlap than this is a guess."""


@dataclass(frozen=True)
class KnownStates:
    """A geometry and the natural transition orbitals of its excited states."""

    structure: Structure
    transition_orbitals: TransitionOrbitals

    def comparable(self, other: KnownStates) -> bool:
        """Return whether two geometries are of one molecule, with its atoms and basis functions in the same order."""
        return (
            np.array_equal(self.structure.numbers, other.structure.numbers)
            and self.transition_orbitals.angular_momenta == other.transition_orbitals.angular_momenta
            and len(self.transition_orbitals.states) == len(other.transition_orbitals.states)
        )


def superposition(reference: Structure, other: Structure) -> NDArray[np.float64]:
    """Return the rotation matrix R, shape (3, 3), that rotates a geometry onto a reference: x_reference ~ R x_other + t.

    The least squares of W. Kabsch, Acta Cryst. A 32, 922 (1976), each atom with its nuclear charge as weight, as the
    electrons sit there. Reflections are left out: the positions of a planar molecule do not distinguish its two faces,
    and the proper rotation is unique all the same. A linear molecule (``LINEAR_A``, of the two geometries together) may
    rotate about its axis; it is rotated by the smallest angle that brings axis onto axis, so not at all about it.
    """
    weights = reference.numbers.astype(float)
    fixed, moved = (s.positions - weights @ s.positions / weights.sum() for s in (reference, other))
    left, values, right = np.linalg.svd((fixed * weights[:, None]).T @ moved)
    if np.sqrt(values[1] / weights.sum()) >= LINEAR_A:
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
        return np.asarray((left * signs) @ right)
    if np.sqrt(values[0] / weights.sum()) < LINEAR_A:
        return np.eye(3)
    return np.asarray(Rotation.align_vectors(left[:, 0], right[0])[0].as_matrix())


def rotated_functions(momentum: int, rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return D, shape (2l + 1, 2l + 1): coefficients c of the functions of a shell become D c when a molecule is rotated.

    momentum: l. rotation: matrix R of the molecule, shape (3, 3). The functions are real spherical harmonics as PySCF
    orders them: m from -l to l, but p as x, y, z. D follows from the functions' values at points p: those of the rotated
    function, f(R^-1 p), are a linear combination of the 2l + 1 functions' values at p.
    """
    if momentum == 0:
        return np.eye(1)
    if momentum == 1:
        return np.asarray(rotation, dtype=float)
    points = _points(8 * momentum + 4)
    return np.asarray(np.linalg.lstsq(_harmonics(momentum, points), _harmonics(momentum, points @ rotation))[0])


def _points(count: int) -> NDArray[np.float64]:
    """Return well-spread points on the unit sphere (a Fibonacci spiral), shape (count, 3)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (1 + np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def _harmonics(momentum: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the real spherical harmonics m = -l ... l at unit vectors, shape (n_points, 2l + 1)."""
    polar, azimuth = np.arccos(np.clip(points[:, 2], -1, 1)), np.arctan2(points[:, 1], points[:, 0])
    columns = []
    for m in range(-momentum, momentum + 1):
        value = sph_harm_y(momentum, abs(m), polar, azimuth)
        # Without the phase of Condon and Shortley, so that xz and yz are positive where x, y and z are.
        factor = 1.0 if m == 0 else np.sqrt(2) * (-1) ** m
        columns.append(factor * (value.imag if m < 0 else value.real))
    return np.stack(columns, axis=1)


def _rotated(
    orbitals: NDArray[np.float64], momenta: Sequence[int], rotation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return orbitals, shape (n_orbitals, n_basis_functions), that are rotated with their molecule."""
    matrices = {momentum: rotated_functions(momentum, rotation) for momentum in set(momenta)}
    rotated, start = np.empty_like(orbitals), 0
    for momentum in momenta:
        shell = slice(start, start + 2 * momentum + 1)
        rotated[:, shell] = orbitals[:, shell] @ matrices[momentum].T
        start = shell.stop
    return rotated


def overlap_matrix(
    reference: TransitionOrbitals, other: TransitionOrbitals, rotation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how much the states of two geometries of a molecule resemble each other, shape (n_reference, n_other), 0 to 1.

    rotation: matrix that rotates the other geometry onto the reference (``superposition``). The overlap of two transition
    densities is |sum_ij w_i w'_j <h_i|h'_j> <e_i|e'_j>| over the pairs of equal spin, divided by the norms of what is kept
    of both; orbitals are in symmetrically orthogonalised basis functions, which move with their atoms and are taken as the
    same in both geometries (as in F. Plasser et al., J. Chem. Phys. 137, 22A514 (2012), with the simplest choice of the
    orbitals' overlap). The sign of a state is arbitrary and left out.
    """
    momenta = reference.angular_momenta
    here, there = _stacked(reference), _stacked(other)
    holes = here.holes @ _rotated(there.holes, momenta, rotation).T
    electrons = here.electrons @ _rotated(there.electrons, momenta, rotation).T
    same_spin = here.spins[:, None] == there.spins[None, :]
    pairs = np.outer(here.weights, there.weights) * holes * electrons * same_spin
    return np.abs(here.of_state @ pairs @ there.of_state.T)


@dataclass(frozen=True)
class _Stacked:
    """The pairs of all states, one after another; of_state, shape (n_states, n_pairs): 1 for the pairs of a state."""

    weights: NDArray[np.float64]
    spins: NDArray[np.int64]
    holes: NDArray[np.float64]
    electrons: NDArray[np.float64]
    of_state: NDArray[np.float64]


def _stacked(transition_orbitals: TransitionOrbitals) -> _Stacked:
    states = transition_orbitals.states
    owner = np.repeat(np.arange(len(states)), [len(state.weights) for state in states])
    return _Stacked(
        weights=np.concatenate([state.weights / np.linalg.norm(state.weights) for state in states]),
        spins=np.concatenate([state.spins for state in states]),
        holes=np.concatenate([state.holes for state in states]),
        electrons=np.concatenate([state.electrons for state in states]),
        of_state=(owner[None, :] == np.arange(len(states))[:, None]).astype(float),
    )


def track_states(
    reference: KnownStates, others: Sequence[KnownStates]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return which state of each geometry is which state of the reference, and the overlaps by which that was decided.

    Both of shape (n, n_states): order[i, k] is the number (from 0, by energy) of the state of geometry i that is state k of
    the reference, overlap[i, k] their overlap. Of all assignments the one with the largest sum of squared overlaps
    (H. W. Kuhn, Naval Research Logistics Quarterly 2, 83 (1955)). NaN for geometries that cannot be compared with the
    reference: of another molecule, or with another number of states.
    """
    n_states = len(reference.transition_orbitals.states)
    order, overlap = np.full((2, len(others), n_states), np.nan)
    for i, other in enumerate(others):
        if not reference.comparable(other):
            continue
        rotation = superposition(reference.structure, other.structure)
        matrix = overlap_matrix(reference.transition_orbitals, other.transition_orbitals, rotation)
        _, chosen = linear_sum_assignment(matrix**2, maximize=True)
        order[i], overlap[i] = chosen, matrix[np.arange(n_states), chosen]
    return order, overlap


def swap_account(labelled: LabelledSet, n_states: int) -> dict[str, Any]:
    """Return how many labels swapped states against the reference geometry, as JSON-able data; nothing without natural
    transition orbitals.

    n_states: the lowest states of the reference, which are learnt; those above do not count. labels: those whose states
    were tracked (the reference is one of them). swapped: labels in which one of the states is in another place by
    energy than in the reference, swapped_by_state how often each. left: labels in which a state has risen
    above the lowest n_states. ambiguous: labels in which the overlap of a state is below ``AMBIGUOUS_BELOW``,
    ambiguous_by_state how often each. reference: its structure_id.
    """
    if "state_order" not in labelled.properties or labelled.state_reference is None:
        return {}
    order = labelled.properties["state_order"][:, :n_states]
    known = ~np.isnan(order).any(axis=1)
    order, overlap = order[known], labelled.properties["state_overlap"][known, :n_states]
    swapped, ambiguous = order != np.arange(order.shape[1]), overlap < AMBIGUOUS_BELOW
    return {
        "reference": labelled.state_reference["structure_id"],
        "labels": len(order),
        "swapped": int(swapped.any(axis=1).sum()),
        "swapped_by_state": swapped.sum(axis=0).tolist(),
        "left": int((order >= n_states).any(axis=1).sum()),
        "ambiguous": int(ambiguous.any(axis=1).sum()),
        "ambiguous_by_state": ambiguous.sum(axis=0).tolist(),
    }
