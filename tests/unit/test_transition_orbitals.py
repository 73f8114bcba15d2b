"""Characters of excited states: against whole transition densities, and oscillator strengths computed from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from quarry.config.methods import Excitations
from quarry.files import canonical_json
from quarry.labeling.engines import pyscf_excitations
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.pyscf_runs import HARTREE_EV
from quarry.labeling.transition_orbitals import StateTransitionOrbitals, TransitionOrbitals, leading_pairs
from quarry.structures import Structure
from support.molecules import bent_water, method, unrounded

RADICAL = unrounded([8, 1, 1], bent_water().positions, multiplicity=2, charge=1)


def density(state: StateTransitionOrbitals, spin: int) -> NDArray[np.float64]:
    """The transition density of one spin in orthogonal basis functions."""
    kept = state.spins == spin
    return np.einsum("k,kp,kq->pq", state.weights[kept], state.holes[kept], state.electrons[kept])


def orthonormal(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


class TestLeadingPairs:
    @settings(max_examples=20)
    @given(st.integers(0, 1000), st.lists(st.integers(1, 4), min_size=1, max_size=2))
    def test_all_of_them_are_the_transition_density(self, seed, occupied):
        rng, size = np.random.default_rng(seed), 7
        frames = [orthonormal(rng, size) for _ in occupied]
        filled = [f[:, :n] for f, n in zip(frames, occupied, strict=True)]
        empty = [f[:, n:] for f, n in zip(frames, occupied, strict=True)]
        amplitudes = [rng.normal(size=(n, size - n)) for n in occupied]
        norm = np.sqrt(sum((block**2).sum() for block in amplitudes))
        state = leading_pairs(amplitudes, filled, empty, kept=1.0, most=99)
        for spin, (block, holes, electrons) in enumerate(zip(amplitudes, filled, empty, strict=True)):
            assert density(state, spin) == pytest.approx(holes @ block @ electrons.T / norm, abs=1e-12)
        assert (state.weights**2).sum() == pytest.approx(1.0)
        # The fewest that hold a share, the largest first.
        some = leading_pairs(amplitudes, filled, empty, kept=0.9, most=99)
        count = len(some.weights)
        assert some.weights == pytest.approx(state.weights[:count]) and (np.diff(state.weights) <= 1e-12).all()
        assert (some.weights**2).sum() >= 0.9 - 1e-12 and (some.weights[:-1] ** 2).sum() < 0.9
        assert len(leading_pairs(amplitudes, filled, empty, kept=1.0, most=1).weights) == 1


def some_transition_orbitals(seed: int = 0, momenta: tuple[int, ...] = (0, 1, 2)) -> TransitionOrbitals:
    rng, width = np.random.default_rng(seed), sum(2 * m + 1 for m in momenta)
    states = []
    for count in (1, 3, 2):
        weights = np.sort(rng.uniform(0.1, 1, count))[::-1]
        orbitals = rng.normal(size=(2, count, width)) / np.sqrt(width)
        states.append(StateTransitionOrbitals(weights, rng.integers(0, 2, count), *orbitals))
    return TransitionOrbitals(momenta, tuple(states))


class TestJson:
    def test_round_trip(self):
        before = some_transition_orbitals()
        data = before.to_json()
        after = TransitionOrbitals.from_json(data)
        assert after.angular_momenta == before.angular_momenta and len(after.states) == 3
        for old, new in zip(before.states, after.states, strict=True):
            assert new.weights == pytest.approx(old.weights, abs=1e-5) and np.array_equal(new.spins, old.spins)
            assert new.holes == pytest.approx(old.holes, abs=1e-3) and new.holes.shape == old.holes.shape
            assert new.electrons == pytest.approx(old.electrons, abs=1e-3)
        # What is read is written again as it was: no precision is lost on the way through a data set.
        assert canonical_json(after.to_json()) == canonical_json(data)

    @pytest.mark.parametrize("change", [{"angular_momenta": [0, 1]}, {"weights": [[0.9], [0.9], [0.9]]}])
    def test_numbers_that_do_not_fit_together(self, change):
        with pytest.raises(ValueError, match="numbers for"):
            TransitionOrbitals.from_json({**some_transition_orbitals().to_json(), **change})


def label(structure: Structure, xc: str = "hf", n_states: int = 4, **excitations: Any) -> EngineResult:
    level = method(xc, "sto-3g", convergence_hartree=1e-11, grid_level=2, forces=False)
    wanted = Excitations(n_states=n_states, **excitations)
    result = PyscfEngine(level.model_copy(update={"excitations": wanted})).label(structure, 1)
    assert result.status == "ok", result.message
    return result


def transition_dipoles(structure: Structure, state: StateTransitionOrbitals) -> NDArray[np.float64]:
    """The dipoles <electron|r|hole>, weighted and summed over the pairs, from the molecule's own integrals."""
    molecule = PyscfEngine(method()).molecule(structure)
    values, vectors = np.linalg.eigh(molecule.intor("int1e_ovlp"))
    back = vectors / np.sqrt(values) @ vectors.T
    whole = sum(density(state, spin) for spin in (0, 1))
    return np.einsum("xpq,pq->x", molecule.intor("int1e_r"), back @ whole @ back)


