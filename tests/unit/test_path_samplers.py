"""What looks for candidates beside thermal trajectories: each sampler against something independent, ends, a killed job."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from ase.optimize import FIRE
from ase.vibrations import Vibrations

from quarry.config import load_configuration
from quarry.config.samplers import (
    Conformers,
    ElasticBand,
    NormalModeScan,
    Reaction,
    Relaxation,
    TorsionScan,
)
from quarry.dynamics import exploration
from quarry.dynamics.exploration import Course, Fate, explore
from quarry.dynamics.files import Trajectories, account_of, words_of
from quarry.dynamics.integrators import VelocityVerlet
from quarry.dynamics.paths import Judgement, Walks, follow
from quarry.dynamics.samplers.base import Origin
from quarry.dynamics.samplers.registry import make_sampler
from quarry.dynamics.samplers.torsions import rotatable_bonds, turned
from quarry.dynamics.uncertainty import MEASURES
from quarry.dynamics.walkers import BOLTZMANN_EV_K
from quarry.errors import QuarryError
from quarry.randomness import generator
from quarry.sampling.hessian import modes_of
from quarry.sampling.modes import NormalModes
from quarry.stages.exploring import check_sampler
from quarry.structures import Structure, StructureSet
from support.campaigns import stand_in_configuration
from support.dynamics import EmtModel, OfAtoms, double_well, threefold
from support.walks import CHAIN, CU4, DIATOMIC, FACTS, walk

# --- relaxations


def test_relaxations_end_in_the_minimum_that_ase_finds_with_another_optimiser():
    for optimiser in ("bfgs", "lbfgs", "fire"):
        section = Relaxation(kind="relaxation", optimiser=optimiser, max_force_eV_A=1e-3, steps=500)
        found = walk(section, EmtModel(), [CU4])
        expected = CU4.copy()
        expected.calc = EMT()
        FIRE(expected, logfile=None).run(fmax=1e-4, steps=2000)
        assert found.fates == ("complete",)
        distances = found.structures[0].to_atoms().get_all_distances()
        np.testing.assert_allclose(distances, expected.get_all_distances(), atol=5e-3)


def test_a_walk_ends_at_its_first_uncertain_frame():
    """The largest distance shrinks: unsure is how close the atoms are."""
    model = OfAtoms(double_well, unsure=lambda atoms: 1.0 / atoms.get_distance(0, 1))
    start = Atoms("N2", [[0, 0, 0], [0, 0, 1.4]])
    whole = walk(Relaxation(kind="relaxation"), model, [start])
    assert whole.fates == ("complete",)
    assert whole.uncertainty[0] == pytest.approx(1.0, abs=2e-3)
    part = walk(Relaxation(kind="relaxation"), model, [start], threshold=0.8)
    assert part.fates == ("uncertain",)
    assert part.uncertainty[0] > 0.8 and 0 < part.ends[0] < whole.ends[0]


def test_a_start_that_is_labelled_is_no_candidate_itself():
    start = StructureSet.from_structures([Structure.from_atoms(CU4)])
    sampler = make_sampler(Relaxation(kind="relaxation"), Origin(None))
    judgement = Judgement(MEASURES["energy"], 0.0, 1e3, True, frozenset({29}))
    for labelled, end in ((False, 0), (True, 1)):
        walks = Walks(start, [0], [generator(0)], labelled=labelled)
        found = follow(sampler, EmtModel(), walks, judgement, FACTS)
        assert (found.fates, found.ends.tolist()) == (("uncertain",), [end])


@pytest.mark.parametrize("died_after", [3, 20])
def test_a_killed_exploration_goes_on_to_the_same_end(died_after, tmp_path, monkeypatch):
    monkeypatch.setattr(exploration, "CHECKPOINT_S", 0.0)
    rng, section = np.random.default_rng(0), Relaxation(kind="relaxation", optimiser="fire", steps=7)
    starts = [CU4.copy() for _ in range(4)]
    for atoms in starts:
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    counted = EmtModel()
    whole = walk(section, counted, starts)
    with pytest.raises(KeyboardInterrupt):
        walk(section, EmtModel(die_after=died_after), starts, checkpoint=tmp_path / "state.npz")
    again = EmtModel()
    found = walk(section, again, starts, checkpoint=tmp_path / "state.npz")
    whole.write(tmp_path / "whole.h5")
    found.write(tmp_path / "found.h5")
    assert (tmp_path / "whole.h5").read_bytes() == (tmp_path / "found.h5").read_bytes()
    # Each walk asks 8 times; those that had ended are not walked again.
    assert again.calls == counted.calls - 8 * (died_after // 8) == 32 - 8 * (died_after // 8)
    # What another threshold left is not taken up.
    other = walk(section, EmtModel(), starts, checkpoint=tmp_path / "state.npz", facts={**FACTS, "threshold": 2.0})
    assert other.facts["threshold"] == 2.0


def test_frames_that_are_no_chemistry_are_thrown_away():
    close = Atoms("Cu2", [[0, 0, 0], [0, 0, 0.6]])
    assert walk(Relaxation(kind="relaxation"), EmtModel(), [close], limit=1e9).faults[0].startswith("two atoms")
    nothing = OfAtoms(lambda atoms: float("nan"))
    assert walk(Relaxation(kind="relaxation"), nothing, [DIATOMIC]).fates == ("unphysical",)
    cell = bulk("Cu", cubic=True)
    found = walk(Relaxation(kind="relaxation", steps=3), EmtModel(), [cell])
    assert found.fates == ("complete",) and found.structures[0].cell is not None


# --- scans


def test_normal_mode_scans_go_along_each_mode_both_ways():
    water = molecule("H2O")
    water.calc = EMT()
    FIRE(water, logfile=None).run(fmax=1e-4, steps=1000)
    modes = modes_of(water)
    settings = NormalModeScan(kind="normal_modes", displacement_A=0.3, points=6)
    sampler = make_sampler(settings, Origin(None, modes))
    equilibrium = modes.equilibrium.positions
    shifts = []
    for number in range(2 * len(modes.modes) + 1):
        frames = list(sampler.path(water, number, generator(1, number)))
        shift = frames[-1].positions - equilibrium
        assert len(frames) == 6
        assert np.linalg.norm(shift, axis=1).max() == pytest.approx(0.3)
        np.testing.assert_allclose(frames[2].positions - equilibrium, shift / 2, atol=1e-12)
        shifts.append(shift)
    np.testing.assert_allclose(shifts[0], -shifts[1])
    overlap = np.einsum("i,ix,ix", modes.masses_u, shifts[0], shifts[2])
    assert overlap == pytest.approx(0.0, abs=1e-8)
    # Without forces, and to the first frame that is uncertain.
    model = OfAtoms(lambda atoms: 0.0, unsure=lambda atoms: float(np.abs(atoms.positions - equilibrium).max()))
    found = walk(settings, model, [water], threshold=0.1, modes=modes)
    assert found.fates == ("uncertain",) and found.ends[0] < 5


def test_bonds_that_can_be_turned_are_those_of_chemistry():
    counts = {
        name: len(rotatable_bonds(molecule(name), 1.25)) for name in ("CH3CH2OH", "C6H6", "H2O", "H2O2", "C3H6_D3h")
    }
    assert counts == {"CH3CH2OH": 2, "C6H6": 0, "H2O": 0, "H2O2": 1, "C3H6_D3h": 0}
    butane = molecule("trans-butane")
    bonds = rotatable_bonds(butane, 1.25)
    assert len(bonds) == 3
    middle = next(bond for bond in bonds if len(bond[2]) == 7)
    assert not {middle[0]} & set(middle[2].tolist())


def test_torsion_scans_turn_a_bond_once_around_and_change_nothing_else():
    start = molecule("H2O2")
    section = TorsionScan(kind="torsions", points=8)
    frames = list(make_sampler(section, Origin(None)).path(start, 0, generator(0)))
    order = [2, 0, 1, 3]
    angles = np.array([atoms.get_dihedral(*order) for atoms in frames])
    np.testing.assert_allclose(np.diff(angles) % 360, np.full(7, np.diff(angles)[0] % 360), atol=1e-6)
    assert np.diff(angles)[0] % 360 in (pytest.approx(45.0), pytest.approx(315.0))
    for i, j in ((0, 1), (0, 2), (1, 3), (1, 2), (0, 3)):
        lengths = [atoms.get_distance(i, j) for atoms in frames]
        np.testing.assert_allclose(lengths, lengths[0], atol=1e-9)
    whole = turned(start, rotatable_bonds(start, 1.25)[0], 360.0)
    np.testing.assert_allclose(whole.positions, start.positions, atol=1e-9)
    with pytest.raises(QuarryError, match="H2O has no bond that can be turned"):
        list(make_sampler(section, Origin(None)).path(molecule("H2O"), 0, generator(0)))


# --- bands


def test_a_band_climbs_to_the_barrier_of_the_model(tmp_path):
    for name, length in (("one.xyz", 1.0), ("two.xyz", 2.0)):
        write(tmp_path / name, Atoms("N2", [[0, 0, 0], [0, 0, length]]))
    section = ElasticBand(kind="elastic_band", minima=["one.xyz", "two.xyz"], images=4, max_force_eV_A=0.01)
    assert section.count(100) == 1
    found = walk(section, OfAtoms(double_well), [DIATOMIC], base=tmp_path)
    assert found.fates == ("complete",) * 6
    lengths = [one.to_atoms().get_distance(0, 1) for one in found.structures]
    energies = [double_well(one.to_atoms()) for one in found.structures]
    assert max(energies) == pytest.approx(1.0, abs=1e-4)
    assert lengths[int(np.argmax(energies))] == pytest.approx(1.5, abs=2e-3)
    assert lengths == sorted(lengths)
    # Only images that are uncertain are candidates, at the first step where there are some.
    unsure = OfAtoms(double_well, unsure=lambda atoms: atoms.get_distance(0, 1))
    first = walk(section, unsure, [DIATOMIC], threshold=1.55, base=tmp_path)
    assert first.fates.count("uncertain") == 3 and set(first.ends.tolist()) == {0}


def test_minima_that_make_no_band_are_refused(tmp_path):
    write(tmp_path / "n2.xyz", DIATOMIC)
    write(tmp_path / "hoo.xyz", CHAIN)
    (tmp_path / "empty.xyz").write_text("")
    for minima, words in (
        (["n2.xyz", "hoo.xyz"], "hoo.xyz has other atoms than n2.xyz"),
        (["n2.xyz", "n2.xyz"], "n2.xyz is the structure before it"),
        (["n2.xyz", "empty.xyz"], r"minima: ASE cannot read \S+/empty.xyz"),
        (["n2.xyz", "absent.xyz"], r"absent.xyz does not exist"),
    ):
        with pytest.raises(QuarryError, match=words):
            make_sampler(ElasticBand(kind="elastic_band", minima=minima), Origin(tmp_path))


# --- conformers


def test_a_threefold_torsion_has_two_conformers():
    """At 60 and 300 degrees they are mirror images; at 180 there is the other one."""
    section = Conformers(kind="conformers", max_force_eV_A=0.01)
    facts = {**FACTS, "sampler": "conformers", "noun": Conformers.noun}
    found = walk(section, OfAtoms(threefold), [CHAIN] * 8, facts=facts)
    angles = np.array([one.to_atoms().get_dihedral(0, 1, 2, 3) for one in found.structures])
    assert np.abs((angles - 60.0 + 60.0) % 120.0 - 60.0).max() < 3.0
    assert len({round(angle / 60) for angle in angles}) > 1
    account = account_of([found])
    assert account["found"] == {"distinct_conformers": 2}
    assert words_of(account).endswith(", 2 distinct conformers")


# --- reactive trajectories


def reaction(tmp_path, atoms=DIATOMIC, **changes):
    write(tmp_path / "ts.xyz", atoms)
    settings = {"kind": "reaction", "transition_state": "ts.xyz", "breaking": [[0, 1]]}
    # Bonds of 1 and 2 Angstrom: 0.70 and 1.41 of the sum of the radii.
    return Reaction(**{**settings, "formed_within": 0.85, "broken_beyond": 1.25, **changes})


def test_pairs_of_a_barrier_without_recrossing_are_all_reactive(tmp_path):
    section = reaction(tmp_path)
    sampler, model = make_sampler(section, Origin(tmp_path)), OfAtoms(double_well)
    rngs = [generator(1, "pair", k) for k in range(20)]
    start = sampler.starts(model, 300.0, rngs)
    np.testing.assert_allclose(start.velocities[:2], -start.velocities[2:4])
    # Forward: the bond lengthens.
    assert (start.velocities[1::4, 2] - start.velocities[0::4, 2] > 0).all()
    course = Course(400, (300.0, 300.0), np.inf, 1e3, goal=sampler.goal)
    state = explore(model, start, VelocityVerlet(0.5), course, MEASURES["energy"], rngs)
    assert state.fates == [Fate.PRODUCTS, Fate.REACTANTS] * 10
    end = state.walkers
    potential = model.predict(end.structures, frozenset()).mean["energy"]
    np.testing.assert_allclose(end.kinetic_eV + potential, 1.0 + start.kinetic_eV, atol=5e-3)
    facts = {**FACTS, "sampler": "reaction", "noun": "trajectories"}
    fates = tuple(str(fate) for fate in (*state.fates, Fate.PRODUCTS, Fate.PRODUCTS, Fate.REACTANTS, Fate.UNCERTAIN))
    frames = StructureSet.from_structures([Structure.from_atoms(DIATOMIC)] * 24)
    whole = Trajectories(frames, fates, ("",) * 24, np.ones(24, dtype=int), np.ones(24), np.zeros((0, 3)), facts)
    account = account_of([whole])
    assert account["found"] == {
        "reactive_pairs": 10,
        "returned_pairs": 1,
        "unfinished_pairs": 1,
        "reactants": 11,
        "products": 12,
    }
    assert account["complete"] == 23


def test_the_energy_along_the_reaction_coordinate_is_that_of_those_that_cross(tmp_path):
    """Flux-weighted: p exp(-p^2 / 2 m k_B T), with the mean energy k_B T and the mean square (k_B T)^2 twice."""
    sampler = make_sampler(reaction(tmp_path), Origin(tmp_path))
    start = sampler.starts(OfAtoms(double_well), 500.0, [generator(2, k) for k in range(8000)])
    energies = start.kinetic_eV[::2] / (BOLTZMANN_EV_K * 500.0)
    assert energies.mean() == pytest.approx(1.0, rel=0.05)
    assert (energies**2).mean() == pytest.approx(2.0, rel=0.1)


def test_normal_modes_from_forces_are_those_of_ase(tmp_path):
    for name, count in (("H2O", 3), ("N2", 1)):
        atoms = molecule(name)
        atoms.calc = EMT()
        FIRE(atoms, logfile=None).run(fmax=1e-4, steps=2000)
        modes = modes_of(atoms)
        vibrations = Vibrations(atoms, name=str(tmp_path / name), delta=0.005)
        vibrations.run()
        expected = vibrations.get_frequencies().real[-count:]
        np.testing.assert_allclose(modes.frequencies_cm, expected, rtol=2e-3)
        modes.check("these", "none")


def test_a_transition_state_that_is_none_is_refused(tmp_path):
    n2 = molecule("N2")
    n2.calc = EMT()
    modes = modes_of(n2)
    modes.write(tmp_path / "modes.json")
    for changes, words in (
        ({"transition_state": "modes.json"}, "modes.json has 0 imaginary modes, and a transition state has one"),
        ({"breaking": [[0, 2]]}, "names an atom that ts.xyz has not"),
        ({"transition_state": "absent.xyz"}, r"absent.xyz does not exist"),
    ):
        with pytest.raises(QuarryError, match=words):
            make_sampler(reaction(tmp_path, **changes), Origin(tmp_path))
    saddle = replace(modes, frequencies_cm=-modes.frequencies_cm)
    saddle.write(tmp_path / "modes.json")
    sampler = make_sampler(reaction(tmp_path, transition_state="modes.json"), Origin(tmp_path))
    assert isinstance(sampler.modes, NormalModes)


def test_files_of_a_sampler_have_the_atoms_of_the_pool(tmp_path):
    given = stand_in_configuration(
        pool={
            "source": "dynamics",
            "initial": {"source": "file", "files": ["pool.extxyz"]},
            "explore": {"sampler": {"kind": "reaction", "transition_state": "ts.xyz", "breaking": [[0, 1]]}},
        },
        target="energy_forces",
        model={"kind": "kreg"},
    )
    configuration = load_configuration(given, "campaign.yaml")
    pool = StructureSet.from_structures([Structure.from_atoms(molecule("H2O"))])
    charged = molecule("H2O")
    charged.info.update(charge=1, multiplicity=2)
    for atoms, words in (
        (molecule("SH2"), "ts.xyz has S, which no structure of the pool has"),
        (molecule("H2O")[[1, 0, 2]], "ts.xyz has other atoms than the pool, or in another order"),
        (charged, "ts.xyz has charge 1 and multiplicity 2, which no structure"),
        (molecule("H2O"), ""),
    ):
        write(tmp_path / "ts.xyz", atoms, format="extxyz")
        if not words:
            check_sampler(configuration, tmp_path, pool)
            continue
        with pytest.raises(QuarryError, match=words):
            check_sampler(configuration, tmp_path, pool)


def test_a_molecule_without_a_bond_to_turn_is_refused_before_any_job(tmp_path):
    for kind in ("torsions", "conformers"):
        pool = {"source": "dynamics", "initial": {"source": "file", "files": ["a.xyz"]}, "explore": {"sampler": kind}}
        given = stand_in_configuration(pool=pool, target="energy_forces", model={"kind": "kreg"})
        configuration = load_configuration(given, "campaign.yaml")
        check_sampler(configuration, tmp_path, StructureSet.from_structures([Structure.from_atoms(CHAIN)]))
        with pytest.raises(QuarryError, match="H2O has no bond that can be turned; choose another sampler"):
            check_sampler(
                configuration, tmp_path, StructureSet.from_structures([Structure.from_atoms(molecule("H2O"))])
            )


def test_time_limits_are_no_part_of_the_identity():
    def identity(limit):
        explore = {"sampler": {"kind": "squeezed:Squeezed", "time_limit_s": limit}}
        pool = {"source": "dynamics", "initial": {"source": "file", "files": ["a.xyz"]}, "explore": explore}
        given = stand_in_configuration(pool=pool, target="energy_forces", model={"kind": "kreg"})
        return load_configuration(given, "campaign.yaml").identity()

    assert identity(5.0) == identity(50.0)
