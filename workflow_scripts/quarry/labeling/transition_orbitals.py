"""What excited states are like: their leading pairs of natural transition orbitals, small enough for a label record."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STORED = np.dtype("<f2")
"""Half precision: overlaps of states are good to about 0.001."""


@dataclass(frozen=True)
class StateTransitionOrbitals:
    """The transition density of one excited state, as pairs of a hole and an electron orbital.

    weights: singular values, shape (n_pairs,), their squares sum to 1 over all pairs (less over those kept). spins: 0 (both
    of a closed shell, or alpha) or 1 (beta), shape (n_pairs,). holes, electrons: orbitals in symmetrically orthogonalised
    basis functions, shape (n_pairs, n_basis_functions): these move with their atoms, so that states of two geometries of
    one molecule can be compared.
    """

    weights: NDArray[np.float64]
    spins: NDArray[np.int64]
    holes: NDArray[np.float64]
    electrons: NDArray[np.float64]


@dataclass(frozen=True)
class TransitionOrbitals:
    """The natural transition orbitals of a label's excited states, lowest first.

    angular_momenta: of every shell of basis functions in their order (2l + 1 real spherical functions each, p as x, y, z),
    by which orbitals are rotated with the molecule.
    """

    angular_momenta: tuple[int, ...]
    states: tuple[StateTransitionOrbitals, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able data; the orbitals as base64 of half-precision numbers."""
        orbitals = [block for state in self.states for block in (state.holes, state.electrons)]
        packed = np.concatenate([block.ravel() for block in orbitals]).astype(STORED).tobytes()
        return {
            "angular_momenta": list(self.angular_momenta),
            "weights": [np.round(state.weights, 5).tolist() for state in self.states],
            "spins": [state.spins.tolist() for state in self.states],
            "orbitals": base64.b64encode(packed).decode("ascii"),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> TransitionOrbitals:
        """Read what ``to_json`` gave. Raises ValueError if the numbers do not fit together."""
        momenta = tuple(int(momentum) for momentum in data["angular_momenta"])
        width = sum(2 * momentum + 1 for momentum in momenta)
        packed = np.frombuffer(base64.b64decode(data["orbitals"]), dtype=STORED).astype(np.float64)
        counts = [len(weights) for weights in data["weights"]]
        if packed.size != 2 * width * sum(counts):
            raise ValueError(f"{packed.size} numbers for {sum(counts)} pairs of orbitals in {width} basis functions")
        states, start = [], 0
        for weights, spins in zip(data["weights"], data["spins"], strict=True):
            count = len(weights) * width
            holes, electrons = packed[start : start + count], packed[start + count : start + 2 * count]
            start += 2 * count
            states.append(
                StateTransitionOrbitals(
                    np.array(weights, dtype=np.float64),
                    np.array(spins, dtype=np.int64),
                    holes.reshape(-1, width),
                    electrons.reshape(-1, width),
                )
            )
        return TransitionOrbitals(momenta, tuple(states))


def leading_pairs(
    amplitudes: Sequence[NDArray[np.float64]],
    occupied: Sequence[NDArray[np.float64]],
    virtual: Sequence[NDArray[np.float64]],
    kept: float,
    most: int,
) -> StateTransitionOrbitals:
    """Return the leading natural transition orbitals of a state (R. L. Martin, J. Chem. Phys. 118, 4775 (2003)).

    amplitudes: of each spin (one for a closed shell), shape (n_occupied, n_virtual). occupied, virtual: orbitals of each
    spin in orthogonal basis functions, shape (n_basis_functions, n_orbitals). kept: share of the density (the squared
    weights) that the pairs hold together at least, if ``most`` pairs do.
    """
    pairs = []
    for spin, (block, filled, empty) in enumerate(zip(amplitudes, occupied, virtual, strict=True)):
        left, weights, right = np.linalg.svd(block, full_matrices=False)
        pairs += [(w, spin, filled @ left[:, k], empty @ right[k]) for k, w in enumerate(weights)]
    pairs.sort(key=lambda pair: -pair[0])
    weights = np.array([pair[0] for pair in pairs])
    weights = weights / np.linalg.norm(weights)
    count = min(most, int(np.searchsorted(np.cumsum(weights**2), kept)) + 1, len(pairs))
    return StateTransitionOrbitals(
        weights[:count],
        np.array([spin for _, spin, _, _ in pairs[:count]], dtype=np.int64),
        np.array([hole for _, _, hole, _ in pairs[:count]]),
        np.array([electron for _, _, _, electron in pairs[:count]]),
    )