@pytest.mark.parametrize("kind", ["tda", "tddft"])
@pytest.mark.parametrize("structure", [bent_water(), RADICAL], ids=["closed", "open"])
def test_oscillator_strengths_follow_from_the_characters(structure, kind, monkeypatch):
    """f = 2/3 E |<0|r|k>|^2, the dipole that of X + Y (twice for the equal spins of a closed shell, in PySCF's norm)."""
    norms = []

    def noting(amplitudes, occupied, virtual, kept, most):
        norms.append(np.sqrt(sum((block**2).sum() for block in amplitudes)))
        return leading_pairs(amplitudes, occupied, virtual, kept=1.0, most=99)

    monkeypatch.setattr(pyscf_excitations, "leading_pairs", noting)
    found = label(structure, kind=kind, characters=True, n_states=8)
    transition_orbitals = TransitionOrbitals.from_json(found.details["characters"])
    spins = 2 if structure.multiplicity == 1 else 1
    dipoles = np.array(
        [spins * n * transition_dipoles(structure, s) for n, s in zip(norms, transition_orbitals.states, strict=True)]
    )
    strengths = found.properties["oscillator_strengths"]
    energies = np.array(found.properties["excitation_energies"]) / HARTREE_EV
    assert max(strengths) > 0.01
    # Half precision.
    assert 2 / 3 * energies * (dipoles**2).sum(axis=1) == pytest.approx(strengths, rel=2e-3, abs=1e-4)
    assert transition_orbitals.angular_momenta == (0, 0, 1, 0, 0)
    used = set(np.concatenate([s.spins for s in transition_orbitals.states]).tolist())
    assert used == ({0} if structure.multiplicity == 1 else {0, 1})


def test_characters_change_no_number_and_are_left_out_where_not_asked_for():
    plain, told = label(bent_water(), kind="tda"), label(bent_water(), kind="tda", characters=True)
    assert "characters" not in plain.details and "characters" in told.details
    assert told.properties == plain.properties
    weights = [np.array(w) for w in told.details["characters"]["weights"]]
    assert all((w**2).sum() >= 0.98 - 1e-4 or len(w) == 4 for w in weights)


class TestGridOfTheResponse:
    def test_a_coarser_one_changes_energies_little_and_the_ground_state_not_at_all(self):
        fine, coarse = label(bent_water(), "pbe", kind="tda"), label(bent_water(), "pbe", kind="tda", grid_level=1)
        old, new = (np.array(r.properties["excitation_energies"]) for r in (fine, coarse))
        assert 0 < np.abs(new - old).max() < 2e-3
        assert coarse.properties["energy"] == fine.properties["energy"]

    def test_hartree_fock_has_none(self):
        plain, told = label(bent_water(), kind="tda"), label(bent_water(), kind="tda", grid_level=0)
        assert told.properties == plain.properties

    def test_identities_of_older_labels_stay(self):
        plain = {"n_states": 3, "kind": "tddft", "convergence": 1e-5}
        assert Excitations(n_states=3).identity() == plain
        assert Excitations(n_states=3, grid_level=1).identity() == {**plain, "grid_level": 1}
        assert Excitations(n_states=3, grid_level=0).identity() == {**plain, "grid_level": 0}
        assert Excitations(n_states=3, characters=True).identity() == {**plain, "characters": True}

    @pytest.mark.parametrize("level", [-1, 10])
    def test_levels_that_pyscf_does_not_have(self, level):
        with pytest.raises(ValidationError):
            Excitations(n_states=3, grid_level=level)
